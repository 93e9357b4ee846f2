interface Waiting {
  /** @param granted false: the signal was aborted first */
  end(granted: boolean): void;
}

/**
 * How many files are copied at the same time, over all jobs: whoever has the fewest under way is next, so that the
 * large files of one job do not keep the small ones of another waiting.
 */
export class FileTurns {
  readonly #limit: number;
  readonly #running = new Map<string, number>();
  readonly #waiting = new Map<string, Set<Waiting>>();
  #sum = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Waits for a turn and runs `work` in it. Null: `signal` was aborted before it began. */
  async run<T>(jobId: string, signal: AbortSignal, work: () => Promise<T>): Promise<T | null> {
    if (signal.aborted || !(await this.#take(jobId, signal))) return null;
    try {
      return await work();
    } finally {
      this.#count(jobId, -1);
      this.#next();
    }
  }

  async #take(jobId: string, signal: AbortSignal): Promise<boolean> {
    if (this.#sum < this.#limit) {
      this.#count(jobId, 1);
      return true;
    }
    return new Promise((resolve) => {
      const queue = this.#waiting.get(jobId) ?? new Set();
      this.#waiting.set(jobId, queue);
      const leave = (): void => waiting.end(false);
      const waiting: Waiting = {
        end: (granted) => {
          signal.removeEventListener('abort', leave);
          queue.delete(waiting);
          if (queue.size === 0 && this.#waiting.get(jobId) === queue) this.#waiting.delete(jobId);
          resolve(granted);
        },
      };
      queue.add(waiting);
      signal.addEventListener('abort', leave);
    });
  }

  #next(): void {
    while (this.#sum < this.#limit) {
      let best: string | null = null;
      for (const jobId of this.#waiting.keys()) {
        if (best === null || this.#runningOf(jobId) < this.#runningOf(best)) best = jobId;
      }
      if (best === null) return;
      const [first] = this.#waiting.get(best) ?? [];
      this.#count(best, 1);
      first?.end(true);
    }
  }

  #runningOf(jobId: string): number {
    return this.#running.get(jobId) ?? 0;
  }

  #count(jobId: string, change: number): void {
    this.#sum += change;
    const running = this.#runningOf(jobId) + change;
    if (running === 0) this.#running.delete(jobId);
    else this.#running.set(jobId, running);
  }
}
