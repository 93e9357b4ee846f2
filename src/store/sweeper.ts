import { randomUUID } from 'node:crypto';
import type { WebhookEvent } from '../model/words.js';
import { CHUNK_FILES } from './chunk-codec.js';
import { Commands, isUnavailable } from './commands.js';
import { connectFailingFast, disconnect } from './connect.js';
import { STATE_BYTES } from './file-states.js';
import { Files } from './files.js';
import { Jobs } from './jobs.js';
import { chunkItemId, directoryItemId, Keys } from './keys.js';
import { Queues } from './queue.js';
import { readRegistry } from './registry.js';
import { countServers } from './serving.js';
import { DEFAULT_FORGET_NODES_MS, DEFAULT_GONE_MS, type SweeperOptions } from './settings.js';
import type { WorkItem } from './work.js';

const LOCK_MS = 15_000;
/** Whoever commits or appends hands over at once; the sweeper leaves them that long. */
const HAND_OVER_GRACE_MS = 2000;
/** A delivery takes no longer than this, and one that waits for its pause has a later time of its own. */
const ANNOUNCED_AGAIN_MS = 60_000;
const JOBS_PER_STEP = 100;
const ITEMS_PER_STEP = 256;
const SLICE_FILES = CHUNK_FILES * 128;
const PENDING = STATE_BYTES.pending.charCodeAt(0);
const ACTIVE = STATE_BYTES.active.charCodeAt(0);

/**
 * Brings to an end what crashes and lost messages left half done. Any number of processes run one; a lock in Redis
 * lets one at a time work. The lock saves work and is not needed for correctness: every step can run twice.
 */
