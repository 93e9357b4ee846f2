import { performance } from 'node:perf_hooks';

export const MIN_WINDOW = 8;
export const MAX_WINDOW = 64;

/** A round trip this much over four times the usual one means a queue on the way, not the noise of one reply. */
const SLACK_MS = 50;

/**
 * How many calls may be in flight on one connection. Starts at 8; doubles per round trip while it is the limit
 * and nothing speaks against it, then grows by one per round trip; halves when the server says "try later",
 * does not answer, or takes much longer than it used to. Never leaves 8 to 64.
 */
export class AdaptiveWindow {
  size = MIN_WINDOW;
  #doubling = true;
  #credit = 0;
  #smoothedMs = 0;
  #usualMs = Number.POSITIVE_INFINITY;
  #shrunkAt = Number.NEGATIVE_INFINITY;
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /**
   * A reply came.
   * @param full true if the window was the limit
   * @param roundTripMs null for calls whose duration is the storage's, not the way's
   */
  replied(full: boolean, roundTripMs: number | null): void {
    if (roundTripMs !== null) {
      if (this.#usualMs === Number.POSITIVE_INFINITY) this.#smoothedMs = roundTripMs;
      else this.#smoothedMs += (roundTripMs - this.#smoothedMs) / 8;
      // The usual follows upwards slowly, so that a target that stays slower is taken as it is in the end.
      if (this.#smoothedMs < this.#usualMs) this.#usualMs = this.#smoothedMs;
      else this.#usualMs += (this.#smoothedMs - this.#usualMs) / 4096;
      if (this.#smoothedMs > 4 * this.#usualMs + SLACK_MS) {
        this.congested();
        return;
      }
    }
    if (!full || this.size >= MAX_WINDOW) return;
    this.#credit += this.#doubling ? 1 : 1 / this.size;
    if (this.#credit >= 1) {
      this.size++;
      this.#credit -= 1;
    }
  }

  /** "Try later", a time-out, or rising round trips. Counts once per round trip, whatever the number of replies. */
  congested(): void {
    const now = this.#now();
    if (now - this.#shrunkAt < Math.max(100, this.#smoothedMs)) return;
    this.#shrunkAt = now;
    this.#doubling = false;
    this.#credit = 0;
    this.size = Math.max(MIN_WINDOW, this.size >> 1);
  }
}
