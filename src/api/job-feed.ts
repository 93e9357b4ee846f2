import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { BrokerError } from '../model/errors.js';
import type { Job } from '../model/job.js';
import type { ChangedJobs, JobStore } from '../store/types.js';
import { Audience } from './audience.js';
import { jobEvent, reconnectAfter } from './job-events.js';

const PING_MS = 15_000;
const BATCHES_APART_MS = 250;
const LONGEST_PAUSE_MS = 5000;
/** A hint may be lost, and of what changed soon after a change no hint is given. */
const RECHECK_MS = 1000;
/** Told to the client for its reconnection; also how long we wait for a store that is away. */
const AGAIN_MS = 2000;
const JOBS_PER_BATCH = 500;
/** What a listener has missed comes in smaller pieces. */
const JOBS_PER_PAGE = 50;
/** To all listeners together. With more to tell, each job is told of less often. */
const BYTES_PER_SECOND = 16 * 1024 * 1024;
/** Reading may take this part of the time of the process. */
const SHARE_OF_TIME = 0.2;

/** Which jobs a listener wants to hear of. */
export interface Wish {
  /** Listeners with the same key want the same, and share what is made for one of them. */
  readonly key: string;
  wants(job: Job): boolean;
}

/**
 * The changes of all jobs for any number of listeners, with one reader per process that serves all who keep pace. A
 * listener is nothing but a place in the order of changes, so one that reads slowly costs no memory: it asks the store
 * for what lies behind its place, where each job stands once, as it is now.
 */
export class JobFeed {
  readonly #store: JobStore;
  readonly #log: Logger;
  readonly #audience = new Audience<Batch>();
  /** What lies before this place has been read. */
  #head = 0;
  /** What was read last. */
  #batch: Batch | null = null;
  #listeners = 0;
  #reading = false;

  constructor(store: JobStore, log: Logger) {
    this.#store = store;
    this.#log = log;
  }

  /**
   * The events of text/event-stream behind a place, until the abort. It begins with the place as an `id`, so that also
   * a listener that has heard of nothing yet can go on from there.
   * @param lastEventId place where the listener was; undefined: from now on
   * @throws {BrokerError} STORE_UNAVAILABLE, before the first event
   */
  async listen(
    lastEventId: number | undefined,
    wish: Wish,
    signal: AbortSignal,
  ): Promise<AsyncGenerator<string | Buffer, void, undefined>> {
    const now = await this.#store.lastPlace();
    return this.#events(Math.min(lastEventId ?? now, now), now, wish, signal);
  }

  async *#events(
    from: number,
    now: number,
    wish: Wish,
    signal: AbortSignal,
  ): AsyncGenerator<string | Buffer, void, undefined> {
    this.#listeners += 1;
    const seat = this.#audience.enter(signal);
    if (!this.#reading) void this.#read(now);
    try {
      let place = from;
      yield `${reconnectAfter(AGAIN_MS)}id: ${place}\n\n`;
      while (!signal.aborted) {
        if (place >= this.#head) {
          if ((await seat.wait(PING_MS)) === null && !signal.aborted) yield `: ping\nid: ${place}\n\n`;
          continue;
        }
        const batch = this.#batch?.from === place ? this.#batch : await this.#missed(place, signal);
        const text = batch.textFor(wish);
        place = batch.to;
        if (text.length > 0) yield text;
      }
    } finally {
      seat.leave();
      this.#listeners -= 1;
    }
  }

  async #missed(place: number, signal: AbortSignal): Promise<Batch> {
    try {
      const head = this.#head;
      const changed = await this.#store.changedSince(place, JOBS_PER_PAGE);
      // What lies behind the head comes with the next batch: whoever has caught up is where all others are.
      const jobs = changed.jobs.filter((one) => one.place <= head);
      const caughtUp = changed.place === place || changed.place >= head;
      return new Batch(place, { jobs, place: caughtUp ? head : changed.place });
    } catch (error) {
      if (!(error instanceof BrokerError) || error.code !== 'STORE_UNAVAILABLE') throw error;
      await pause(AGAIN_MS, signal);
      return new Batch(place, { jobs: [], place });
    }
  }

  /** Reads for as long as anybody listens. */
  async #read(from: number): Promise<void> {
    this.#reading = true;
    this.#head = from;
    let hinted = true;
    let hint = (): void => {};
    const unwatch = this.#store.watchChanges(() => {
      hinted = true;
      hint();
    });
    while (this.#listeners > 0) {
      hinted = false;
      const pauseMs = await this.#readBatch();
      await pause(pauseMs);
      if (hinted) continue;
      const controller = new AbortController();
      hint = () => controller.abort();
      await pause(RECHECK_MS - BATCHES_APART_MS, controller.signal);
    }
    unwatch();
    this.#reading = false;
    this.#batch = null;
  }

  /** @returns milliseconds until the next one at the earliest */
  async #readBatch(): Promise<number> {
    const begin = performance.now();
    try {
      const changed = await this.#store.changedSince(this.#head, JOBS_PER_BATCH);
      if (changed.place <= this.#head) return BATCHES_APART_MS;
      const batch = new Batch(this.#head, changed);
      this.#batch = batch;
      this.#head = batch.to;
      await this.#audience.tell(batch);
      const spentMs = performance.now() - begin;
      const sentMs = (batch.bytes * this.#listeners * 1000) / BYTES_PER_SECOND;
      return Math.min(Math.max(BATCHES_APART_MS, spentMs / SHARE_OF_TIME, sentMs), LONGEST_PAUSE_MS);
    } catch (error) {
      if (!(error instanceof BrokerError) || error.code !== 'STORE_UNAVAILABLE')
        this.#log.warn({ err: error }, 'events: reading changes');
      return AGAIN_MS;
    }
  }
}

/** What changed between two places, and how it reads for each wish. */
class Batch {
  readonly from: number;
  readonly to: number;
  readonly #jobs: ChangedJobs['jobs'];
  readonly #texts = new Map<string, Buffer>();

  constructor(from: number, { jobs, place }: ChangedJobs) {
    this.from = from;
    this.to = place;
    this.#jobs = jobs;
  }

  /** Of the longest text so far. */
  get bytes(): number {
    return Math.max(0, ...[...this.#texts.values()].map(({ length }) => length));
  }

  textFor(wish: Wish): Buffer {
    let text = this.#texts.get(wish.key);
    if (!text) {
      const wanted = this.#jobs.filter(({ job }) => wish.wants(job));
      text = Buffer.from(wanted.map(({ job, place }) => jobEvent(job, String(place))).join(''));
      this.#texts.set(wish.key, text);
    }
    return text;
  }
}

async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, { ref: false, ...(signal && { signal }) }).catch(() => {});
}
