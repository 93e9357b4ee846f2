import { DelayedError, type Job, RateLimitError, type Worker } from 'bullmq';
import type { Logger } from 'pino';
import { HandBack } from '../flush/engine.js';
import { type QueueWorkerOptions, startQueueWorker } from '../store/queue-worker.js';
import type { WorkItem } from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';
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
  /** Aborted when it keeps another job's item waiting: what of it has not begun is to go back to the queue. */
  leave: AbortController;
  /** The lowest is taken first. */
  priority: number;
  /** performance.now() */
  takenAt: number;
}

export interface ItemQueueOptions extends Omit<QueueWorkerOptions, 'bullPrefix' | 'canBeHeld'> {
  store: Pick<WorkStore, 'bullPrefix' | 'nextItem'>;
  /** An item whose worker died more often is given up, by `work`. */
  maxStalls: number;
  log: Logger;
  work(item: ActiveItem): Promise<ItemFate>;
}

/** It is done, it has to run again, at once or after a while, or when the queue is no longer held. What throws is tried again later. */
export type ItemFate = 'done' | 'again' | { afterMs: number } | 'held';

/** How soon a directory is looked at again that has to wait for others of its job to be expanded. */
export const OTHERS_PAUSE_MS = 300;

/** An item that saw its worker die this often may be the cause. */
const SUSPECT_STALLS = 2;
const SUSPECT_SPREAD_MS = 5000;
/** How often it is looked at whether an item in hand keeps another job's waiting. One that was taken since then does not. */
const LOOK_AHEAD_MS = 1000;

/** Takes items from one BullMQ queue and gives back what this process may not or can not go on with. */
export class ItemQueue {
  readonly #options: ItemQueueOptions;
  readonly #bull: Worker<WorkItem>;
  readonly #items = new Set<ActiveItem>();
  readonly #whenEmpty: (() => void)[] = [];
  readonly #lookAhead: NodeJS.Timeout;
  #draining = false;

  constructor(options: ItemQueueOptions) {
    this.#options = options;
    const { store, connection, log } = options;
    this.#bull = startQueueWorker<WorkItem>(
      { ...options, bullPrefix: store.bullPrefix, canBeHeld: true },
      (job, token) => this.#process(job, token),
    );
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
    this.#lookAhead = setInterval(() => void this.#makeRoom(), LOOK_AHEAD_MS).unref();
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
    clearInterval(this.#lookAhead);
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
    clearInterval(this.#lookAhead);
    this.handBackAll();
    await this.#bull.close().catch((error: unknown) => this.#options.log.warn({ err: error }, 'queue'));
  }

  /**
   * With slow files an item is in hand for minutes, and all places may be taken by one job. If an item of another job
   * comes before what is in hand, the last of that leaves; one at each look, so that it is no more than need be.
   */
  async #makeRoom(): Promise<void> {
    const { store, queue, concurrency, log } = this.#options;
    if (this.#items.size < concurrency) return;
    try {
      const next = await store.nextItem(queue);
      if (next === null || this.#items.size < concurrency) return;
      const since = performance.now() - LOOK_AHEAD_MS;
      let last: ActiveItem | null = null;
      for (const item of this.#items) {
        if (item.jobId === next.jobId || item.priority <= next.priority) continue;
        if (item.takenAt > since || item.leave.signal.aborted) continue;
        if (last === null || item.priority > last.priority) last = item;
      }
      if (last === null) return;
      log.debug(
        { job: last.jobId, item: last.itemId, for: next.jobId },
        'an item makes room for another job',
      );
      last.leave.abort(new HandBack('another job comes before it'));
    } catch (error) {
      log.debug({ err: error }, 'looking what is next in the queue');
    }
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
      leave: new AbortController(),
      priority: job.priority,
      takenAt: performance.now(),
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
