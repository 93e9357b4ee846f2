import type { ChainableCommander } from 'ioredis';
import type { CacheConfig } from '../model/cache.js';
import { Commands, guarded } from './commands.js';
import { connectFailingFast, disconnect } from './connect.js';
import { addCounters, type Counters, noCounters } from './counters.js';
import { proofField } from './dialect-proof.js';
import { checkHealth } from './health.js';
import { timeOfId } from './job-id.js';
import { Keys, queueName } from './keys.js';
import { slotsLeased } from './leases.js';
import { limitsInForce } from './limits.js';
import { type NodeGauges, readNodeGauges } from './node-gauges.js';
import { readRegistry } from './registry.js';
import { SERVER_SILENT_MS } from './serving.js';
import type { StoreOptions } from './settings.js';
import { readWebhookGauges, type WebhookGauges } from './webhook-gauges.js';

/** What can be measured about one cache, or about all addresses that are no configured cache together. */
export interface CacheGauges extends Counters {
  /** Null: all addresses that requests named, together. */
  cache: string | null;
  filesPending: number;
  filesActive: number;
  jobsActive: number;
  /** How long ago the job was made whose chunk is next in the queue; 0: nothing waits. */
  nextJobAgeMs: number;
  /** Slots that workers hold, over all of them. */
  slotsLeased: number;
  slotsLimit: number;
  /** Running workers that serve it. */
  workers: number;
  /** Null: nothing was asked of it yet. */
  up: boolean | null;
  held: boolean;
  paused: boolean;
  dialectProven: boolean;
}

export interface StoreGauges {
  ok: boolean;
  /** Of one round trip; null if there was no answer. */
  roundTripMs: number | null;
  /** How many things make it less durable than it should be. */
  warnings: number;
}

export interface GaugeReader {
  /** Never throws. */
  store(): Promise<StoreGauges>;
  /** One small read per cache. @throws {BrokerError} STORE_UNAVAILABLE */
  caches(): Promise<CacheGauges[]>;
  /** One small read per node. @throws {BrokerError} STORE_UNAVAILABLE */
  nodes(): Promise<NodeGauges[]>;
  /** @throws {BrokerError} STORE_UNAVAILABLE */
  webhooks(): Promise<WebhookGauges>;
  /** The configured caches from now on. */
  reconfigure(caches: readonly CacheConfig[]): void;
  close(): void;
}

/** Caches read in one round trip. */
const CACHES_PER_READ = 100;

/** On a connection of its own that fails fast: a measurement that waits for Redis is worth nothing. */
export function openGaugeReader(options: StoreOptions & { caches: readonly CacheConfig[] }): GaugeReader {
  const commands = new Commands(
    connectFailingFast(options.redis, 'writeback-gauges'),
    new Keys(options.keyPrefix),
  );
  const { redis, keys } = commands;
  let configured = options.caches;

  async function store(): Promise<StoreGauges> {
    const askedAt = performance.now();
    const roundTripMs = await redis.ping().then(
      () => performance.now() - askedAt,
      () => null,
    );
    if (roundTripMs === null) return { ok: false, roundTripMs, warnings: 0 };
    const { ok, warnings } = await checkHealth(redis);
    return { ok, roundTripMs, warnings: warnings.length };
  }

  async function caches(): Promise<CacheGauges[]> {
    const wanted = configured.map((config) => ({
      queue: queueName(config.name, false),
      name: config.name as string | null,
      config,
    }));
    for (const owner of await readRegistry(commands)) {
      if (owner.kind !== 'cache' || !owner.adHocCache) continue;
      wanted.push({ queue: owner.queue, name: null, config: owner.adHocCache });
    }
    const gauges: CacheGauges[] = [];
    const addresses = noGauges(null);
    addCounters(addresses, await redis.hgetall(keys.goneAddresses));
    for (let i = 0; i < wanted.length; i += CACHES_PER_READ) {
      const group = wanted.slice(i, i + CACHES_PER_READ);
      const pipeline = redis.pipeline();
      for (const { queue } of group) readCache(pipeline, queue);
      const replies = (await pipeline.exec()) ?? [];
      group.forEach(({ name, config }, at) => {
        const own = name === null ? addresses : noGauges(name);
        addCache(own, config, replies.slice(at * COMMANDS_PER_CACHE, (at + 1) * COMMANDS_PER_CACHE));
        if (name !== null) gauges.push(own);
      });
    }
    return [...gauges, addresses];
  }

  function readCache(pipeline: ChainableCommander, queue: string): void {
    pipeline
      .hgetall(keys.cache(queue))
      .zrange(keys.bullPrioritized(queue), '0', '0')
      .hvals(keys.leases(queue))
      .zcount(keys.servers(queue), Date.now() - SERVER_SILENT_MS, '+inf');
  }

  return {
    store,
    caches: () => guarded(caches),
    reconfigure: (wanted) => {
      configured = wanted;
    },
    nodes: () => guarded(() => readNodeGauges(commands, Date.now())),
    webhooks: () => guarded(() => readWebhookGauges(commands, Date.now())),
    close: () => disconnect(redis),
  };
}

const COMMANDS_PER_CACHE = 4;

function addCache(gauges: CacheGauges, config: CacheConfig, replies: [Error | null, unknown][]): void {
  for (const [error] of replies) if (error) throw error;
  const [row, next, leases, workers] = replies.map(([, reply]) => reply) as [
    Record<string, string>,
    string[],
    string[],
    number,
  ];
  const now = Date.now();
  gauges.slotsLimit += limitsInForce(row, config.limits).inFlight;
  gauges.filesPending += Number(row.filesQueued ?? 0);
  gauges.filesActive += Number(row.filesActive ?? 0);
  gauges.jobsActive += Number(row.jobsActive ?? 0);
  const madeAt = timeOfId(next[0] ?? '');
  if (madeAt !== null) gauges.nextJobAgeMs = Math.max(gauges.nextJobAgeMs, now - madeAt);
  gauges.slotsLeased += slotsLeased(leases, now);
  gauges.workers = Math.max(gauges.workers, workers);
  if (row.health === 'down') gauges.up = false;
  else if (row.health === 'up') gauges.up ??= true;
  gauges.held ||= row.holdTries !== undefined;
  gauges.paused ||= row.paused === '1';
  gauges.dialectProven ||= row[proofField(config)] !== undefined;
  addCounters(gauges, row);
}

function noGauges(cache: string | null): CacheGauges {
  return {
    cache,
    filesPending: 0,
    filesActive: 0,
    jobsActive: 0,
    nextJobAgeMs: 0,
    slotsLeased: 0,
    slotsLimit: 0,
    workers: 0,
    up: null,
    held: false,
    paused: false,
    dialectProven: false,
    ...noCounters(),
  };
}
