import { connectFailingFast, type RedisTarget, untilReady } from './connect.js';
import { checkHealth } from './health.js';
import { untilRedisAnswers } from './startup.js';

export interface StoreExamination {
  version: string;
  /** Of the fastest of several PINGs. */
  roundTripMs: number;
  /** What is set, in words, e.g. `appendonly yes`; what cannot be read is missing. */
  settings: string[];
  /** What makes it less durable than it should be, and what to do. */
  warnings: string[];
}

const ROUND_TRIPS = 5;

/** @throws {Error} whose message says which Redis and what is wrong with it */
export async function examineStore(
  target: RedisTarget,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<StoreExamination> {
  const health = await untilRedisAnswers(target, timeoutMs, signal);
  if (!health.ok) throw new Error(health.warnings.join(' '));
  const redis = connectFailingFast(target, 'writeback-doctor');
  try {
    await untilReady(redis, timeoutMs);
    let roundTripMs = Number.POSITIVE_INFINITY;
    for (let i = 0; i < ROUND_TRIPS; i++) {
      const askedAt = performance.now();
      await redis.ping();
      roundTripMs = Math.min(roundTripMs, performance.now() - askedAt);
    }
    const info = await redis.info();
    const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
    const settings = [
      `appendonly ${field('aof_enabled') === '1' ? 'yes' : 'no'}`,
      ...(field('maxmemory_policy') ? [`maxmemory-policy ${field('maxmemory_policy')}`] : []),
      ...(field('used_memory_human') ? [`${field('used_memory_human')} in use`] : []),
    ];
    const { warnings } = await checkHealth(redis);
    return { version: field('redis_version') ?? 'of unknown version', roundTripMs, settings, warnings };
  } finally {
    redis.disconnect();
  }
}
