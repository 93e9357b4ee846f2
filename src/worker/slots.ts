import type { Logger } from 'pino';
import type { SessionCounters } from '../flush/session.js';
import type { CacheLimits } from '../model/cache.js';
import type { CacheWork } from '../store/cache-work.js';
import type { CacheLoad } from './observer.js';

/** What runs on one session of the cache: how much it could do, and what it may. */
export interface SlotUser {
  /** Files in hand that have not ended. */
  wanted: number;
  readonly session: {
    inFlight: number;
    counters(): Pick<SessionCounters, 'outstanding'> & Partial<SessionCounters>;
  };
}

export interface SlotOptions {
  caches: Pick<CacheWork, 'leaseSlots'>;
  queue: string;
  workerId: string;
  /** The configuration, which an operator may have overruled. */
  configured: CacheLimits;
  log: Logger;
  /** What is in force has changed; told before the first slots are given out. */
  onFilesPerSecond: (filesPerSecond: number | null) => void;
  /** Whether slots are for a trial; told before they are given out. */
  onTrial: (trial: boolean) => void;
  /** The cache is paused: nothing may begin until it is resumed. */
  onPaused: () => void;
}

const RENEW_MS = 2000;
/** Another worker may free slots at any time; how soon to ask again with fewer than could be used, and with none. */
const SHORT_MS = 500;
const STARVED_MS = 100;
/** How long slots are kept without work: the next chunk is often there at once. */
const LINGER_MS = 100;
/** How often slots are moved between sessions while one still uses what is another's by now. */
const REBALANCE_MS = 20;

/**
 * This process's share of the flushes that may be outstanding on a cache: leased from the store, renewed while there is
 * work, divided among the sessions that flush there. Never are more outstanding than leased, except after a lease ran
 * out unrenewed: then nothing begins until there is another.
 */
export class CacheSlots {
  readonly #options: SlotOptions;
  readonly #users = new Set<SlotUser>();
  #configured: CacheLimits;
  /** As the store last told it. */
  #inForce: CacheLimits;
  #slots = 0;
  /** Slots that the newest question wanted. */
  #asked = 0;
  #draining = false;
  #leasing: Promise<void> | null = null;
  #askAgain = false;
  /** Whether the store may hold a lease of ours. */
  #leased = false;
  #renewal: NodeJS.Timeout | undefined;
  #end: NodeJS.Timeout | undefined;
  #rebalance: NodeJS.Timeout | undefined;

  constructor(options: SlotOptions) {
    this.#options = options;
    this.#configured = options.configured;
    this.#inForce = options.configured;
  }

  /** The configuration has changed; in force by the next lease. */
  set configured(limits: CacheLimits) {
    this.#configured = limits;
  }

