import type { CacheConfig } from '../model/cache.js';
import type { QueueConnection } from '../store/connect.js';
import { queueName } from '../store/keys.js';
import type { CacheQueue, QueueEntry } from '../store/work.js';
import { CacheWorker, type CacheWorkerOptions } from './cache-worker.js';
import type { CacheLoad } from './observer.js';
import { tellOutages } from './outages.js';
import { within } from './within.js';

export interface WorkerOptions extends Omit<CacheWorkerOptions, 'connection'> {
  /** The configured caches. */
  caches: readonly CacheConfig[];
}

const DRAIN_MARGIN_MS = 1000;
/** How long handing chunks back may take once the grace time is over; with Redis away it takes for ever. */
const HAND_BACK_MS = 5000;
const CLOSE_MS = 3000;
const HEARTBEAT_MS = 4000;

/** Serves every queue there is, also those that appear later. */
export class FlushWorker {
  readonly #options: WorkerOptions;
  readonly #caches = new Map<string, CacheWorker>();
  /** Queues without a configuration here, so that each is told once. */
  readonly #unknown = new Set<string>();
  readonly #connection: QueueConnection;
  readonly #unwatch: (() => void)[] = [];
  readonly #heartbeat: NodeJS.Timeout;
  #configured: readonly CacheConfig[];
  /** As last told by the store. */
  #queues: QueueEntry[] = [];
  #closing: Promise<boolean> | null = null;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#configured = options.caches;
    this.#connection = options.store.newConnection();
    tellOutages(this.#connection, options.log, () => this.#closing !== null);
    this.#unwatch.push(
      options.store.watchQueues((queues) => this.#serve(queues)),
      options.store.watchEndings((jobId, why) => {
        for (const cache of this.#caches.values()) cache.endJob(jobId, why);
      }),
    );
    this.#heartbeat = setInterval(() => this.#show(), HEARTBEAT_MS);
    this.#show();
  }

  /**
   * The configured caches from now on. Files in hand end as they began; what a cache is and bears holds for the chunks
   * taken up after this.
   */
  reconfigure(caches: readonly CacheConfig[]): void {
    const kept = new Set(caches.map(({ name }) => name));
    const left = this.#configured.filter(({ name }) => !kept.has(name));
    this.#configured = caches;
    this.#unknown.clear();
    this.#serve(this.#queues);
    this.#show();
    const { store, workerId, log } = this.#options;
    for (const { name } of left) {
      store.caches.serves(queueName(name, false), workerId, false).catch((error: unknown) => {
        log.debug({ err: error, cache: name }, 'the store was not told that this worker left a cache');
      });
    }
  }

  get chunksInHand(): number {
    let sum = 0;
    for (const cache of this.#caches.values()) sum += cache.chunksInHand;
    return sum;
  }

  /** What it has in hand now, per cache; of an address there may be several. */
  loads(): CacheLoad[] {
    return [...this.#caches.values()].map(({ load }) => load);
  }

  /**
   * In three phases: takes no more chunks and lets flushes under way end, for `graceMs` at most; gives everything else
   * back to the queue; closes. The store is its owner's to close, afterwards.
   * @returns false if a phase did not end in its time, e.g. because Redis is away: what is in hand then comes back to
   *   the queue by the stall check
   */
  close(graceMs: number): Promise<boolean> {
    this.#closing ??= this.#closeInPhases(graceMs);
    return this.#closing;
  }

  async #closeInPhases(graceMs: number): Promise<boolean> {
    const { log } = this.#options;
    for (const unwatch of this.#unwatch) unwatch();
    clearInterval(this.#heartbeat);
    const caches = [...this.#caches.values()];
    const inHand = this.chunksInHand;
    if (inHand > 0) log.info({ chunks: inHand, graceMs }, 'worker: letting flushes under way end');
    await within(graceMs + DRAIN_MARGIN_MS, () => Promise.all(caches.map((cache) => cache.drain(graceMs))));
    const drained = await within(HAND_BACK_MS, () => Promise.all(caches.map((cache) => cache.handBack())));
    if (!drained) log.warn({ chunks: this.chunksInHand }, 'worker: not everything was handed back in time');
    const closed = await within(CLOSE_MS, () =>
      Promise.all([...caches.map((cache) => cache.close()), this.#tellServed(false)]),
    );
    this.#connection.end();
    return drained && closed;
  }

  #show(): void {
    void this.#tellServed(true);
  }

  /** Tells that this worker is there, also for configured caches that no job was ever for, or that it leaves. Never rejects. */
  async #tellServed(present: boolean): Promise<void> {
    const { store, workerId, log } = this.#options;
    const configured = this.#configured.map(({ name }) => queueName(name, false));
    const addresses = [...this.#caches.keys()].filter((queue) => !configured.includes(queue));
    try {
      await Promise.all([
        ...configured.map((queue) => store.caches.serves(queue, workerId, present)),
        ...addresses.map((queue) => store.caches.serves(queue, workerId, present, true)),
      ]);
    } catch (error) {
      log.debug({ err: error }, 'the store was not told that this worker is there');
    }
  }

  #serve(queues: QueueEntry[]): void {
    this.#queues = queues;
    if (this.#closing !== null) return;
    const present = new Set(queues.map(({ queue }) => queue));
    for (const queue of this.#caches.keys()) if (!present.has(queue)) this.#leave(queue);
    for (const entry of queues) if (entry.kind === 'cache') this.#serveQueue(entry);
  }

  /** What is in hand of it goes back to its queue. */
  #leave(queue: string): void {
    const cache = this.#caches.get(queue);
    this.#caches.delete(queue);
    void cache
      ?.drain(0)
      .then(() => cache.handBack())
      .then(() => cache.close());
  }

  #serveQueue(entry: CacheQueue & { queue: string }): void {
    const { log, ...rest } = this.#options;
    const config = entry.adHocCache ?? this.#configured.find(({ name }) => name === entry.cache);
    if (config === undefined) {
      this.#leave(entry.queue);
      if (!this.#unknown.has(entry.queue)) {
        log.warn(
          { cache: entry.cache },
          'there are jobs for a cache that is not in the configuration of this worker',
        );
      }
      this.#unknown.add(entry.queue);
      return;
    }
    const known = this.#caches.get(entry.queue);
    if (known !== undefined) {
      known.config = config;
      return;
    }
    log.debug({ cache: entry.cache }, 'serving a cache');
    this.#caches.set(
      entry.queue,
      new CacheWorker(entry, config, { ...rest, log, connection: this.#connection.redis }),
    );
    if (entry.adHocCache !== null) this.#show();
  }
}
