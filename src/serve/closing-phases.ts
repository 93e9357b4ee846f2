import type { Logger } from 'pino';

/** The steps of an orderly end: each has its time, and what fails or takes longer keeps none of those behind it waiting. */
export class ClosingPhases {
  readonly #log: Logger;
  #inTime = true;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** True if every phase so far has ended in order. */
  get inTime(): boolean {
    return this.#inTime;
  }

  /** Resolves when the work is done, has failed, or is late; one that resolves to false has not ended in order either. */
  async run(name: string, timeoutMs: number, work: () => Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
      timer.unref();
    });
    const done = work().then(
      (result) => result !== false,
      (error: unknown) => {
        this.#log.warn({ err: error }, `end: ${name} failed`);
        return false;
      },
    );
    const inOrder = await Promise.race([done, late]);
    clearTimeout(timer);
    if (inOrder) return;
    this.#inTime = false;
    this.#log.warn({ timeoutMs }, `end: ${name} did not end in order`);
  }
}
