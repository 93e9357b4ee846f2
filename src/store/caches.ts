import type { CacheConfig, CacheLimits } from '../model/cache.js';
import { BrokerError } from '../model/errors.js';
import type { Cache, CacheHistory } from '../model/job.js';
import type { Commands } from './commands.js';
import { proofField } from './dialect-proof.js';
import { cacheHistory, HISTORY_FIELDS } from './history.js';
import { queueName } from './keys.js';
import { slotsLeased } from './leases.js';
import { limitsInForce } from './limits.js';
import type { Queues } from './queue.js';
import { readRegistry } from './registry.js';
import { countServers } from './serving.js';
import { holdCode } from './waiting.js';
import type { CacheQueue } from './work.js';

interface KnownCache {
  queue: string;
  config: CacheConfig;
  configured: boolean;
}

/** What is shown and changed of caches: health, load, pause, limits, the last hour. */
export class Caches {
  readonly #commands: Commands;
  readonly #queues: Queues;
  #configured: readonly CacheConfig[];

  constructor(commands: Commands, queues: Queues, configured: readonly CacheConfig[]) {
    this.#commands = commands;
    this.#queues = queues;
    this.#configured = configured;
  }

  reconfigure(configured: readonly CacheConfig[]): void {
    this.#configured = configured;
  }

  async list(): Promise<Cache[]> {
    const configured = this.#configured.map((config) => this.#known(config, true));
    const adHoc = (await readRegistry(this.#commands)).flatMap((owner) =>
      owner.kind === 'cache' && owner.adHocCache
        ? [this.#known({ ...owner.adHocCache, name: owner.cache }, false)]
        : [],
    );
    return Promise.all([...configured, ...adHoc].map((known) => this.#show(known)));
  }

  async get(name: string): Promise<Cache> {
    return this.#show(await this.#find(name));
  }

  async history(name: string): Promise<CacheHistory> {
    const { queue } = await this.#find(name);
    const { redis, keys } = this.#commands;
    // Redis counts minutes by its own clock.
    const [seconds, values] = await Promise.all([
      redis.time().then(([seconds]) => Number(seconds)),
      redis.hmget(keys.cache(queue), ...HISTORY_FIELDS),
    ]);
    return cacheHistory(values, seconds * 1000);
  }

  async setPaused(name: string, paused: boolean, reason: string): Promise<Cache> {
    const known = await this.#find(name);
    // Our record first: should the second step fail, the sweeper makes BullMQ follow it.
    await this.#commands.onCache('wbPause', known.queue, [], paused ? '1' : '0', reason);
    await this.#queues.setPaused(known.queue, paused);
    return this.#show(known);
  }

  /** @param change null: back to the configuration; what is not in it stays as it is */
  async setLimits(name: string, change: Partial<CacheLimits> | null): Promise<Cache> {
    const known = await this.#find(name);
    const { inFlight = '=', filesPerSecond = '=' } = change ?? {};
    const wanted = change === null ? ['reset'] : [inFlight, filesPerSecond ?? ''];
    await this.#commands.onCache('wbLimits', known.queue, [], ...wanted);
    return this.#show(known);
  }

  #known(config: CacheConfig, configured: boolean): KnownCache {
    return { queue: queueName(config.name, !configured), config, configured };
  }

  async #find(name: string): Promise<KnownCache> {
    const config = this.#configured.find((cache) => cache.name === name);
    if (config) return this.#known(config, true);
    const queue = queueName(name, true);
    const json = await this.#commands.redis.hget(this.#commands.keys.queues, queue);
    const adHoc = json ? (JSON.parse(json) as CacheQueue).adHocCache : null;
    if (!adHoc) throw new BrokerError('CACHE_NOT_FOUND', `There is no cache "${name}".`);
    return { queue, config: { ...adHoc, name }, configured: false };
  }

  async #show({ queue, config, configured }: KnownCache): Promise<Cache> {
    const { redis, keys } = this.#commands;
    const [workers, row, leases] = await Promise.all([
      countServers(this.#commands, queue),
      redis.hgetall(keys.cache(queue)),
      redis.hvals(keys.leases(queue)),
    ]);
    const paused = row.paused === '1';
    return {
      name: config.name,
      configured,
      dialect: config.dialect,
      addresses: config.addresses,
      exports: config.exports,
      health: row.health === 'up' || row.health === 'down' ? row.health : 'unknown',
      healthDetail: row.healthDetail || null,
      dialectProven: row[proofField(config)] !== undefined,
      circuit: circuitOf(row, Date.now()),
      paused,
      pausedReason: (paused && row.pausedReason) || null,
      slotsLeased: slotsLeased(leases, Date.now()),
      limits: limitsInForce(row, config.limits),
      limitsConfigured: config.limits,
      workers,
      filesQueued: Number(row.filesQueued ?? 0),
      filesActive: Number(row.filesActive ?? 0),
      jobsActive: Number(row.jobsActive ?? 0),
    };
  }
}

/** A hold is an open circuit, whatever its reason; once its pause is over the next files find out whether it ends. */
function circuitOf(row: Readonly<Record<string, string>>, now: number): Cache['circuit'] {
  const { holdSince, holdUntil, holdTries, holdDetail = '' } = row;
  if (holdSince === undefined || holdUntil === undefined) {
    return { state: 'closed', code: null, reason: null, since: null, retryAt: null, tries: 0 };
  }
  return {
    state: Number(holdUntil) > now ? 'open' : 'half-open',
    code: holdCode(row.holdCode),
    reason: holdDetail,
    since: new Date(Number(holdSince)).toISOString(),
    retryAt: new Date(Number(holdUntil)).toISOString(),
    tries: Number(holdTries ?? 1),
  };
}
