interface Taker<T> {
  resolve: (result: IteratorResult<T>) => void;
  reject: (error: unknown) => void;
}

/** Values that come by themselves → an async iteration. Bounded by whoever puts them in, who looks at `length`. */
export class OutcomeQueue<T> {
  #values: T[] = [];
  #head = 0;
  readonly #takers: Taker<T>[] = [];
  #ended = false;
  #error: { value: unknown } | null = null;

  /** Values that nobody has taken yet. */
  get length(): number {
    return this.#values.length - this.#head;
  }

  push(value: T): void {
    const taker = this.#takers.shift();
    if (taker === undefined) this.#values.push(value);
    else taker.resolve({ done: false, value });
  }

  take(): Promise<IteratorResult<T>> {
    if (this.#head < this.#values.length) {
      const value = this.#values[this.#head++] as T;
      if (this.#head === this.#values.length) this.clear();
      return Promise.resolve({ done: false, value });
    }
    return new Promise((resolve, reject) => {
      this.#takers.push({ resolve, reject });
      this.#settle();
    });
  }

  clear(): void {
    this.#values = [];
    this.#head = 0;
  }

  /** No more values come. The error, if there is one, is thrown once, after the values that are there. */
  end(error: { value: unknown } | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#settle();
  }

  #settle(): void {
    if (!this.#ended) return;
    for (const { resolve, reject } of this.#takers.splice(0)) {
      const error = this.#error;
      this.#error = null;
      if (error === null) resolve({ done: true, value: undefined });
      else reject(error.value);
    }
  }
}
