/**
 * Reads that many ask for at the same time, made once for all of them. Nobody is given what was read before he asked:
 * who comes while a read is under way waits for the next one, together with all who come until then.
 */
export class Coalesced<T> {
  readonly #read: (key: string) => Promise<T>;
  readonly #running = new Map<string, Promise<T>>();
  readonly #next = new Map<string, Promise<T>>();

  constructor(read: (key: string) => Promise<T>) {
    this.#read = read;
  }

  get(key: string): Promise<T> {
    const waiting = this.#next.get(key);
    if (waiting !== undefined) return waiting;
    const running = this.#running.get(key);
    if (running === undefined) return this.#start(key);
    const next = running.then(
      () => this.#start(key),
      () => this.#start(key),
    );
    this.#next.set(key, next);
    return next;
  }

  #start(key: string): Promise<T> {
    this.#next.delete(key);
    const read = this.#read(key).finally(() => {
      if (this.#running.get(key) === read) this.#running.delete(key);
    });
    this.#running.set(key, read);
    return read;
  }
}
