import { storeError } from './commands.js';
import type { Connection } from './connect.js';
import type { StoreHealth } from './types.js';

const OLDEST_VERSION = [6, 2] as const;

/** Whether Redis answers, and what of its configuration makes an accepted job less durable than it should be. Never throws. */
export async function checkHealth(redis: Connection): Promise<StoreHealth> {
  let info: string;
  try {
    // INFO is answered, and let through by ioredis, also while Redis still reads its data; PING is neither.
    await redis.ping();
    info = await redis.info();
  } catch (error) {
    return { ok: false, warnings: [storeError(error).message] };
  }
  // Answers PING, refuses every write: the wrong address, or a primary that was demoted.
  if (field(info, 'role') === 'slave' && field(info, 'slave_read_only') === '1') {
    return { ok: false, warnings: ['Redis is a read-only replica. Give the address of the primary.'] };
  }
  if (field(info, 'redis_mode') === 'cluster' && !redis.isCluster) {
    return { ok: false, warnings: ['Redis is a node of a Cluster. Set "redis.cluster: true".'] };
  }
  const warnings: string[] = [];
  const version = field(info, 'redis_version') ?? '0';
  if (isOlder(version)) {
    warnings.push(
      `Redis ${version} is older than ${OLDEST_VERSION.join('.')}, the oldest that is supported.`,
    );
  }
  if (field(info, 'aof_enabled') !== '1') {
    warnings.push('Redis has no append-only file: a restart of Redis loses jobs. Set "appendonly yes".');
  } else {
    if (field(info, 'aof_last_write_status') === 'err') {
      warnings.push('Redis cannot write its append-only file. See its log, and the free space of its disk.');
    }
    const fsync = await setting(redis, 'appendfsync');
    if (fsync === undefined) {
      warnings.push('The fsync policy of Redis cannot be read (CONFIG is not allowed).');
    } else if (fsync !== 'always') {
      warnings.push(
        `Redis has "appendfsync ${fsync}": a power loss can lose jobs that were accepted ${fsync === 'everysec' ? 'in the last second' : 'before the last flush'}. Set "appendfsync always".`,
      );
    }
  }
  const policy = field(info, 'maxmemory_policy') ?? (await setting(redis, 'maxmemory-policy'));
  if (policy !== undefined && policy !== 'noeviction') {
    warnings.push(
      `Redis has "maxmemory-policy ${policy}" and may throw jobs away when it is full. Set "maxmemory-policy noeviction".`,
    );
  }
  return { ok: true, warnings };
}

/** Undefined where the command is not allowed, as with hosted services. */
async function setting(redis: Connection, name: string): Promise<string | undefined> {
  try {
    const reply: unknown = await redis.config('GET', name);
    if (Array.isArray(reply)) return reply[1] === undefined ? undefined : String(reply[1]);
    const value = (reply as Record<string, unknown>)[name];
    return value === undefined ? undefined : String(value);
  } catch {
    return undefined;
  }
}

function field(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major < OLDEST_VERSION[0] || (major === OLDEST_VERSION[0] && minor < OLDEST_VERSION[1]);
}
