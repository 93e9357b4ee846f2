import type { FileErrorCode } from '../model/errors.js';
import type { FileResult } from '../model/file-result.js';

/** Faults of the storage behind a cache: the cache answers, and every file may be met alike. */
const STORAGE_FAULTS: ReadonlySet<FileErrorCode> = new Set(['EIO', 'ENXIO', 'ENOSPC', 'ESERVERFAULT']);

export interface CircuitBreakerOptions {
  /** Faults in a row after which it opens; null: it never does. */
  faults: number | null;
  /** Nothing more should be sent for now. Not told again before `tried`. */
  onOpen: (code: FileErrorCode, message: string) => void;
  /** A file was flushed although the circuit was open. */
  onClose: () => void;
}

/**
 * Watches how the files of one cache fare in this process. Faults count one by one, whether a file is tried again or
 * fails; a file that is flushed takes the count back to nothing. So a core filer that has gone bad stops the queue
 * before its files have used up their tries, and a bad file among good ones does not.
 */
export class CircuitBreaker {
  readonly #options: CircuitBreakerOptions;
  #faults: number | null;
  #inRow = 0;
  #open = false;
  #trial = false;

  constructor(options: CircuitBreakerOptions) {
    this.#options = options;
    this.#faults = options.faults;
  }

  set faults(faults: number | null) {
    this.#faults = faults;
  }

  /** The store says whether the circuit is open: what runs nevertheless is a trial, and one file that fails ends it. */
  set trial(trial: boolean) {
    this.#trial = trial;
  }

  /** A fault was met with another try; in a trial a file may have all of its tries. */
  retried(code: FileErrorCode): void {
    if (!this.#trial) this.#fault(code, 'the storage behind the cache reports it again and again');
  }

  ended({ state, lastError }: FileResult): void {
    if (state === 'succeeded') {
      this.#inRow = 0;
      if (!this.#trial) return;
      this.#trial = false;
      this.#options.onClose();
    } else if (state === 'failed' && lastError !== null) {
      this.#fault(lastError.code, lastError.message);
    }
  }

  /** What `onOpen` asked for is done; the next fault counts anew. */
  opened(): void {
    this.#open = false;
    this.#inRow = 0;
  }

  #fault(code: FileErrorCode, message: string): void {
    if (this.#faults === null || this.#open || !STORAGE_FAULTS.has(code)) return;
    this.#inRow++;
    if (!this.#trial && this.#inRow < this.#faults) return;
    this.#open = true;
    this.#options.onOpen(code, message);
  }
}
