import { Queue } from 'bullmq';
import { isTerminalJobState, type JobState } from '../model/words.js';
import { type Commands, isUnavailable } from './commands.js';
import { chunkItemId, deliveryItemId, directoryItemId, WEBHOOK_QUEUE } from './keys.js';
import type { DeliveryItem, NextItem, WorkItem } from './work.js';

/** BullMQ's largest priority. Chunks behind it share a place. */
const LAST_PRIORITY = 2 ** 21 - 1;
/** Per round trip, which is one transaction: some 5 ms of Redis, for which everybody else waits. */
const ITEMS_PER_CALL = 100;
/** BullMQ's score of an item is its priority times this, and what tells the order of arrival. */
const SCORE_OF_PRIORITY = 2 ** 32;
/** Queues kept open; one is an object without a connection of its own. */
const OPEN_QUEUES = 512;
/** BullMQ logs every event of a queue into a stream that nobody here reads. */
const EVENTS_KEPT = 100;

/** The BullMQ side: one queue per cache, items that carry only who they are. */
export class Queues {
  readonly #commands: Commands;
  readonly #open = new Map<string, Queue<WorkItem | DeliveryItem>>();

  constructor(commands: Commands) {
    this.#commands = commands;
  }

  /**
   * Gives BullMQ what of the job it has not been given. Can be called by several at a time and again after a crash:
   * the ids of items are fixed, and one that ran already finds nothing to do.
   */
  async handOver(jobId: string, queueName: string): Promise<void> {
    for (;;) {
      const [state, behind, chunks, chunksQueued, directories, directoriesQueued] =
        await this.#commands.redis.hmget(
          this.#commands.keys.job(jobId),
          'state',
          'behind',
          'chunks',
          'chunksQueued',
          'directories',
          'directoriesQueued',
        );
      const ended = !state || isTerminalJobState(state as JobState) || state === 'canceling';
      const nextDirectory = Number(directoriesQueued ?? 0);
      const nextChunk = Number(chunksQueued ?? 0);
      const items: WorkItem[] = [];
      if (!ended) {
        for (let i = nextDirectory; i < Number(directories) && items.length < ITEMS_PER_CALL; i++)
          items.push({ jobId, directory: i });
        for (let i = nextChunk; i < Number(chunks) && items.length < ITEMS_PER_CALL; i++)
          items.push({ jobId, chunk: i });
      }
      await this.add(queueName, items, Number(behind ?? 0));
      const newDirectories = items.filter((item) => 'directory' in item).length;
      const newChunks = items.length - newDirectories;
      await this.#commands.onJob(
        'wbEnqueued',
        jobId,
        queueName,
        nextChunk + newChunks,
        nextDirectory + newDirectories,
      );
      if (items.length < ITEMS_PER_CALL) return;
    }
  }

  /**
   * Items whose id BullMQ still has are left as they are.
   * @param behind jobs of the same principal that had not begun when theirs was submitted
   */
  async add(queueName: string, items: readonly WorkItem[], behind: number): Promise<void> {
    if (items.length === 0) return;
    await this.#use(queueName, (queue) =>
      queue.addBulk(
        items.map((item) => {
          const place = 'chunk' in item ? item.chunk : item.directory;
          return {
            name: 'chunk' in item ? 'chunk' : 'directory',
            data: item,
            opts: {
              jobId:
                'chunk' in item
                  ? chunkItemId(item.jobId, item.chunk)
                  : directoryItemId(item.jobId, item.directory),
              // The place in its own job, so that a small job beside a large one is not kept waiting, and behind the
              // jobs of its principal that have not begun, so that many small ones keep nobody else's waiting. Never without a
              // priority: BullMQ takes those before all others.
              priority: Math.min(behind + place + 1, LAST_PRIORITY),
              // What fails a chunk is decided here and not by BullMQ: it tries for ever.
              attempts: 1_000_000,
              backoff: { type: 'fixed', delay: 5000 },
              removeOnComplete: true,
              removeOnFail: true,
              stackTraceLimit: 1,
            },
          };
        }),
      ),
    );
  }

  /** Whose the item is that is next, and its priority; null: nothing waits. */
  async next(queueName: string): Promise<NextItem | null> {
    const key = this.#commands.keys.bullPrioritized(queueName);
    const [item, score] = await this.#commands.redis.zrange(key, '0', '0', 'WITHSCORES');
    if (item === undefined || score === undefined) return null;
    return {
      jobId: item.slice(0, item.lastIndexOf('-')),
      priority: Math.floor(Number(score) / SCORE_OF_PRIORITY),
    };
  }

  /** @param again also if it waits for its pause: then it does not any more */
  async addDelivery(item: DeliveryItem, again = false): Promise<void> {
    const id = deliveryItemId(item.jobId, item.event);
    await this.#use(WEBHOOK_QUEUE, async (queue) => {
      if (again) await queue.remove(id);
      await queue.add('delivery', item, {
        jobId: id,
        // How often and when it is tried stands in our record.
        attempts: 1_000_000,
        backoff: { type: 'fixed', delay: 5000 },
        removeOnComplete: true,
        removeOnFail: true,
        stackTraceLimit: 1,
      });
    });
  }

  /** Effective at once for what no worker has taken; chunks in work end or are handed back. */
  async setPaused(queueName: string, paused: boolean): Promise<void> {
    await this.#use(queueName, (queue) => (paused ? queue.pause() : queue.resume()));
  }

  async isPaused(queueName: string): Promise<boolean> {
    return this.#use(queueName, (queue) => queue.isPaused());
  }

  async hold(queueName: string, forMs: number): Promise<void> {
    await this.#use(queueName, (queue) => queue.rateLimit(forMs));
  }

  /** Ends what `hold` began. */
  async release(queueName: string): Promise<void> {
    await this.#use(queueName, (queue) => queue.removeRateLimitKey());
  }

  async endHold(queueName: string): Promise<void> {
    await this.#use(queueName, (queue) => queue.removeRateLimitKey());
  }

  /** One that a worker holds stays. */
  async removeItems(queueName: string, itemIds: readonly string[]): Promise<void> {
    if (itemIds.length > 0)
      await this.#use(queueName, (queue) => Promise.all(itemIds.map((id) => queue.remove(id))));
  }

  /** Deletes all that BullMQ keeps of a queue. */
  async remove(queueName: string): Promise<void> {
    await this.#use(queueName, (queue) => queue.obliterate({ force: true }));
    await this.#drop(queueName);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((name) => this.#drop(name)));
  }

  async #use<T>(queueName: string, work: (queue: Queue<WorkItem | DeliveryItem>) => Promise<T>): Promise<T> {
    let queue = this.#open.get(queueName);
    if (!queue) {
      queue = new Queue<WorkItem | DeliveryItem>(queueName, {
        connection: this.#commands.redis,
        prefix: this.#commands.keys.tag,
        skipWaitingForReady: true,
        skipVersionCheck: true,
        streams: { events: { maxLen: EVENTS_KEPT } },
      });
      queue.on('error', () => {});
      this.#open.set(queueName, queue);
      const [oldest] = this.#open.keys();
      if (this.#open.size > OPEN_QUEUES && oldest !== undefined) await this.#drop(oldest);
    }
    try {
      return await work(queue);
    } catch (error) {
      // A queue object that was opened while Redis was away may never recover.
      if (isUnavailable(error)) await this.#drop(queueName);
      throw error;
    }
  }

  async #drop(queueName: string): Promise<void> {
    const queue = this.#open.get(queueName);
    this.#open.delete(queueName);
    await queue?.close().catch(() => {});
  }
}
