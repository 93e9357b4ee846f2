import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { HandBack } from '../flush/engine.js';
import { TargetDownError } from '../flush/target-error.js';
import type { CacheConfig } from '../model/cache.js';
import type { FileErrorCode } from '../model/errors.js';
import { endedUntried } from '../model/file-result.js';
import { isTerminalJobState } from '../model/words.js';
import type { QueueConnection } from '../store/connect.js';
import type { CacheQueue, ChunkRun, FlushWork } from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';
import { CacheHealth } from './cache-health.js';
import { runChunk } from './chunk.js';
import { CircuitBreaker } from './circuit-breaker.js';
import { runExpansion } from './expansion.js';
import { type ActiveItem, type ItemFate, ItemQueue, OTHERS_PAUSE_MS } from './item-queue.js';
import { ListedFiles } from './listed-files.js';
import type { CacheLoad, ItemEnd, WorkObserver } from './observer.js';
import { NO_ROOM_PAUSE_MS, NoRoom, WaitingSeats } from './quota-room.js';
import { SessionPool } from './sessions.js';
import { CacheSlots } from './slots.js';

export interface CacheWorkerOptions {
  store: WorkStore;
  /** Shared by the workers of all caches; the blocking one is made from it. */
  connection: QueueConnection['redis'];
  /** Unique among all workers that ever were. */
  workerId: string;
  /** The name that AUTH_SYS carries. */
  machineName: string;
  /** Chunks that this process works on at a time, per cache. */
  chunksPerCache: number;
  /** A worker that does not move for so long loses its chunks … */
  lockMs: number;
  /** … at the next look of another one. */
  stalledCheckMs: number;
  /** A chunk whose worker died more often is given up. */
  maxStalls: number;
  /** A cache that does not answer for so long is held. */
  holdAfterMs: number;
  /** A session without work is closed after so long. */
  idleSessionMs: number;
  log: Logger;
  observer?: WorkObserver | undefined;
}

/** How long one read blocks: an item that is added ends it at once. */
const IDLE_POLL_MS = 5000;

/**
 * Serves the queue of one cache: takes chunks, flushes them through shared sessions within this process's slots, holds
 * the queue while the cache does not answer, gives back what it may not or can not go on with.
 */
export class CacheWorker {
  readonly #options: CacheWorkerOptions;
  readonly #queue: string;
  readonly #log: Logger;
  /** What measurements call it. */
  readonly #measuredAs: string | null;
  #config: CacheConfig;
  readonly #slots: CacheSlots;
  readonly #breaker: CircuitBreaker;
  readonly #sessions: SessionPool;
  readonly #health: CacheHealth;
  readonly #items: ItemQueue;
  readonly #listed = new ListedFiles();
  readonly #seats: WaitingSeats;
  #closing: Promise<void> | null = null;

