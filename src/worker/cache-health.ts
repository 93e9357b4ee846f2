import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { SessionEvent } from '../flush/session.js';
import type { TargetDownError } from '../flush/target-error.js';
import type { WorkStore } from '../store/work-store.js';
import type { SharedSession } from './sessions.js';

/** Between two looks whether a held cache answers again. */
const PROBE_MS = 1000;
const PROBE_TIMEOUT_MS = 5000;
/** How often the store is told at most that the cache answers. */
const UP_MS = 5000;

export interface CacheHealthOptions {
  store: Pick<WorkStore, 'caches' | 'warn' | 'setStatusDetail'>;
  queue: string;
  /** All that there are, with or without work. */
  sessions: () => Promise<readonly SharedSession[]>;
  /** No chunk is in hand. */
  isIdle: () => boolean;
  log: Logger;
}

/**
 * Whether one cache answers, as this process sees it: told to the store, which holds the queue meanwhile, and to the
 * jobs that have work there.
 */
export class CacheHealth {
  readonly #options: CacheHealthOptions;
  #probe: Promise<void> | null = null;
  #toldUpAt = 0;
  readonly #closed = new AbortController();

  constructor(options: CacheHealthOptions) {
    this.#options = options;
  }

  /** The cache does not answer: its queue is held until it does. @throws what the store throws */
  async hold(error: TargetDownError): Promise<void> {
    const { store, queue, log } = this.#options;
    const { until, tries } = await store.caches.hold(queue, error.code, error.message);
    this.#toldUpAt = 0;
    log.warn({ code: error.code, holdMs: until - Date.now(), tries }, `cache held: ${error.message}`);
    this.#probe ??= this.#probeUntilUp().finally(() => {
      this.#probe = null;
    });
  }

  /** No more probes. Resolves when one that is under way has ended: at the latest when its session is closed. Never rejects. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#probe;
  }

  /** Work of the session has gone on: unless its cache is down, the store is told, now and then. */
  answered({ session }: SharedSession): void {
    const now = Date.now();
    if (session.counters().down === null && now - this.#toldUpAt >= UP_MS) void this.tellUp();
  }

  /** @param flushed the cache has flushed a file: this closes its circuit breaker, too. Never rejects. */
  async tellUp(flushed = false): Promise<void> {
    const { store, queue, log } = this.#options;
    this.#toldUpAt = Date.now();
    await store.caches.up(queue, flushed).catch((error: unknown) => {
      this.#toldUpAt = 0;
      log.warn({ err: error }, 'the store was not told that the cache answers');
    });
  }

  /** Tells the jobs that have work in the session what has become of it. */
  sessionEvent(shared: SharedSession, event: SessionEvent): void {
    const { store, log } = this.#options;
    const tell = (work: (jobId: string) => Promise<void>): void => {
      for (const jobId of shared.jobs.keys()) {
        work(jobId).catch((error: unknown) => log.warn({ err: error, job: jobId }, 'telling a job'));
      }
    };
    const where = { export: shared.session.exportPath };
    switch (event.type) {
      case 'down':
        log.warn(where, `cache down: ${event.error.message}`);
        tell((jobId) => store.setStatusDetail(jobId, `The cache does not answer: ${event.error.message}`));
        break;
      case 'up':
        log.info({ ...where, address: event.address }, 'cache up');
        tell((jobId) => store.setStatusDetail(jobId, null));
        void this.tellUp();
        break;
      case 'server-restarted':
        log.warn({ ...where, address: event.address }, 'the NFS server restarted');
        tell((jobId) =>
          store.warn(
            jobId,
            'SERVER_RESTARTED',
            `The NFS server at ${event.address} restarted while this job ran. What it answered before was answered by the earlier instance.`,
            1,
          ),
        );
        break;
      case 'dialect-proven':
        log.info(where, 'the cache has shown the hpc-cache dialect');
        break;
      case 'warning':
        log.warn(where, event.message);
        tell((jobId) => store.warn(jobId, 'TARGET_WARNING', event.message, null));
        break;
    }
  }

  /** A held queue would wait for its pause to end although the cache is back: ask the cache, and end the hold early. */
  async #probeUntilUp(): Promise<void> {
    const { store, queue, log, sessions, isIdle } = this.#options;
    while (!this.#closed.signal.aborted) {
      await delay(PROBE_MS, undefined, { signal: this.#closed.signal }).catch(() => {});
      try {
        if (!isIdle() || (await store.caches.getHold(queue)) === null) return;
        const open = await sessions();
        // Closed since long: whether the cache is back, the next chunk will find out.
        if (open.length === 0) return;
        for (const { session } of open) {
          if (await session.answers(Date.now() + PROBE_TIMEOUT_MS)) return await this.tellUp();
        }
      } catch (error) {
        log.debug({ err: error }, 'probing a held cache');
      }
    }
  }
}
