import { RecentMap } from './handles.js';
import { nfsStatusOf } from './status.js';
import { ChangedError, type Located, type Volume } from './volume.js';

export interface FlushLimits {
  /** A flush is not visible on the filer before this long after its turn came. */
  latencyMs: number;
  /** Flushes at work at the same time; the others wait their turn, first come, first served. */
  concurrency: number;
}

export interface FlushCounts {
  started: number;
  /** What they wrote is on the filer. */
  finished: number;
  /** They ended without: an error, a fault asked for, or new writes meanwhile. */
  failed: number;
  active: number;
  waiting: number;
  maxActive: number;
  bytesWritten: number;
}

interface Flush {
  readonly volume: Volume;
  readonly file: Located;
  readonly whenEnded: (() => void)[];
}

/** The error statuses of flushes that failed are remembered for about this many files. */
const REMEMBERED_FAILURES = 100_000;

/** Runs the flushes of all exports: at most one per file, and at most `concurrency` at once. */
export class FlushScheduler {
  readonly #limits: FlushLimits;
  readonly #isToFail: (file: Located) => boolean;
  readonly #flushes = new Map<string, Flush>();
  readonly #waiting = new Set<Flush>();
  readonly #failures = new RecentMap<number>(REMEMBERED_FAILURES);
  readonly #delays = new Set<{ timer: NodeJS.Timeout; cancel: () => void }>();
  readonly #counts: FlushCounts = {
    started: 0,
    finished: 0,
    failed: 0,
    active: 0,
    waiting: 0,
    maxActive: 0,
    bytesWritten: 0,
  };
  #closed = false;

  /** @param isToFail asked once per flush; true: it takes its time and then leaves the file dirty */
  constructor(limits: FlushLimits, isToFail: (file: Located) => boolean) {
    this.#limits = { ...limits };
    this.#isToFail = isToFail;
  }

  setLimits(limits: Partial<FlushLimits>): void {
    Object.assign(this.#limits, limits);
    this.#startWaiting();
  }

  counts(): FlushCounts {
    return { ...this.#counts, waiting: this.#waiting.size };
  }

  isFlushing(file: Located): boolean {
    return this.#flushes.has(file.key);
  }

  /** The nfsstat3 that the file's last flush ended with, if it failed with an error of its own. */
  failureOf(file: Located): number | undefined {
    return this.#failures.get(file.key);
  }

  /** Starts a flush of the file, or joins the one that waits or runs. */
  start(volume: Volume, file: Located): void {
    if (this.#closed || this.#flushes.has(file.key)) return;
    const flush: Flush = { volume, file, whenEnded: [] };
    this.#flushes.set(file.key, flush);
    this.#failures.delete(file.key);
    this.#waiting.add(flush);
    this.#counts.started++;
    this.#startWaiting();
  }

  /** Resolves when no flush of the file waits or runs any more, however it ended. */
  ended(file: Located): Promise<void> {
    const flush = this.#flushes.get(file.key);
    if (flush === undefined) return Promise.resolve();
    return new Promise((resolve) => flush.whenEnded.push(resolve));
  }

  /** Gives up what has not become visible; resolves when nothing is being written any more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const flush of this.#waiting) this.#end(flush);
    this.#waiting.clear();
    const running = [...this.#flushes.values()].map((flush) => this.ended(flush.file));
    for (const delay of this.#delays) delay.cancel();
    await Promise.all(running);
  }

  #startWaiting(): void {
    for (const flush of this.#waiting) {
      if (this.#counts.active >= this.#limits.concurrency) return;
      this.#waiting.delete(flush);
      void this.#run(flush);
    }
  }

  async #run(flush: Flush): Promise<void> {
    const counts = this.#counts;
    counts.active++;
    counts.maxActive = Math.max(counts.maxActive, counts.active);
    const visible = this.#delay(this.#limits.latencyMs);
    // It may be rejected before anybody waits for it.
    visible.catch(() => {});
    try {
      if (this.#isToFail(flush.file)) {
        await visible;
        counts.failed++;
      } else {
        // Not `+= await`, which would add to what it was before the wait.
        const bytes = await flush.volume.writeBack(flush.file, visible);
        counts.bytesWritten += bytes;
        counts.finished++;
      }
    } catch (error) {
      counts.failed++;
      if (!(error instanceof ChangedError)) this.#failures.set(flush.file.key, nfsStatusOf(error));
    }
    counts.active--;
    this.#end(flush);
    this.#startWaiting();
  }

  #end(flush: Flush): void {
    this.#flushes.delete(flush.file.key);
    for (const wake of flush.whenEnded) wake();
  }

  #delay(ms: number): Promise<void> {
    if (this.#closed) return Promise.reject(new Error('closed'));
    if (ms <= 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#delays.delete(delay);
        resolve();
      }, ms);
      const delay = {
        timer,
        cancel: () => {
          clearTimeout(timer);
          this.#delays.delete(delay);
          reject(new Error('the simulated cache was closed'));
        },
      };
      this.#delays.add(delay);
    });
  }
}