  constructor(entry: CacheQueue & { queue: string }, config: CacheConfig, options: CacheWorkerOptions) {
    const { store, workerId, machineName, idleSessionMs, observer } = options;
    const measuredAs = entry.adHocCache === null ? entry.cache : null;
    this.#measuredAs = measuredAs;
    this.#options = options;
    this.#queue = entry.queue;
    this.#config = config;
    this.#log = options.log.child({ cache: entry.cache });
    this.#slots = new CacheSlots({
      caches: store.caches,
      queue: entry.queue,
      workerId,
      configured: config.limits,
      log: this.#log,
      onFilesPerSecond: (filesPerSecond) => {
        this.#sessions.filesPerSecond = filesPerSecond;
      },
      onTrial: (trial) => {
        this.#breaker.trial = trial;
      },
      onPaused: () => void this.#stepBack(),
    });
    this.#breaker = new CircuitBreaker({
      faults: config.breakerFaults,
      onOpen: (code, message) => void this.#openCircuit(code, message),
      onClose: () => {
        this.#log.warn('the circuit breaker is closed: a file was flushed');
        void this.#health.tellUp(true);
      },
    });
    this.#sessions = new SessionPool({
      caches: store.caches,
      queue: entry.queue,
      machineName,
      idleMs: idleSessionMs,
      slots: this.#slots,
      filesPerSecond: config.limits.filesPerSecond,
      log: this.#log,
      onEvent: (shared, event) => this.#health.sessionEvent(shared, event),
      observer: {
        ...(observer && {
          replied: (procedure: string, roundTripMs: number) =>
            observer.replied(measuredAs, procedure, roundTripMs),
        }),
        retried: (code) => {
          observer?.retried(measuredAs, code);
          this.#breaker.retried(code);
        },
      },
    });
    this.#health = new CacheHealth({
      store,
      queue: entry.queue,
      sessions: () => this.#sessions.all(),
      isIdle: () => this.chunksInHand === 0,
      log: this.#log,
    });
    this.#seats = new WaitingSeats(options.chunksPerCache);
    this.#items = new ItemQueue({
      ...options,
      queue: entry.queue,
      concurrency: options.chunksPerCache,
      idlePollMs: IDLE_POLL_MS,
      log: this.#log,
      work: (item) => this.#work(item),
    });
  }

  get chunksInHand(): number {
    return this.#items.items.size;
  }

  get load(): CacheLoad {
    return { cache: this.#measuredAs, itemsInHand: this.chunksInHand, ...this.#slots.load };
  }

  /** The configuration changed, or a request named the same address with other settings. */
  set config(config: CacheConfig) {
    this.#config = config;
    this.#slots.configured = config.limits;
    this.#breaker.faults = config.breakerFaults;
  }

  endJob(jobId: string, why: 'canceled' | 'expired'): void {
    this.#items.endJob(jobId, why);
  }

  /** Takes no more chunks, begins no more flushes, and lets those under way end for `graceMs`. Never rejects. */
  async drain(graceMs: number): Promise<void> {
    this.#slots.drain();
    await this.#items.stopTaking();
    await this.#letOutstandingEnd(graceMs);
  }

  /** After `drain`: everything in hand goes back to the queue. Waits for Redis: its caller has a deadline. Never rejects. */
  async handBack(): Promise<void> {
    this.#items.handBackAll();
    await this.#items.empty();
  }

  /** Ends all at once; `drain` and `handBack` first. Waits for Redis as these do. Never rejects. */
  close(): Promise<void> {
    this.#closing ??= this.#closeAll();
    return this.#closing;
  }

  async #closeAll(): Promise<void> {
    // A probe under way ends with its session.
    const probeEnded = this.#health.close();
    await this.#items.close();
    await this.#sessions.close();
    await this.#slots.close();
    await probeEnded;
  }

  /** The cache was paused: what is under way ends, the rest goes back to the queue until it is resumed. */
  async #stepBack(): Promise<void> {
    if (this.#items.isDraining || this.chunksInHand === 0) return;
    this.#slots.drain();
    const items = [...this.#items.items];
    await this.#letOutstandingEnd(60_000);
    for (const { abort } of items) abort.abort(new HandBack('the cache is paused'));
    if (!this.#items.isDraining) this.#slots.resume();
  }

  async #letOutstandingEnd(graceMs: number): Promise<void> {
    const deadlineAt = Date.now() + graceMs;
    while (this.#slots.outstanding > 0 && Date.now() < deadlineAt) await delay(20);
  }

  // One item of the queue.

  async #work(item: ActiveItem): Promise<ItemFate> {
    let end: ItemEnd = 'failed';
    try {
      const fate = 'chunk' in item.data ? await this.#chunk(item) : await this.#directory(item);
      end = fate === 'done' ? 'done' : 'returned';
      return fate;
    } catch (error) {
      if (!(error instanceof TargetDownError)) throw error;
      end = 'held';
      await this.#health.hold(error);
      return 'held';
    } finally {
      this.#options.observer?.itemLeft(this.#measuredAs, end);
    }
  }

  async #chunk(item: ActiveItem): Promise<ItemFate> {
    const { store, holdAfterMs, maxStalls, observer } = this.#options;
    const { jobId, chunk } = item.data as { jobId: string; chunk: number };
    const run = await store.chunks.begin<FlushWork>(jobId, chunk);
    if (run === null || run.files.length === 0) return 'done';
    const { requestId } = run.job.origin;
    const log = this.#log.child({ requestId, job: jobId, chunk, run: run.run });
    log.debug({ files: run.files.length }, 'chunk begun');
    if (item.stalls > maxStalls) {
      await this.#failLost(run, item.stalls);
      return 'done';
    }
    const config = this.#configFor(run.job);
    const shared = await this.#sessions.acquire(run.job, config);
    try {
      const done = await runChunk(run, item, {
        store,
        slots: this.#slots,
        shared,
        listed: this.#listed,
        holdAfterMs,
        onRecorded: (state) => {
          this.#health.answered(shared);
          if (state !== 'gone' && isTerminalJobState(state)) log.info({ state }, 'job ended');
        },
        onEnded: (result) => {
          observer?.fileEnded(this.#measuredAs, result);
          this.#breaker.ended(result);
        },
      });
      log.debug({ done }, 'chunk left');
      return done ? 'done' : 'again';
    } finally {
      this.#sessions.release(shared, run.job, config);
    }
  }

  async #directory(item: ActiveItem): Promise<ItemFate> {
    const { store, holdAfterMs } = this.#options;
    const { jobId, directory } = item.data as { jobId: string; directory: number };
    const run = await store.expansions.begin<FlushWork>(jobId, directory);
    if (run === null) return 'done';
    if (run === 'later') return { afterMs: OTHERS_PAUSE_MS };
    if (run === 'no room') return { afterMs: NO_ROOM_PAUSE_MS };
    if (item.stalls > this.#options.maxStalls) {
      await store.expansions.appendEnded(run, [endedUntried(0, run.request.path, workerLost(item.stalls))]);
      await store.expansions.end(run, 1);
      return 'done';
    }
    const config = this.#configFor(run.job);
    const shared = await this.#sessions.acquire(run.job, config);
    try {
      const signal = AbortSignal.any([item.abort.signal, item.leave.signal]);
      const seats = this.#seats;
      await runExpansion(run, signal, { store, shared, holdAfterMs, listed: this.#listed, seats });
      this.#health.answered(shared);
      return 'done';
    } catch (error) {
      if (error instanceof HandBack) return 'again';
      if (error instanceof NoRoom) return { afterMs: NO_ROOM_PAUSE_MS };
      throw error;
    } finally {
      this.#sessions.release(shared, run.job, config);
    }
  }

  /** Its cache, called under the identity of its principal. */
  #configFor({ adHocCache, identity }: FlushWork): CacheConfig {
    const config = adHocCache ?? this.#config;
    return identity === null ? config : { ...config, credential: identity };
  }

  async #failLost(run: ChunkRun, stalls: number): Promise<void> {
    const error = workerLost(stalls);
    this.#log.error({ job: run.job.id, chunk: run.chunk, stalls }, 'a chunk is given up: its workers died');
    await this.#options.store.chunks.record(
      run,
      run.files.map(({ index, path }) => endedUntried(index, path, error)),
    );
    await this.#options.store.chunks.end(run);
  }

  /** What is outstanding is not waited for: a flush that the storage does not take may never end. */
  async #openCircuit(code: FileErrorCode, message: string): Promise<void> {
    this.#slots.drain();
    const items = [...this.#items.items];
    try {
      const { until, tries } = await this.#options.store.caches.openCircuit(this.#queue, code, message);
      this.#log.warn({ code, holdMs: until - Date.now(), tries }, `circuit breaker opened: ${message}`);
    } catch (error) {
      this.#log.warn({ err: error, code }, 'the circuit breaker could not be opened');
    }
    for (const { abort } of items) abort.abort(new HandBack('the circuit breaker opened'));
    this.#breaker.opened();
    if (!this.#items.isDraining) this.#slots.resume();
  }
}

function workerLost(stalls: number) {
  return {
    code: 'WORKER_LOST' as const,
    nfsStatus: null,
    phase: 'flush' as const,
    message: `${stalls} workers ended abnormally while they had it in hand; it is not tried again by itself`,
  };
}
