import type { CacheConfig } from '../model/cache.js';
import type { RedisTarget } from './connect.js';

/** What every part of the store is opened with. */
export interface StoreOptions {
  redis: RedisTarget;
  /** Letters, digits, `_`, `.`, `-`. Services that share a Redis differ in it. */
  keyPrefix: string;
  /** What goes wrong in the background, where no caller can be told. */
  onError?: (error: unknown, doing: string) => void;
}

export interface JobStoreOptions extends StoreOptions {
  /** The configured caches. */
  caches: readonly CacheConfig[];
  /** How long an ended job is kept. Default 7 days. */
  retentionMs?: number;
  /** How long an idempotency key is remembered. Default 24 h. */
  idempotencyMs?: number;
  /** How long the key of a request that is still arriving outlives its process. Default 30 s. */
  idempotencyLeaseMs?: number;
}

export interface WorkStoreOptions extends StoreOptions {
  /** Most files of one job, expanded directories included. Default 10 million. */
  filesPerJob?: number;
}

export interface SweeperOptions extends StoreOptions {
  /** How long a deleted job is told to be gone before it is unknown. Default 30 days. */
  goneMs?: number;
  /** Between rounds. Default 2 s. */
  intervalMs?: number;
  /** An item is given to BullMQ again when its job has not moved for so long and BullMQ does not know it. Default 30 s. */
  lostAfterMs?: number;
  /** How long a node is remembered that has neither agent nor jobs. Default a day. */
  forgetNodesMs?: number;
}

export const DEFAULT_RETENTION_MS = 7 * 24 * 3600_000;
export const DEFAULT_IDEMPOTENCY_MS = 24 * 3600_000;
export const DEFAULT_IDEMPOTENCY_LEASE_MS = 30_000;
export const DEFAULT_FORGET_NODES_MS = 24 * 3600_000;
export const DEFAULT_GONE_MS = 30 * 24 * 3600_000;
export const DEFAULT_FILES_PER_JOB = 10_000_000;
