import type { Fault, RetryPolicy } from './fault.js';

/** What has been tried against the faults of one file, and whether to try again. Made with the first fault. */
export class Retries {
  readonly #policy: Readonly<RetryPolicy>;
  #few = 0;
  #later = 0;
  #lookups = 0;
  #remounts = 0;
  #away = 0;

  constructor(policy: Readonly<RetryPolicy>) {
    this.#policy = policy;
  }

  /** The target did not answer at least once. */
  get sawTargetAway(): boolean {
    return this.#away > 0;
  }

  /**
   * How long to wait before the next try, or null: no more tries.
   * @param attempts how often a flush of the file was begun
   */
  pauseMs(fault: Fault, attempts: number): number | null {
    const policy = this.#policy;
    switch (fault.remedy) {
      case 'none':
      case 'target-refuses':
        return null;
      case 'few':
        this.#few++;
        return this.#few < policy.fewTries ? policy.fewMinMs * 3 ** (this.#few - 1) : null;
      case 'later':
        return Math.min(policy.laterMinMs * 2 ** this.#later++, policy.laterMaxMs);
      case 'lookup':
        return this.#lookups++ === 0 ? 0 : null;
      case 'remount':
        return this.#remounts++ === 0 ? 0 : null;
      case 'restart':
        return attempts < policy.restartTries ? policy.restartMinMs * 2 ** Math.max(0, attempts - 1) : null;
      case 'target-away':
        return Math.min(policy.awayMinMs * 2 ** this.#away++, policy.awayMaxMs);
      case 'again':
        return 1;
    }
  }
}
