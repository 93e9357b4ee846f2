import type { FileResult } from '../model/file-result.js';
import type { ChunkWork } from '../store/chunk-work.js';
import type { ChunkRun, RecordReply } from '../store/work.js';

const BATCH_FILES = 512;
const BATCH_MS = 100;

export interface BatchEvents {
  /** Another batch is in the store. */
  recorded(reply: RecordReply, files: number): void;
  /** The store would not take one: nothing more is recorded, and `end` rejects. */
  failed(): void;
}

/** Writes a chunk's outcomes to the store as they come, many at a time and one batch after the other. */
export class OutcomeBatches {
  readonly #chunks: Pick<ChunkWork, 'record'>;
  readonly #run: ChunkRun;
  readonly #events: BatchEvents;
  #waiting: FileResult[] = [];
  #sending: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;
  #failure: { error: unknown } | null = null;

  constructor(chunks: Pick<ChunkWork, 'record'>, run: ChunkRun, events: BatchEvents) {
    this.#chunks = chunks;
    this.#run = run;
    this.#events = events;
  }

  add(result: FileResult): void {
    this.#waiting.push(result);
    if (this.#waiting.length >= BATCH_FILES) this.#send();
    else this.#timer ??= setTimeout(() => this.#send(), BATCH_MS);
  }

  /** Resolves when all is in the store. @throws what the store threw */
  async end(): Promise<void> {
    while (this.#failure === null && (this.#waiting.length > 0 || this.#sending !== null)) {
      this.#send();
      await this.#sending;
    }
    clearTimeout(this.#timer);
    if (this.#failure !== null) throw this.#failure.error;
  }

  #send(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#sending !== null || this.#failure !== null || this.#waiting.length === 0) return;
    const batch = this.#waiting.slice(0, BATCH_FILES);
    this.#waiting = this.#waiting.slice(BATCH_FILES);
    this.#sending = this.#chunks
      .record(this.#run, batch)
      .then(
        (reply) => this.#events.recorded(reply, batch.length),
        (error: unknown) => {
          this.#failure = { error };
          this.#events.failed();
        },
      )
      .finally(() => {
        this.#sending = null;
        // What came meanwhile has waited long enough.
        this.#send();
      });
  }
}
