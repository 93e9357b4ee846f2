import { CacheWork } from './cache-work.js';
import { ChunkWork } from './chunk-work.js';
import { Commands } from './commands.js';
import { connectForQueue, connectWaiting, disconnect, type QueueConnection } from './connect.js';
import { Subscriptions } from './events.js';
import { ExpansionWork } from './expansion-work.js';
import { Files } from './files.js';
import { Keys } from './keys.js';
import { Queues } from './queue.js';
import { readRegistry } from './registry.js';
import type { WorkStoreOptions } from './settings.js';
import { TransferWork } from './transfers.js';
import type { NextItem, QueueEntry } from './work.js';
import { queueOfOpenJob } from './work-job.js';

const RESYNC_MS = 15_000;
const ENDINGS_RECHECK_MS = 3000;

/**
 * The store as a worker uses it; one per process. All methods, also those of its parts, wait while Redis is away
 * (ioredis reconnects by itself) and reject after `close`.
 */
export class WorkStore {
  /** For BullMQ's `prefix`. */
  readonly bullPrefix: string;
  readonly chunks: ChunkWork;
  readonly expansions: ExpansionWork;
  /** What only agents need. */
  readonly transfers: TransferWork;
  readonly caches: CacheWork;
  readonly #options: WorkStoreOptions;
  readonly #commands: Commands;
  readonly #queues: Queues;
  readonly #subscriptions: Subscriptions;
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(options: WorkStoreOptions) {
    this.#options = options;
    const keys = new Keys(options.keyPrefix);
    this.bullPrefix = keys.tag;
    this.#commands = new Commands(connectWaiting(options.redis, 'writeback-work'), keys);
    this.#queues = new Queues(this.#commands);
    this.#subscriptions = new Subscriptions(options.redis);
    const files = new Files(this.#commands);
    this.chunks = new ChunkWork(this.#commands, files);
    this.expansions = new ExpansionWork(this.#commands, this.#queues, files, options);
    this.transfers = new TransferWork(this.#commands, this.#subscriptions, files);
    this.caches = new CacheWork(this.#commands, this.#queues);
  }

  /** The caller ends it. */
  newConnection(): QueueConnection {
    return connectForQueue(this.#options.redis, 'writeback-queue');
  }

  /** Calls `onChange` with all queues, at once and whenever one is added or removed. Returns what ends that. */
  watchQueues(onChange: (queues: QueueEntry[]) => void): () => void {
    let told = '';
    let ended = false;
    const read = async (): Promise<void> => {
      const queues = await readRegistry(this.#commands);
      const text = JSON.stringify(queues);
      if (ended || text === told) return;
      told = text;
      onChange(queues);
    };
    const look = (): void => {
      read().catch((error: unknown) => {
        if (!ended) this.#options.onError?.(error, 'reading the registry of queues');
      });
    };
    const unlisten = this.#subscriptions.listen(this.#commands.keys.registry, look, look);
    const stopLooking = this.#every(RESYNC_MS, look);
    look();
    return () => {
      ended = true;
      unlisten();
      stopLooking();
    };
  }

  /**
   * Calls `onEnd` when a job must stop early: canceled, expired or gone. May call more than once for a job. Messages
   * can be lost (Redis away), so the replies of `chunks.record` count as well.
   */
  watchEndings(onEnd: (jobId: string, why: 'canceled' | 'expired') => void): () => void {
    const tell = (jobId: string, why: string | null | undefined): void => {
      if (why === 'canceled' || why === 'expired') onEnd(jobId, why);
    };
    const { redis, keys } = this.#commands;
    let ended = false;
    const read = async (): Promise<void> => {
      for (const jobId of await redis.smembers(keys.ending)) {
        const why = await redis.hget(keys.job(jobId), 'ending');
        if (!ended) tell(jobId, why);
      }
    };
    // A message can be lost while Redis is away, and a worker whose flushes all hang records nothing for long.
    const look = (): void => {
      read().catch((error: unknown) => {
        if (!ended) this.#options.onError?.(error, 'looking for jobs that are ending');
      });
    };
    const unlisten = this.#subscriptions.listen(
      keys.endings,
      (message) => tell(message.split(' ')[0] ?? '', message.split(' ')[1]),
      look,
    );
    const stopLooking = this.#every(ENDINGS_RECHECK_MS, look);
    return () => {
      ended = true;
      unlisten();
      stopLooking();
    };
  }

  /** A sentence for the person who reads the job. Shown once per code; counts add up. */
  async warn(jobId: string, code: string, message: string, count: number | null): Promise<void> {
    const queue = await queueOfOpenJob(this.#commands, jobId);
    if (queue !== null) await this.#commands.onJob('wbWarn', jobId, queue, code, message, count ?? '');
  }

  /** Tells the newest fault of a job that goes on nevertheless: `statusDetail`. Null clears it. */
  async setStatusDetail(jobId: string, detail: string | null): Promise<void> {
    const queue = await queueOfOpenJob(this.#commands, jobId);
    if (queue !== null) await this.#commands.onJob('wbSetDetail', jobId, queue, detail ?? '');
  }

  /** Null: nothing waits in the queue. */
  nextItem(queue: string): Promise<NextItem | null> {
    return this.#queues.next(queue);
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers.clear();
    this.#subscriptions.close();
    await this.#queues.close();
    disconnect(this.#commands.redis);
  }

  #every(ms: number, work: () => void): () => void {
    const timer = setInterval(work, ms);
    timer.unref();
    this.#timers.add(timer);
    return () => {
      clearInterval(timer);
      this.#timers.delete(timer);
    };
  }
}
