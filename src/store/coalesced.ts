import { setTimeout as delay } from 'node:timers/promises';

/**
 * Reads that many ask for, made once for all of them. Nobody is given what was read before he asked: who comes while a
 * read is under way, or too soon after it began, waits for the next one, together with all who come until then. So the
 * reads of one key are bounded, however many ask.
 */
export class Coalesced<T> {
  readonly #read: (key: string) => Promise<T>;
  readonly #apartMs: number;
  /** Resolved when the key may be read again. */
  readonly #free = new Map<string, Promise<void>>();
  readonly #next = new Map<string, Promise<T>>();

  /** @param apartMs between the beginnings of two reads of a key, at least */
  constructor(read: (key: string) => Promise<T>, apartMs: number) {
    this.#read = read;
    this.#apartMs = apartMs;
  }

  get(key: string): Promise<T> {
    const waiting = this.#next.get(key);
    if (waiting !== undefined) return waiting;
    const free = this.#free.get(key);
    if (free === undefined) return this.#start(key);
    const next = free.then(() => this.#start(key));
    this.#next.set(key, next);
    return next;
  }

  #start(key: string): Promise<T> {
    this.#next.delete(key);
    const read = this.#read(key);
    const free = Promise.allSettled([read, delay(this.#apartMs)]);
    this.#free.set(
      key,
      free.then(() => void this.#free.delete(key)),
    );
    return read;
  }
}
