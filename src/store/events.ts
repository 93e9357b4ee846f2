import { type Connection, connectWaiting, disconnect, type RedisTarget } from './connect.js';

type Listener = (message: string) => void;

/**
 * One subscription connection per process, opened when the first listener comes. Messages can be lost while Redis is
 * away, so whoever listens also looks from time to time; after a reconnect `onResync` says that now is a good time.
 */
export class Subscriptions {
  readonly #target: RedisTarget;
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #resync = new Set<() => void>();
  #connection: Connection | null = null;
  #closed = false;

  constructor(target: RedisTarget) {
    this.#target = target;
  }

  /** @returns what ends it */
  listen(channel: string, listener: Listener, onResync?: () => void): () => void {
    if (this.#closed) return () => {};
    let listeners = this.#listeners.get(channel);
    if (!listeners) {
      listeners = new Set();
      this.#listeners.set(channel, listeners);
      // Waits in ioredis's offline queue while Redis is away; rejected only by close().
      this.#connect()
        .subscribe(channel)
        .then(
          () => {
            for (const resync of this.#resync) resync();
          },
          () => {},
        );
    }
    listeners.add(listener);
    if (onResync) this.#resync.add(onResync);
    return () => {
      listeners.delete(listener);
      if (onResync) this.#resync.delete(onResync);
    };
  }

  close(): void {
    this.#closed = true;
    this.#listeners.clear();
    this.#resync.clear();
    if (this.#connection) disconnect(this.#connection);
  }

  #connect(): Connection {
    if (this.#connection) return this.#connection;
    const connection = connectWaiting(this.#target, 'writeback-events');
    connection.on('message', (channel: string, message: string) => {
      for (const listener of this.#listeners.get(channel) ?? []) listener(message);
    });
    connection.on('ready', () => {
      for (const resync of this.#resync) resync();
    });
    this.#connection = connection;
    return connection;
  }
}
