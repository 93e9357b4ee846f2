/** Time as the throttles see it; tests give one that they turn by hand. */
export interface Clock {
  /** Milliseconds from any fixed moment on; never goes back. */
  nowMs(): number;
  /** Resolves after `ms` milliseconds, or at once when `wake` is aborted. Never rejects. */
  wait(ms: number, wake: AbortSignal): Promise<void>;
}

/** setTimeout takes no more than 2^31 - 1 ms; whoever waits looks again afterwards anyway. */
const LONGEST_WAIT_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wait: (ms, wake) =>
    new Promise((resolve) => {
      if (wake.aborted) return resolve();
      const done = (): void => {
        clearTimeout(timer);
        wake.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, Math.min(Math.ceil(ms), LONGEST_WAIT_MS));
      wake.addEventListener('abort', done);
    }),
};
