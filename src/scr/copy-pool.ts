import type { EntryCopy } from './entry-copy.js';
import type { Entry } from './transfer-list.js';

export type CopyableEntry = Entry & { destination: string };

export interface CopyPoolOptions {
  filesAtOnce: number;
  /** Ends the starting of copies. */
  signal: AbortSignal;
  begin(entry: CopyableEntry): EntryCopy;
}

/** The copies under way, so many at the same time, and those that ended until that is recorded. */
export class CopyPool {
  readonly #options: CopyPoolOptions;
  readonly #copies = new Map<string, EntryCopy>();
  /** The next one is the last. */
  #queue: CopyableEntry[] = [];
  #running = 0;

  constructor(options: CopyPoolOptions) {
    this.#options = options;
  }

  /** Copies that have not ended. */
  get running(): number {
    return this.#running;
  }

  [Symbol.iterator](): IterableIterator<EntryCopy> {
    return this.#copies.values();
  }

  /** The copy of a source: under way, or ended and not recorded. */
  of(source: string): EntryCopy | undefined {
    return this.#copies.get(source);
  }

  /** After what became of it was recorded. */
  forget(copy: EntryCopy): void {
    this.#copies.delete(copy.source);
  }

  /** What is to be copied from now on, in this order, instead of what was queued before. */
  setQueue(entries: readonly CopyableEntry[]): void {
    this.#queue = [...entries].reverse();
  }

  start(): void {
    const { filesAtOnce, signal, begin } = this.#options;
    while (this.#running < filesAtOnce && !signal.aborted) {
      const entry = this.#queue.pop();
      if (entry === undefined) return;
      const copy = begin(entry);
      this.#copies.set(copy.source, copy);
      this.#running++;
      void copy.ended.then(() => {
        this.#running--;
        this.start();
      });
    }
  }

  /** Starts nothing more, and resolves when every burst under way is durable and its file is closed. */
  async stop(): Promise<void> {
    this.#queue = [];
    for (const copy of this.#copies.values()) copy.stop();
    await Promise.all([...this.#copies.values()].map((copy) => copy.ended));
  }
}
