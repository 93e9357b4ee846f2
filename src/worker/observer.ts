import type { FileErrorCode } from '../model/errors.js';
import type { FileResult } from '../model/file-result.js';

/**
 * What a worker tells those who measure it. `cache` is the name of a configured cache, or null for an address that a
 * request named: there may be any number of these. Must not throw.
 */
export interface WorkObserver {
  fileEnded(cache: string | null, result: FileResult): void;
  /** A chunk or directory left this worker. */
  itemLeft(cache: string | null, how: ItemEnd): void;
  /** A call was answered; `procedure` is like `NFS3 COMMIT`. */
  replied(cache: string | null, procedure: string, roundTripMs: number): void;
  retried(cache: string | null, code: FileErrorCode): void;
}

/** `returned`: to the queue. `held`: to the queue, because the cache does not answer. */
export const ITEM_ENDS = ['done', 'returned', 'held', 'failed'] as const;
export type ItemEnd = (typeof ITEM_ENDS)[number];

/** What one process has in hand of a cache now. */
export interface CacheLoad {
  cache: string | null;
  itemsInHand: number;
  /** Mounted exports. */
  sessions: number;
  connections: number;
  /** Flushes outstanding on the cache. */
  outstanding: number;
  /** Files that could begin but wait for a slot or for the rate. */
  waiting: number;
}
