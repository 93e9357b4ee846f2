/** Listeners that wait until there is something to tell them. */
export class Audience {
  readonly #waiting = new Set<Seat>();

  /** @param signal of the listener, aborted when it leaves or has listened long enough */
  enter(signal: AbortSignal): Seat {
    return new Seat(this.#waiting, signal);
  }

  /** Ends the waiting of all who wait now. */
  wake(): void {
    for (const seat of [...this.#waiting]) seat.end(true);
  }
}

/** One listener's. An event costs it no listener of its signal: with hundreds of listeners that would cost most of all. */
export class Seat {
  readonly #waiting: Set<Seat>;
  readonly #signal: AbortSignal;
  readonly #leave = (): void => this.end(false);
  #resolve: (woken: boolean) => void = () => {};
  #timer: NodeJS.Timeout | undefined;

  constructor(waiting: Set<Seat>, signal: AbortSignal) {
    this.#waiting = waiting;
    this.#signal = signal;
    signal.addEventListener('abort', this.#leave);
  }

  /** @returns false: nobody was woken in the time, or the listener has left */
  wait(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.#signal.aborted) {
        resolve(false);
        return;
      }
      this.#resolve = resolve;
      this.#timer = setTimeout(this.#leave, timeoutMs);
      this.#timer.unref();
      this.#waiting.add(this);
    });
  }

  end(woken: boolean): void {
    clearTimeout(this.#timer);
    this.#waiting.delete(this);
    this.#resolve(woken);
  }

  /** When its listener is told nothing any more. */
  leave(): void {
    this.#signal.removeEventListener('abort', this.#leave);
    this.end(false);
  }
}
