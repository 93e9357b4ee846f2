import type { Part, TransferOrders, TransferWork } from '../store/transfers.js';
import type { TransferWorkJob } from '../store/work.js';

const REPORT_MS = 250;
/** How soon orders are heard of at the latest, should a message have been lost. */
const ASK_MS = 1000;

export interface ProgressEvents {
  /** What the job asks now. */
  orders(orders: TransferOrders): void;
  /** The store would not take a report: nothing more is reported. */
  failed(error: unknown): void;
}

/** Tells the store how far the copies of a chunk are, many at a time, and hears what the job asks. */
export class TransferProgress {
  readonly #store: Pick<TransferWork, 'report' | 'keepParts'>;
  readonly #job: TransferWorkJob;
  readonly #events: ProgressEvents;
  readonly #begins: boolean;
  #parts = new Map<number, Part>();
  readonly #left = new Map<number, Part>();
  #sending: Promise<void> | null = null;
  #reportedAt = 0;
  #failed = false;
  readonly #timer: NodeJS.Timeout;

  /** @param begins whether a pending file becomes active by its first report */
  constructor(
    store: Pick<TransferWork, 'report' | 'keepParts'>,
    job: TransferWorkJob,
    events: ProgressEvents,
    begins = false,
  ) {
    this.#store = store;
    this.#job = job;
    this.#events = events;
    this.#begins = begins;
    this.#timer = setInterval(() => {
      if (this.#parts.size > 0 || Date.now() - this.#reportedAt >= ASK_MS) this.#send();
    }, REPORT_MS);
  }

  /** Is told with the next report. */
  set(index: number, part: Part): void {
    this.#parts.set(index, { ...part });
  }

  /** Its temporary file cannot be removed now: told when the file has ended. */
  leave(index: number, part: Part): void {
    this.#left.set(index, part);
  }

  /** After all ends are recorded: whoever cleans up later finds what was left. */
  async tellLeft(): Promise<void> {
    if (this.#left.size > 0) await this.#store.keepParts(this.#job, this.#left);
  }

  /** Nothing more is told of this file. */
  drop(index: number): void {
    this.#parts.delete(index);
  }

  /** Resolves when the store knows what was set, or when `signal` is aborted. */
  async stored(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    let leave = (): void => undefined;
    const aborted = new Promise<void>((resolve) => {
      leave = resolve;
      signal.addEventListener('abort', leave, { once: true });
    });
    // The report under way does not have it yet; the next one, whoever sends it, does.
    await Promise.race([this.#sending, aborted]);
    if (!signal.aborted && this.#parts.size > 0) this.#send();
    await Promise.race([this.#sending, aborted]);
    signal.removeEventListener('abort', leave);
  }

  /** Tells what was not told yet. Never rejects. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    while (!this.#failed && (this.#parts.size > 0 || this.#sending !== null)) {
      this.#send();
      await this.#sending;
    }
  }

  #send(): void {
    if (this.#sending !== null || this.#failed) return;
    const parts = this.#parts;
    this.#parts = new Map();
    this.#reportedAt = Date.now();
    this.#sending = this.#store
      .report(this.#job, parts, this.#begins)
      .then(
        (orders) => this.#events.orders(orders),
        (error: unknown) => {
          this.#failed = true;
          this.#events.failed(error);
        },
      )
      .finally(() => {
        this.#sending = null;
      });
  }
}
