/** Signals listened to before it is looked which of them are still in use. */
const SWEEP_AT = 64;

/** One listener for each signal, however many calls carry it. */
export class AbortListeners {
  readonly #listeners = new Map<AbortSignal, () => void>();
  readonly #onAbort: (signal: AbortSignal) => void;
  readonly #inUse: () => ReadonlySet<AbortSignal | undefined>;
  #sweepAt = SWEEP_AT;

  /**
   * @param onAbort called once for each signal that is aborted
   * @param inUse the signals of all calls that wait or are in flight
   */
  constructor(onAbort: (signal: AbortSignal) => void, inUse: () => ReadonlySet<AbortSignal | undefined>) {
    this.#onAbort = onAbort;
    this.#inUse = inUse;
  }

  /** Listens to a signal, if it is not listened to yet. */
  add(signal: AbortSignal): void {
    if (this.#listeners.has(signal)) return;
    if (this.#listeners.size >= this.#sweepAt) {
      this.sweep();
      this.#sweepAt = Math.max(SWEEP_AT, this.#listeners.size * 2);
    }
    const listener = () => {
      this.#listeners.delete(signal);
      this.#onAbort(signal);
    };
    this.#listeners.set(signal, listener);
    signal.addEventListener('abort', listener, { once: true });
  }

  /** Leaves the signals that no call carries any more. */
  sweep(): void {
    if (this.#listeners.size === 0) return;
    const used = this.#inUse();
    for (const [signal, listener] of this.#listeners) {
      if (used.has(signal)) continue;
      signal.removeEventListener('abort', listener);
      this.#listeners.delete(signal);
    }
  }

  /** Leaves all. */
  clear(): void {
    for (const [signal, listener] of this.#listeners) signal.removeEventListener('abort', listener);
    this.#listeners.clear();
  }
}
