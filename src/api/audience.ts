import { setImmediate as nextTurn } from 'node:timers/promises';

/** Others wait no longer than the answers to so many listeners take: some milliseconds. */
const TOLD_AT_ONCE = 25;

/** Listeners that wait until there is something to tell them. */
export class Audience<News> {
  readonly #waiting = new Set<Seat<News>>();

  /** @param signal of the listener, aborted when it leaves or has listened long enough */
  enter(signal: AbortSignal): Seat<News> {
    return new Seat(this.#waiting, signal);
  }

  /** Ends the waiting of all who wait now. Resolves when all of them have been told. */
  async tell(news: News): Promise<void> {
    const seats = [...this.#waiting];
    for (let first = 0; first < seats.length; first += TOLD_AT_ONCE) {
      for (const seat of seats.slice(first, first + TOLD_AT_ONCE)) seat.end(news);
      // What they send is written before this goes on.
      await nextTurn();
    }
  }
}

/** One listener's. An event costs it no listener of its signal: with hundreds of listeners that would cost most of all. */
export class Seat<News> {
  readonly #waiting: Set<Seat<News>>;
  readonly #signal: AbortSignal;
  readonly #leave = (): void => this.end(null);
  #resolve: (news: News | null) => void = () => {};
  #timer: NodeJS.Timeout | undefined;

  constructor(waiting: Set<Seat<News>>, signal: AbortSignal) {
    this.#waiting = waiting;
    this.#signal = signal;
    signal.addEventListener('abort', this.#leave);
  }

  /** @returns null: nothing was told in the time, or the listener has left */
  wait(timeoutMs: number): Promise<News | null> {
    return new Promise((resolve) => {
      if (this.#signal.aborted) {
        resolve(null);
        return;
      }
      this.#resolve = resolve;
      this.#timer = setTimeout(this.#leave, timeoutMs);
      this.#timer.unref();
      this.#waiting.add(this);
    });
  }

  end(news: News | null): void {
    clearTimeout(this.#timer);
    this.#waiting.delete(this);
    this.#resolve(news);
  }

  /** When its listener is told nothing any more. */
  leave(): void {
    this.#signal.removeEventListener('abort', this.#leave);
    this.end(null);
  }
}
