import type { FileTask } from './file-task.js';
import type { FlushSession } from './session.js';

/** Tells when a target has left files without any answer for too long. */
export class SilenceWatch {
  readonly #session: FlushSession;
  readonly #holdAfterMs: number;
  /** Date.now() since when some file waits for an answer; 0: none does. */
  #askingSince = 0;
  #probing = false;

  constructor(session: FlushSession, holdAfterMs: number) {
    this.#session = session;
    this.#holdAfterMs = holdAfterMs;
  }

  /** To be asked now and then: true once these files have waited for any answer of the target for `holdAfterMs`. */
  isTooLong(tasks: readonly FileTask[], now: number): boolean {
    if (!tasks.some(isAsking)) {
      this.#askingSince = 0;
      return false;
    }
    if (this.#askingSince === 0) this.#askingSince = now;
    const silentMs = now - Math.max(this.#askingSince, this.#session.answeredAt);
    if (silentMs >= this.#holdAfterMs / 2) this.#probe(now);
    return silentMs >= this.#holdAfterMs;
  }

  /** A synchronous flush may be silent for long. What a living server answers at once tells that it lives. */
  #probe(now: number): void {
    if (this.#probing) return;
    this.#probing = true;
    const probed = (): void => {
      this.#probing = false;
    };
    this.#session.probe(now + this.#holdAfterMs).then(probed, probed);
  }
}

function isAsking(task: FileTask): boolean {
  switch (task.activity) {
    case 'mounting':
    case 'resolving':
      return true;
    case 'flushing':
      return task.calling !== null;
    case 'backing-off':
      return task.retries?.sawTargetAway === true;
    case 'waiting':
      return false;
  }
}
