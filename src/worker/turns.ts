/** Files beyond the window that the chunks in hand should have: these are looked up while others are flushed. */
const AHEAD_FILES = 64;
/** How long a chunk waits for its turn at most. */
const LONGEST_WAIT_MS = 100;

/**
 * Lets the chunks that share a session begin one after the other, each when those before it can no longer fill the
 * window alone. All at once, every one would keep a window's worth of files in hand that wait for slots, for nothing
 * but a larger heap to collect. A chunk waits for a moment only: where flushes are slow, a small one must not have to
 * wait for a large one, and where they are fast a moment is long.
 */
export class Turns {
  readonly #window: () => number;
  readonly #waiting = new Set<() => void>();
  #inHand = 0;

  /** @param window files that can be flushed at a time */
  constructor(window: () => number) {
    this.#window = window;
  }

  /** Resolves when a chunk of so many files may begin; each of them is to be told by `ended`. */
  async take(files: number): Promise<void> {
    if (this.#waiting.size > 0 || this.#isFull) {
      await new Promise<void>((resolve) => {
        const go = (): void => {
          clearTimeout(timer);
          this.#waiting.delete(go);
          resolve();
        };
        const timer = setTimeout(go, LONGEST_WAIT_MS);
        this.#waiting.add(go);
      });
    }
    this.#inHand += files;
  }

  ended(files: number): void {
    this.#inHand -= files;
    if (this.#isFull) return;
    for (const next of this.#waiting) {
      next();
      return;
    }
  }

  get #isFull(): boolean {
    return this.#inHand > 0 && this.#inHand >= this.#window() + AHEAD_FILES;
  }
}
