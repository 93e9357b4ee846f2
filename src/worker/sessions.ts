import type { Logger } from 'pino';
import type { StartSource } from '../flush/admission.js';
import { FlushSession, type SessionEvent, type SessionObserver } from '../flush/session.js';
import type { CacheConfig } from '../model/cache.js';
import type { CacheWork } from '../store/cache-work.js';
import { proofField } from '../store/dialect-proof.js';
import type { FlushWork } from '../store/work.js';
import type { CacheSlots, SlotUser } from './slots.js';
import { Turns } from './turns.js';

/** A session that the chunks of a process share, as long as they want the same export as the same user. */
export interface SharedSession extends SlotUser {
  readonly session: FlushSession;
  /** Jobs that use it now → by how many chunks. */
  readonly jobs: Map<string, number>;
  readonly turns: Turns;
}

export interface SessionPoolOptions {
  caches: CacheWork;
  queue: string;
  machineName: string;
  idleMs: number;
  slots: CacheSlots;
  /** Flushes begun per second, over all workers; null: any number. */
  filesPerSecond: number | null;
  log: Logger;
  onEvent: (shared: SharedSession, event: SessionEvent) => void;
  observer: SessionObserver | undefined;
}

/** The sessions of one cache. */
export class SessionPool {
  readonly #options: SessionPoolOptions;
  readonly #open = new Map<string, Promise<SharedSession>>();
  readonly #idle = new Map<string, NodeJS.Timeout>();
  #filesPerSecond: number | null;

  constructor(options: SessionPoolOptions) {
    this.#options = options;
    this.#filesPerSecond = options.filesPerSecond;
  }

  /** For those that are open and those to come. */
  set filesPerSecond(filesPerSecond: number | null) {
    this.#filesPerSecond = filesPerSecond;
    this.#forEachOpen((session) => {
      session.starts = this.#starts();
    });
  }

  /** Makes no call: the export is mounted when the first file needs it. `release` it once. */
  async acquire(job: FlushWork, config: CacheConfig): Promise<SharedSession> {
    const key = keyOf(job, config);
    clearTimeout(this.#idle.get(key));
    this.#idle.delete(key);
    let opening = this.#open.get(key);
    if (opening === undefined) {
      opening = this.#openSession(job, config);
      this.#open.set(key, opening);
      opening.catch(() => this.#open.delete(key));
    }
    const shared = await opening;
    shared.jobs.set(job.id, (shared.jobs.get(job.id) ?? 0) + 1);
    return shared;
  }

  release(shared: SharedSession, job: FlushWork, config: CacheConfig): void {
    const users = (shared.jobs.get(job.id) ?? 0) - 1;
    if (users > 0) shared.jobs.set(job.id, users);
    else shared.jobs.delete(job.id);
    if (shared.jobs.size > 0) return;
    const key = keyOf(job, config);
    clearTimeout(this.#idle.get(key));
    const timer = setTimeout(() => {
      this.#idle.delete(key);
      if (shared.jobs.size === 0) void this.#close(key);
    }, this.#options.idleMs);
    timer.unref();
    this.#idle.set(key, timer);
  }

  /** Those that are open. */
  async all(): Promise<SharedSession[]> {
    const opened = await Promise.allSettled(this.#open.values());
    return opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  }

  /** Never rejects. */
  async close(): Promise<void> {
    for (const timer of this.#idle.values()) clearTimeout(timer);
    this.#idle.clear();
    await Promise.all([...this.#open.keys()].map((key) => this.#close(key)));
  }

  async #openSession(job: FlushWork, config: CacheConfig): Promise<SharedSession> {
    const { caches, queue, machineName, onEvent, slots, observer } = this.#options;
    const dialectProven = await caches.isDialectProven(queue, config);
    const target = {
      addresses: config.addresses,
      ports: config.ports,
      credential: config.credential,
      machineName,
      privilegedPort: config.privilegedPort,
      callTimeoutMs: config.callTimeoutSeconds * 1000,
    };
    const session = await FlushSession.open(target, job.export, {
      inFlight: 0,
      filesPerSecond: null,
      dialectProven,
      starts: this.#starts(),
      ...(observer === undefined ? {} : { observer }),
      onEvent: (event) => {
        if (event.type === 'dialect-proven') this.#proven(config);
        onEvent(shared, event);
      },
    });
    const turns = new Turns(() => session.inFlight);
    const shared: SharedSession = { session, wanted: 0, jobs: new Map(), turns };
    slots.add(shared);
    return shared;
  }

  /** One session has seen the dialect: it is a property of the target, and jobs for an address may bring other ports. */
  #proven(config: CacheConfig): void {
    const { caches, queue, log } = this.#options;
    const shown = proofField(config);
    this.#forEachOpen((session) => {
      if (proofField(session.target) === shown) session.dialectProven = true;
    });
    caches.setDialectProven(queue, config).catch((error: unknown) => {
      log.warn({ err: error, queue }, 'that the cache has shown its dialect was not stored');
    });
  }

  #starts(): StartSource | null {
    const { caches, queue } = this.#options;
    const perSecond = this.#filesPerSecond;
    return perSecond === null ? null : (wanted) => caches.takeStarts(queue, perSecond, wanted);
  }

  /** Also with those that are just being opened, once they are. */
  #forEachOpen(change: (session: FlushSession) => void): void {
    for (const opening of this.#open.values()) {
      opening.then(
        ({ session }) => change(session),
        () => {},
      );
    }
  }

  async #close(key: string): Promise<void> {
    const opening = this.#open.get(key);
    this.#open.delete(key);
    try {
      const shared = await opening;
      if (shared === undefined) return;
      this.#options.slots.remove(shared);
      await shared.session.close();
    } catch (error) {
      this.#options.log.debug({ err: error, queue: this.#options.queue }, 'a session was not closed cleanly');
    }
  }
}

/** Jobs for an address may bring different ports or identities, so the whole target is part of it. */
function keyOf(job: FlushWork, { addresses, ports, credential, privilegedPort }: CacheConfig): string {
  return JSON.stringify([job.export, addresses, ports, credential, privilegedPort]);
}
