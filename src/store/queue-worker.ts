import { type Job, Worker } from 'bullmq';
import type { QueueConnection } from './connect.js';

/** BullMQ gives up an item without a word after so many stalls; what becomes of one is decided by the record. */
const MAX_STALLED_COUNT = 1_000_000;
/** After a fault of Redis. */
const RETRY_MS = 1000;
/** How soon a held queue is looked at again: nothing wakes a worker when the hold is ended early. */
const HELD_POLL_MS = 1000;
/** BullMQ obeys `caches.hold` only in workers that have a rate limit; this one never bites by itself. */
const NO_LIMIT = { max: 1_000_000_000, duration: 1000 } as const;

export interface QueueWorkerOptions {
  /** Shared by all queues of a process; the blocking one is made from it. */
  connection: QueueConnection['redis'];
  /** Of BullMQ's keys. */
  bullPrefix: string;
  queue: string;
  /** Items in hand at a time. */
  concurrency: number;
  /** A process that does not move for so long loses its items … */
  lockMs: number;
  /** … at the next look of another one. */
  stalledCheckMs: number;
  /** How soon an idle queue is looked at again although nothing woke this process. */
  idlePollMs: number;
  /** True: it stands still while its cache is held. */
  canBeHeld: boolean;
}

/** Takes items from a BullMQ queue. One that has run leaves nothing there: what came of it stands in the record of its job. */
export function startQueueWorker<Item>(
  options: QueueWorkerOptions,
  work: (item: Job<Item>, token: string | undefined) => Promise<void>,
): Worker<Item> {
  return new Worker<Item>(options.queue, work, {
    connection: options.connection,
    prefix: options.bullPrefix,
    concurrency: options.concurrency,
    lockDuration: options.lockMs,
    stalledInterval: options.stalledCheckMs,
    maxStalledCount: MAX_STALLED_COUNT,
    ...(options.canBeHeld && { limiter: { ...NO_LIMIT }, maximumRateLimitDelay: HELD_POLL_MS }),
    drainDelay: options.idlePollMs / 1000,
    runRetryDelay: RETRY_MS,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 },
    skipVersionCheck: true,
  });
}