export class Sweeper {
  readonly #commands: Commands;
  readonly #queues: Queues;
  readonly #jobs: Jobs;
  readonly #files: Files;
  readonly #options: SweeperOptions;
  readonly #token = randomUUID();
  /** What BullMQ did not know at the last look: item id → time. Found missing twice, it is given to BullMQ again. */
  #missing = new Set<string>();
  /** Chunks of ending jobs that nobody held a lock on at the last look. */
  #unheld = new Set<string>();
  #lostAt = 0;
  #openCursor = '-';
  #timer: NodeJS.Timeout | null = null;
  #round: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: SweeperOptions) {
    this.#options = options;
    const redis = connectFailingFast(options.redis, 'writeback-sweeper');
    this.#commands = new Commands(redis, new Keys(options.keyPrefix));
    this.#queues = new Queues(this.#commands);
    this.#jobs = new Jobs(this.#commands);
    this.#files = new Files(this.#commands);
  }

  /** Sweeps every `intervalMs` until `close`. */
  start(): void {
    if (this.#closed || this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#round = this.sweep().then(
        () => this.#again(),
        (error: unknown) => {
          // With Redis away every process would say so every two seconds; its callers hear of it anyway.
          if (!this.#closed && !isUnavailable(error)) this.#options.onError?.(error, 'sweeping');
          this.#again();
        },
      );
    }, this.#options.intervalMs ?? 2000);
    this.#timer.unref();
  }

  /** One round, if no other process is at it. */
  async sweep(): Promise<void> {
    if (!(await this.#lock())) return;
    const [seconds, microseconds] = await this.#commands.redis.time();
    const now = Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
    await this.#expireOverdue(now);
    await this.#settleEnding();
    await this.#handOver(now);
    await this.#announce(now);
    await this.#purge(now);
    await this.#missServers();
    const lostAfterMs = this.#options.lostAfterMs ?? 30_000;
    if (now - this.#lostAt >= lostAfterMs / 2) {
      this.#lostAt = now;
      await this.#findLost(now, lostAfterMs);
      await this.#tidyQueues();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    await this.#round;
    const { redis, keys } = this.#commands;
    // The next one need not wait for the lock to expire.
    if ((await redis.get(keys.sweeper).catch(() => null)) === this.#token)
      await redis.del(keys.sweeper).catch(() => {});
    await this.#queues.close();
    disconnect(redis);
  }

  #again(): void {
    this.#timer = null;
    this.start();
  }

  async #lock(): Promise<boolean> {
    const { redis, keys } = this.#commands;
    if ((await redis.set(keys.sweeper, this.#token, 'PX', LOCK_MS, 'NX')) === 'OK') return true;
    if ((await redis.get(keys.sweeper)) !== this.#token) return false;
    await redis.pexpire(keys.sweeper, LOCK_MS);
    return true;
  }

  async #queueOf(id: string): Promise<string> {
    return (await this.#commands.redis.hget(this.#commands.keys.job(id), 'queue')) ?? '';
  }

  async #due(index: string, until: number): Promise<string[]> {
    return this.#commands.redis.zrangebyscore(index, '-inf', until, 'LIMIT', 0, JOBS_PER_STEP);
  }

  async #expireOverdue(now: number): Promise<void> {
    for (const id of await this.#due(this.#commands.keys.deadlines, now))
      await this.#commands.onJob('wbExpire', id, await this.#queueOf(id));
  }

  async #handOver(now: number): Promise<void> {
    for (const id of await this.#due(this.#commands.keys.outbox, now - HAND_OVER_GRACE_MS))
      await this.#queues.handOver(id, await this.#queueOf(id));
  }

  /** What webhooks are to be told and nobody has put into the queue, or whoever had it in hand is gone. */
  async #announce(now: number): Promise<void> {
    const { redis, keys } = this.#commands;
    for (const member of await this.#due(keys.announced, now - HAND_OVER_GRACE_MS)) {
      const [jobId = '', event = ''] = member.split(' ');
      await this.#queues.addDelivery({ jobId, event: event as WebhookEvent });
      await redis.zadd(keys.announced, 'XX', now + ANNOUNCED_AGAIN_MS, member);
    }
  }

  async #purge(now: number): Promise<void> {
    const { redis, keys } = this.#commands;
    for (const id of await this.#due(keys.retention, now)) {
      const [queue, chunks, directories] = await redis.hmget(keys.job(id), 'queue', 'chunks', 'directories');
      // Items of a queue that was held or paused all the time.
      for await (const known of this.#known(queue ?? '', itemsOf(id, Number(chunks), Number(directories))))
        await this.#queues.removeItems(queue ?? '', known.found.map(itemId));
      await this.#commands.onJob('wbPurge', id, queue ?? '', this.#options.goneMs ?? DEFAULT_GONE_MS);
    }
  }

  /** A worker or agent that was killed says nothing: who waits for it must hear that it is gone. */
  async #missServers(): Promise<void> {
    for (const { queue } of await readRegistry(this.#commands)) await countServers(this.#commands, queue);
  }

  /**
   * Pending files of canceled and expired jobs. Active ones belong to a worker, which settles them; when BullMQ's lock
   * on the chunk is gone for two rounds the worker is gone too, and perhaps there is no other.
   */
  async #settleEnding(): Promise<void> {
    const { redis, keys } = this.#commands;
    const unheld = new Set<string>();
    for (const id of await redis.srandmember(keys.ending, JOBS_PER_STEP)) {
      const queue = await this.#queueOf(id);
      await this.#jobs.settle(id, queue);
      for await (const chunk of this.#chunksWith(id, [ACTIVE])) {
        const item = chunkItemId(id, chunk);
        if ((await redis.exists(keys.bullLock(queue, item))) === 1) continue;
        if (this.#unheld.has(item))
          await this.#commands.onJob('wbSettle', id, queue, chunk * CHUNK_FILES, CHUNK_FILES, '1');
        else unheld.add(item);
      }
    }
    this.#unheld = unheld;
  }

  /** Open jobs that have not moved for a while: does BullMQ still have what is left of them? */
  async #findLost(now: number, lostAfterMs: number): Promise<void> {
    const { redis, keys } = this.#commands;
    const ids = await redis.zrangebylex(keys.open, this.#openCursor, '+', 'LIMIT', 0, JOBS_PER_STEP);
    const last = ids.at(-1);
    const whole = this.#openCursor === '-' && ids.length < JOBS_PER_STEP;
    this.#openCursor = last !== undefined && ids.length === JOBS_PER_STEP ? `(${last}` : '-';
    // With more open jobs than one step takes, what was missing is remembered until its turn comes again.
    const missing = whole ? new Set<string>() : this.#missing;
    for (const id of ids) {
      const [updatedAt, queue, behind, ending, chunksQueued, directories, directoriesQueued] =
        await redis.hmget(
          keys.job(id),
          'updatedAt',
          'queue',
          'behind',
          'ending',
          'chunksQueued',
          'directories',
          'directoriesQueued',
        );
      if (!queue || ending !== '' || now - Number(updatedAt) < lostAfterMs) continue;
      const items: WorkItem[] = [];
      for await (const chunk of this.#chunksWith(id, [PENDING, ACTIVE]))
        if (chunk < Number(chunksQueued)) items.push({ jobId: id, chunk });
      for (let i = 0; i < Math.min(Number(directories), Number(directoriesQueued)); i++)
        if ((await redis.hexists(keys.runs(id), `d${i}:done`)) === 0) items.push({ jobId: id, directory: i });
      await this.#addLost(queue, items, Number(behind ?? 0), missing);
    }
    this.#missing = missing;
  }

  async #addLost(
    queue: string,
    items: readonly WorkItem[],
    behind: number,
    missing: Set<string>,
  ): Promise<void> {
    for await (const known of this.#known(queue, items)) {
      for (const item of known.found) missing.delete(itemId(item));
      const lost = known.absent.filter((item) => this.#missing.has(itemId(item)));
      for (const item of known.absent) missing.add(itemId(item));
      await this.#queues.add(queue, lost, behind);
      for (const item of lost) missing.delete(itemId(item));
    }
  }

  /** Which of these BullMQ knows, some at a time. */
  async *#known(
    queue: string,
    items: readonly WorkItem[],
  ): AsyncIterable<{ found: WorkItem[]; absent: WorkItem[] }> {
    const { redis, keys } = this.#commands;
    for (let i = 0; i < items.length; i += ITEMS_PER_STEP) {
      const group = items.slice(i, i + ITEMS_PER_STEP);
      const known = await Promise.all(group.map((item) => redis.exists(keys.bullJob(queue, itemId(item)))));
      yield {
        found: group.filter((_, at) => known[at] === 1),
        absent: group.filter((_, at) => known[at] !== 1),
      };
    }
  }

  /** Makes BullMQ follow our record of what is paused, and forgets addresses and nodes that nothing is left of. */
  async #tidyQueues(): Promise<void> {
    const { redis, keys } = this.#commands;
    for (const owner of await readRegistry(this.#commands)) {
      const { queue } = owner;
      const [paused, jobsKept] = await redis.hmget(keys.cache(queue), 'paused', 'jobsKept');
      if ((paused === '1') !== (await this.#queues.isPaused(queue)))
        await this.#queues.setPaused(queue, paused === '1');
      if (Number(jobsKept) > 0) continue;
      if (owner.kind === 'node') {
        const after = this.#options.forgetNodesMs ?? DEFAULT_FORGET_NODES_MS;
        const more = [keys.queues, keys.parts(queue), keys.servers(queue)];
        const forgotten = await this.#commands.onCache('wbForgetNode', queue, more, after);
        if (forgotten === 1) await this.#queues.remove(queue);
        continue;
      }
      if (!owner.adHocCache) continue;
      const forgotten = await this.#commands.onCache('wbForget', queue, [
        keys.queues,
        keys.leases(queue),
        keys.bucket(queue),
        keys.goneAddresses,
        keys.servers(queue),
      ]);
      if (forgotten === 1) await this.#queues.remove(queue);
    }
  }

  async *#chunksWith(id: string, bytes: readonly number[]): AsyncIterable<number> {
    for (let start = 0; ; start += SLICE_FILES) {
      const states = await this.#files.states(id, start, SLICE_FILES);
      for (let at = 0; at < states.length; at += CHUNK_FILES) {
        const chunk = states.subarray(at, at + CHUNK_FILES);
        if (bytes.some((byte) => chunk.includes(byte))) yield (start + at) / CHUNK_FILES;
      }
      if (states.length < SLICE_FILES) return;
    }
  }
}

function itemId(item: WorkItem): string {
  return 'chunk' in item ? chunkItemId(item.jobId, item.chunk) : directoryItemId(item.jobId, item.directory);
}

function itemsOf(jobId: string, chunks: number, directories: number): WorkItem[] {
  return [
    ...Array.from({ length: chunks }, (_, chunk) => ({ jobId, chunk })),
    ...Array.from({ length: directories }, (_, directory) => ({ jobId, directory })),
  ];
}
