import type { ServerResponse } from 'node:http';
import { BrokerError } from '../model/errors.js';

/** The long-polls that are waiting: at most so many, each with an end, all released together. */
export class Waiters {
  readonly #max: number;
  readonly #waiting = new Set<AbortController>();
  #released = false;

  constructor(max: number) {
    this.#max = max;
  }

  get count(): number {
    return this.#waiting.size;
  }

  /**
   * Runs `wait` with a signal that aborts after `timeoutMs`, when the client leaves, or at `releaseAll`.
   * @throws {BrokerError} TOO_MANY_WAITERS, or what `wait` throws
   */
  async run(
    timeoutMs: number,
    response: ServerResponse,
    wait: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    // A client that has left already would not tell again.
    if (this.#released || response.destroyed) return;
    const place = this.enter(timeoutMs, response);
    try {
      await wait(place.signal);
    } finally {
      place.leave();
    }
  }

  /**
   * A place among those that wait, until `leave` or the end of the answer. Its signal aborts as that of `run`.
   * @throws {BrokerError} TOO_MANY_WAITERS
   */
  enter(timeoutMs: number, response: ServerResponse): { signal: AbortSignal; leave: () => void } {
    if (this.#waiting.size >= this.#max) {
      throw new BrokerError(
        'TOO_MANY_WAITERS',
        `${this.#max} requests are waiting already. Ask again without "Prefer: wait", or later.`,
        { retryAfterSeconds: 2 },
      );
    }
    const controller = new AbortController();
    const abort = () => controller.abort();
    const closed = () => {
      abort();
      leave();
    };
    const timer = setTimeout(abort, timeoutMs);
    response.once('close', closed);
    this.#waiting.add(controller);
    if (this.#released || response.destroyed) abort();
    const leave = () => {
      clearTimeout(timer);
      response.off('close', closed);
      this.#waiting.delete(controller);
    };
    return { signal: controller.signal, leave };
  }

  /** Everybody gets an answer now, and nobody waits any more. */
  releaseAll(): void {
    this.#released = true;
    for (const controller of this.#waiting) controller.abort();
  }
}
