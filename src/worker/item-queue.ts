import { DelayedError, type Job, RateLimitError, Worker } from 'bullmq';
import type { Logger } from 'pino';
import { HandBack } from '../flush/engine.js';
import type { QueueConnection } from '../store/connect.js';
import { WORKER_LIMITER } from '../store/queue.js';
import type { WorkItem, WorkStore } from '../store/work.js';
import { JobEnded } from './endings.js';

/** A chunk or directory in hand. */
export interface ActiveItem {
  itemId: string;
  jobId: string;
  data: WorkItem;
  /** How often a worker died with it in hand. */
  stalls: number;
  /** Aborted with JobEnded, or with HandBack: it is to go back to the queue. */
  abort: AbortController;
}

export interface ItemQueueOptions {
  store: Pick<WorkStore, 'bullPrefix'>;
  /** Shared by all queues of a process; the blocking one is made from it. */
  connection: QueueConnection['redis'];
  queue: string;
  /** Items in hand at a time. */
  concurrency: number;
  /** A process that does not move for so long loses its items … */
  lockMs: number;
  /** … at the next look of another one. */
  stalledCheckMs: number;
  /** An item whose worker died more often is given up, by `work`. */
  maxStalls: number;
  /** How soon an idle queue is looked at again although nothing woke this process. */
  idlePollMs: number;
  log: Logger;
  work(item: ActiveItem): Promise<ItemFate>;
}

/** It is done, it has to run again, at once or after a while, or when the queue is no longer held. What throws is tried again later. */
export type ItemFate = 'done' | 'again' | { afterMs: number } | 'held';

/** How soon a directory is looked at again that has to wait for others of its job to be expanded. */
export const OTHERS_PAUSE_MS = 300;

/** BullMQ gives up an item without a word after so many stalls; what happens then is decided by `work`. */
const MAX_STALLED_COUNT = 1_000_000;
/** An item that saw its worker die this often may be the cause. */
const SUSPECT_STALLS = 2;
const SUSPECT_SPREAD_MS = 5000;
/** How soon a held queue is looked at again: nothing wakes a worker when the hold is ended early. */
const HELD_POLL_MS = 1000;
/** After a fault of Redis. */
const RETRY_MS = 1000;

/** Takes items from one BullMQ queue and gives back what this process may not or can not go on with. */
export class ItemQueue {
  readonly #options: ItemQueueOptions;
  readonly #bull: Worker<WorkItem>;
  readonly #items = new Set<ActiveItem>();
  readonly #whenEmpty: (() => void)[] = [];
  #draining = false;

  constructor(options: ItemQueueOptions) {
    this.#options = options;
    const { store, connection, queue, concurrency, lockMs, stalledCheckMs, idlePollMs, log } = options;
    this.#bull = new Worker<WorkItem>(queue, (job, token) => this.#process(job, token), {
      connection,
      prefix: store.bullPrefix,
      concurrency,
      lockDuration: lockMs,
      stalledInterval: stalledCheckMs,
      maxStalledCount: MAX_STALLED_COUNT,
      limiter: { ...WORKER_LIMITER },
      maximumRateLimitDelay: HELD_POLL_MS,
      drainDelay: idlePollMs / 1000,
      runRetryDelay: RETRY_MS,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
      skipVersionCheck: true,
    });
    this.#bull.on('error', (error) => {
      // Each of many connections tells of each of many attempts; that Redis is away is told once, elsewhere.
      const level = 'code' in error || connection.status !== 'ready' ? 'debug' : 'warn';
      log[level]({ err: error }, 'queue');
    });
    this.#bull.on('lockRenewalFailed', (itemIds) => {
      // Somebody else has it by now, or will soon.
      for (const item of this.#items) {
        if (itemIds.includes(item.itemId)) item.abort.abort(new HandBack('its lock was lost'));
      }
    });
  }

  get items(): ReadonlySet<ActiveItem> {
    return this.#items;
  }

  /** It takes no more items. */
  get isDraining(): boolean {
    return this.#draining;
  }

  endJob(jobId: string, why: 'canceled' | 'expired'): void {
    for (const item of this.#items) if (item.jobId === jobId) item.abort.abort(new JobEnded(why));
  }

  /** Takes no more items; those in hand go on. Waits for Redis, never rejects. */
  async stopTaking(): Promise<void> {
    this.#draining = true;
    await this.#bull.pause(true).catch((error: unknown) => this.#options.log.warn({ err: error }, 'queue'));
  }

  handBackAll(): void {
    for (const { abort } of this.#items) abort.abort(new HandBack());
  }

  /** Resolves when nothing is in hand. */
  async empty(): Promise<void> {
    if (this.#items.size > 0) await new Promise<void>((resolve) => this.#whenEmpty.push(resolve));
  }

  /** Waits for Redis: its caller has a deadline. Never rejects. */
  async close(): Promise<void> {
    this.#draining = true;
    this.handBackAll();
    await this.#bull.close().catch((error: unknown) => this.#options.log.warn({ err: error }, 'queue'));
  }

  async #process(job: Job<WorkItem>, token: string | undefined): Promise<void> {
    const { maxStalls, log, work } = this.#options;
    if (this.#draining) return this.#giveBack(job, token, 0);
    const stalls = job.stalledCounter;
    if (stalls >= SUSPECT_STALLS && stalls <= maxStalls && job.progress !== stalls) {
      // An item that kills its worker takes its neighbours along. Apart in time, they get through and it alone is left.
      await job.updateProgress(stalls);
      return this.#giveBack(job, token, Math.random() * SUSPECT_SPREAD_MS * stalls);
    }
    const item: ActiveItem = {
      itemId: job.id ?? '',
      jobId: job.data.jobId,
      data: job.data,
      stalls,
      abort: new AbortController(),
    };
    this.#items.add(item);
    try {
      const fate = await work(item);
      if (fate === 'held') throw new RateLimitError();
      if (fate !== 'done') await this.#giveBack(job, token, fate === 'again' ? 0 : fate.afterMs);
    } catch (error) {
      const intentional = error instanceof DelayedError || error instanceof RateLimitError;
      if (!intentional)
        log.error({ err: error, job: item.jobId, item: item.itemId }, 'an item is tried again');
      throw error;
    } finally {
      this.#items.delete(item);
      if (this.#items.size === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve();
    }
  }

  /**
   * Back to the queue, for any worker. As a delayed item and not a waiting one: BullMQ wakes no idle worker for an item
   * with a priority that goes from active to waiting.
   */
  async #giveBack(job: Job<WorkItem>, token: string | undefined, delayMs: number): Promise<never> {
    await job.moveToDelayed(Date.now() + delayMs, token);
    throw new DelayedError();
  }
}
