import type { FlushFile } from './types.js';

/** Who takes the files of an input. */
export interface InputOwner {
  /** False: nothing more is read until `read` is called again. */
  readonly hasRoom: boolean;
  accept(file: FlushFile): void;
  /** The input is over, by this error of its own. */
  inputFailed(error: unknown): void;
  /** An answer that had been waited for is dealt with. */
  inputAnswered(): void;
}

/** Reads an iterable of either kind, lazily and one file after the other. */
export class FileInput {
  readonly #files: Iterable<FlushFile> | AsyncIterable<FlushFile>;
  readonly #owner: InputOwner;
  #iterator: Iterator<FlushFile> | AsyncIterator<FlushFile> | null = null;
  #isAsync = false;
  #reading = false;
  #ended = false;

  constructor(files: Iterable<FlushFile> | AsyncIterable<FlushFile>, owner: InputOwner) {
    this.#files = files;
    this.#owner = owner;
  }

  get opened(): boolean {
    return this.#iterator !== null;
  }

  /** Nothing more comes. */
  get ended(): boolean {
    return this.#ended;
  }

  open(): void {
    if (Symbol.asyncIterator in this.#files) {
      this.#iterator = this.#files[Symbol.asyncIterator]();
      this.#isAsync = true;
    } else {
      this.#iterator = this.#files[Symbol.iterator]();
    }
  }

  /** Hands over files while there is room; of an asynchronous input as they come. Never throws. */
  read(): void {
    if (this.#reading || this.#ended || this.#iterator === null) return;
    this.#reading = true;
    try {
      while (this.#owner.hasRoom && !this.#ended) {
        const next = this.#iterator.next();
        if (this.#isAsync) {
          (next as Promise<IteratorResult<FlushFile>>).then(this.#onAnswer, this.#onFailure);
          return;
        }
        this.#take(next as IteratorResult<FlushFile>);
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#reading = false;
  }

  /** Reads no further. Not waited for: an input that stalls must not hold up the end, and nobody is left for its error. */
  giveUp(): void {
    if (this.#ended) return;
    this.#ended = true;
    const returned = this.#iterator?.return?.();
    if (this.#isAsync) (returned as Promise<unknown> | undefined)?.then(undefined, () => undefined);
  }

  readonly #onAnswer = (next: IteratorResult<FlushFile>) => {
    this.#reading = false;
    // It was given up meanwhile.
    if (this.#ended) return;
    try {
      this.#take(next);
    } catch (error) {
      this.#fail(error);
    }
    this.read();
    this.#owner.inputAnswered();
  };

  readonly #onFailure = (error: unknown) => {
    this.#reading = false;
    this.#fail(error);
    this.#owner.inputAnswered();
  };

  #take(next: IteratorResult<FlushFile>): void {
    if (next.done) this.#ended = true;
    else this.#owner.accept(next.value);
  }

  #fail(error: unknown): void {
    this.#ended = true;
    this.#owner.inputFailed(error);
  }
}
