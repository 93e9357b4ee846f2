interface Waiting {
  /** @param granted false: the signal was aborted first */
  end(granted: boolean): void;
}

/** Whose file wants a turn. */
export interface TurnOwner {
  readonly id: string;
  readonly principal: string;
}

/** Those of a job that wait. */
interface WaitingJob {
  readonly owner: TurnOwner;
  readonly files: Set<Waiting>;
}

/**
 * How many files are copied at the same time, over all jobs: whose principal has the fewest under way is next, and of
 * its jobs the one that has the fewest, so that neither the large files of one job nor the many jobs of one principal
 * keep another waiting. Where all have as many, they take turns.
 */
export class FileTurns {
  readonly #limit: number;
  /** Of principals and of jobs. */
  readonly #running = new Map<string, number>();
  /** By job; the one that had no turn for longest stands first. */
  readonly #waiting = new Map<string, WaitingJob>();
  #sum = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Waits for a turn and runs `work` in it. Null: `signal` was aborted before it began. */
  async run<T>(owner: TurnOwner, signal: AbortSignal, work: () => Promise<T>): Promise<T | null> {
    if (signal.aborted || !(await this.#take(owner, signal))) return null;
    try {
      return await work();
    } finally {
      this.#count(owner, -1);
      this.#next();
    }
  }

  async #take(owner: TurnOwner, signal: AbortSignal): Promise<boolean> {
    if (this.#sum < this.#limit) {
      this.#count(owner, 1);
      return true;
    }
    return new Promise((resolve) => {
      const job = this.#waiting.get(owner.id) ?? { owner, files: new Set() };
      this.#waiting.set(owner.id, job);
      const leave = (): void => waiting.end(false);
      const waiting: Waiting = {
        end: (granted) => {
          signal.removeEventListener('abort', leave);
          job.files.delete(waiting);
          if (job.files.size === 0 && this.#waiting.get(owner.id) === job) this.#waiting.delete(owner.id);
          resolve(granted);
        },
      };
      job.files.add(waiting);
      signal.addEventListener('abort', leave);
    });
  }

  #next(): void {
    while (this.#sum < this.#limit) {
      let best: WaitingJob | null = null;
      for (const job of this.#waiting.values()) {
        if (best === null || this.#isBefore(job.owner, best.owner)) best = job;
      }
      if (best === null) return;
      const { owner, files } = best;
      this.#waiting.delete(owner.id);
      this.#waiting.set(owner.id, best);
      this.#count(owner, 1);
      const [first] = files;
      first?.end(true);
    }
  }

  #isBefore(one: TurnOwner, other: TurnOwner): boolean {
    const more = this.#runningOf(`of ${one.principal}`) - this.#runningOf(`of ${other.principal}`);
    return more === 0 ? this.#runningOf(one.id) < this.#runningOf(other.id) : more < 0;
  }

  #runningOf(key: string): number {
    return this.#running.get(key) ?? 0;
  }

  #count({ id, principal }: TurnOwner, change: number): void {
    this.#sum += change;
    for (const key of [id, `of ${principal}`]) {
      const running = this.#runningOf(key) + change;
      if (running === 0) this.#running.delete(key);
      else this.#running.set(key, running);
    }
  }
}