  /** Flushes of ours that are outstanding on the cache. */
  get outstanding(): number {
    let sum = 0;
    for (const { session } of this.#users) sum += session.counters().outstanding;
    return sum;
  }

  /** What the sessions have in hand now, in sum. */
  get load(): Pick<CacheLoad, 'sessions' | 'connections' | 'outstanding' | 'waiting'> {
    const load = { sessions: this.#users.size, connections: 0, outstanding: 0, waiting: 0 };
    for (const { session } of this.#users) {
      const { connections = 0, outstanding, waiting = 0 } = session.counters();
      load.connections += connections;
      load.outstanding += outstanding;
      load.waiting += waiting;
    }
    return load;
  }

  add(user: SlotUser): void {
    user.session.inFlight = 0;
    this.#users.add(user);
  }

  remove(user: SlotUser): void {
    user.session.inFlight = 0;
    this.#users.delete(user);
  }

  /** To be called when `wanted` of a user changed. */
  changed(): void {
    const useful = Math.min(this.#inForce.inFlight, this.#wanted());
    if (useful > this.#slots) {
      // Asked for and not given: the timer asks again.
      if (useful > this.#asked) this.#lease();
    } else if (useful === 0) {
      this.#renewIn(LINGER_MS);
    } else if (useful < this.#slots / 2) {
      this.#lease();
    }
    this.#divide();
  }

  /** Nothing begins any more; what is outstanding may end. */
  drain(): void {
    this.#draining = true;
    this.#divide();
  }

  /** After a drain that was for a while. */
  resume(): void {
    this.#draining = false;
    this.changed();
  }

  /** Gives the lease back. Waits no longer than Redis takes to answer; never rejects. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#slots = 0;
    this.#divide();
    await this.#leasing;
    for (const timer of [this.#renewal, this.#end, this.#rebalance]) clearTimeout(timer);
    if (!this.#leased) return;
    const { caches, queue, workerId, log } = this.#options;
    await caches.leaseSlots(queue, workerId, this.#configured, 0, 0).catch((error: unknown) => {
      log.debug({ err: error, queue }, 'slots were not given back; their lease runs out by itself');
    });
  }

  #wanted(): number {
    if (this.#draining) return 0;
    let sum = 0;
    for (const { wanted } of this.#users) sum += wanted;
    return sum;
  }

  #lease(): void {
    this.#askAgain = this.#leasing !== null;
    this.#leasing ??= this.#leaseOnce().finally(() => {
      this.#leasing = null;
      if (this.#askAgain) this.#lease();
    });
  }

  async #leaseOnce(): Promise<void> {
    clearTimeout(this.#renewal);
    this.#renewal = undefined;
    const { caches, queue, workerId, log, onPaused, onTrial } = this.#options;
    const inUse = this.outstanding;
    const wanted = Math.max(inUse, this.#wanted());
    this.#asked = wanted;
    try {
      const lease = await caches.leaseSlots(queue, workerId, this.#configured, inUse, wanted);
      const { slots, paused, limits, trial, validUntil } = lease;
      this.#leased = inUse + wanted > 0;
      this.#obey(limits);
      onTrial(trial);
      this.#slots = slots;
      clearTimeout(this.#end);
      this.#end = setTimeout(() => this.#voidLease(), Math.max(0, validUntil - Date.now()));
      this.#end.unref();
      this.#divide();
      if (paused && wanted > 0) onPaused();
      if (this.#leased)
        this.#renewIn(
          slots >= Math.min(wanted, limits.inFlight) ? RENEW_MS : slots > 0 ? SHORT_MS : STARVED_MS,
        );
    } catch (error) {
      log.warn({ err: error, queue }, 'slots could not be leased');
      this.#renewIn(RENEW_MS);
    }
  }

  #obey(limits: CacheLimits): void {
    const { filesPerSecond } = this.#inForce;
    this.#inForce = limits;
    if (limits.filesPerSecond !== filesPerSecond) this.#options.onFilesPerSecond(limits.filesPerSecond);
  }

  #renewIn(ms: number): void {
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => this.#lease(), ms);
    this.#renewal.unref();
  }

  #voidLease(): void {
    this.#slots = 0;
    this.#divide();
  }

  /** Max-min fair: small wishes in full, the rest in equal parts. */
  #divide(): void {
    if (this.#users.size === 1) {
      // Nobody to share with; and this runs for each file that ends.
      const slots = this.#draining ? 0 : this.#slots;
      for (const { session } of this.#users) if (session.inFlight !== slots) session.inFlight = slots;
      return;
    }
    clearTimeout(this.#rebalance);
    const users = [...this.#users].sort((a, b) => a.wanted - b.wanted);
    let rest = this.#draining ? 0 : this.#slots;
    let excess = 0;
    const shares = users.map((user, i) => {
      const share = Math.min(user.wanted, Math.ceil(rest / (users.length - i)));
      rest -= share;
      excess += Math.max(0, user.session.counters().outstanding - share);
      return share;
    });
    // What one session still uses beyond its share, others must do without until it ends.
    let owed = excess;
    users.forEach(({ session }, i) => {
      const share = shares[i] as number;
      const free = Math.max(0, share - session.counters().outstanding);
      const without = Math.min(owed, free);
      owed -= without;
      session.inFlight = share - without;
    });
    if (excess > 0) {
      this.#rebalance = setTimeout(() => this.#divide(), REBALANCE_MS);
      this.#rebalance.unref();
    }
  }
}
