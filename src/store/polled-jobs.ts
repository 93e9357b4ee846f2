import { LRUCache } from 'lru-cache';
import type { Job } from '../model/job.js';
import type { JobState } from '../model/words.js';
import { Coalesced } from './coalesced.js';
import type { Revision } from './types.js';

/** Of a job: any number of clients that ask for it cost Redis no more than a hundred reads a second, and wait so long. */
const READS_APART_MS = 10;
/** Asks in about a second from which on a job is asked for often. */
const OFTEN = 5;
const MEMORY_OF_ASKS_MS = 1000;
/** What is kept is read again when it is asked for at this age … */
const AGING_MS = 100;
/** … and not told any more at this one. */
const OLD_MS = 250;
/** A thousand pollers of a job each are more than one process can serve. */
const MOST_JOBS = 1000;

type Shown = Job & Revision;

interface Polled {
  /** How often it was asked for in the last second or so: each ask counts one, and less as it lies back. */
  asks: number;
  askedAt: number;
  /** Null: nothing that may be told again. */
  kept: { job: Shown; readAt: number } | null;
  /** What was read until then is not kept: it may be older than a change that was told since. */
  keptAfter: number;
  renewing: boolean;
}

/**
 * Jobs as clients that poll are shown them. Redis answers nobody while it runs a script or waits for its disk, so a
 * job that is asked for often is told from memory, as it was at most a quarter of a second ago, and read again beside
 * that. A change of its state, and of the cache or node that it waits for, is seen at once all the same.
 */
export class PolledJobs {
  readonly #shared: Coalesced<Shown>;
  readonly #polled = new LRUCache<string, Polled>({ max: MOST_JOBS });
  readonly #now: () => number;

  /** @param now milliseconds of a clock that never goes back */
  constructor(read: (id: string) => Promise<Shown>, now: () => number = () => performance.now()) {
    this.#now = now;
    this.#shared = new Coalesced(async (id) => {
      const readAt = now();
      const job = await read(id);
      const polled = this.#polled.peek(id);
      if (polled !== undefined && readAt > polled.keptAfter) polled.kept = { job, readAt };
      return job;
    }, READS_APART_MS);
  }

  /** The job as it is now. @throws what the read throws */
  read(id: string): Promise<Shown> {
    return this.#shared.get(id);
  }

  /** The job as it is now, or if it is asked for often as it was at most 250 ms ago. @throws what the read throws */
  async poll(id: string): Promise<Shown> {
    const now = this.#now();
    const polled = this.#asked(id, now);
    const age = polled.kept === null ? Number.POSITIVE_INFINITY : now - polled.kept.readAt;
    if (polled.kept === null || age >= OLD_MS || polled.asks < OFTEN) return this.read(id);
    if (age >= AGING_MS) this.#renew(id, polled);
    return polled.kept.job;
  }

  /** Somebody changed the job: what is kept of it is told no more. */
  forget(id: string): void {
    const polled = this.#polled.peek(id);
    if (polled !== undefined) this.#forget(polled);
  }

  /** The store is away, so nobody would tell of a change. */
  forgetAll(): void {
    for (const polled of this.#polled.values()) this.#forget(polled);
  }

  /** The store told of a change, in the form of its channel: `job ID STATE`, or of a cache or node. */
  told(message: string): void {
    const [what, id = '', state] = message.split(' ');
    if (what !== 'job') {
      this.forgetAll();
      return;
    }
    const polled = this.#polled.peek(id);
    // Progress is no such hurry. While a read is under way nobody knows which state it finds.
    if (polled !== undefined && polled.kept?.job.state !== (state as JobState)) this.#forget(polled);
  }

  #forget(polled: Polled): void {
    polled.kept = null;
    polled.keptAfter = this.#now();
  }

  #asked(id: string, now: number): Polled {
    const known = this.#polled.get(id);
    if (known !== undefined) {
      known.asks = known.asks * Math.exp((known.askedAt - now) / MEMORY_OF_ASKS_MS) + 1;
      known.askedAt = now;
      return known;
    }
    const polled: Polled = {
      asks: 1,
      askedAt: now,
      kept: null,
      keptAfter: Number.NEGATIVE_INFINITY,
      renewing: false,
    };
    this.#polled.set(id, polled);
    return polled;
  }

  #renew(id: string, polled: Polled): void {
    if (polled.renewing) return;
    polled.renewing = true;
    this.read(id)
      // Who asks next waits for a read of his own, and is told why.
      .catch(() => this.#forget(polled))
      .finally(() => {
        polled.renewing = false;
      });
  }
}
