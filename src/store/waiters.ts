import { isTerminalJobState, type JobState } from '../model/words.js';
import type { Commands } from './commands.js';
import type { Subscriptions } from './events.js';
import { CACHE_SHOWN_FIELDS, cacheShown, jobRevision } from './job-record.js';
import type { Revision } from './types.js';

/** Progress is told at most four times a second, and a message may be lost: so long may the last change be unseen. */
const RECHECK_MS = 1000;

interface Waiter {
  since: string;
  untilTerminal: boolean;
  queue: string;
  done(): void;
}

/** Requests that wait for a job to change: any number of them cost one subscription and one look per job and second. */
export class Waiters {
  readonly #commands: Commands;
  readonly #subscriptions: Subscriptions;
  readonly #byJob = new Map<string, Set<Waiter>>();
  /** Jobs that are being looked at; true: something was told meanwhile, so look once more. */
  readonly #checking = new Map<string, boolean>();
  #timer: NodeJS.Timeout | null = null;
  #unlisten: (() => void) | null = null;

  constructor(commands: Commands, subscriptions: Subscriptions) {
    this.#commands = commands;
    this.#subscriptions = subscriptions;
  }

  /** Undefined: there is no such job. */
  async revision(id: string): Promise<(Revision & { queue: string }) | undefined> {
    const { redis, keys } = this.#commands;
    const [rev, state, queue] = await redis.hmget(keys.job(id), 'rev', 'state', 'queue');
    if (!rev || !state || !queue) return undefined;
    const cache = cacheShown(await redis.hmget(keys.cache(queue), ...CACHE_SHOWN_FIELDS));
    return { ...jobRevision({ rev, state }, cache.rev), queue };
  }

  /** The job must exist. Resolves when it changed, ended or is gone, or at the abort. */
  async wait(
    id: string,
    since: string,
    untilTerminal: boolean,
    queue: string,
    signal: AbortSignal,
  ): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const waiter: Waiter = {
        since,
        untilTerminal,
        queue,
        done: () => {
          signal.removeEventListener('abort', waiter.done);
          this.#remove(id, waiter);
          resolve();
        },
      };
      signal.addEventListener('abort', waiter.done);
      this.#add(id, waiter);
      // What changed between the caller's look and now has been told already.
      void this.#check(id);
    });
  }

  close(): void {
    for (const waiters of this.#byJob.values()) for (const waiter of waiters) waiter.done();
  }

  #add(id: string, waiter: Waiter): void {
    const waiters = this.#byJob.get(id);
    if (waiters) waiters.add(waiter);
    else this.#byJob.set(id, new Set([waiter]));
    this.#unlisten ??= this.#subscriptions.listen(
      this.#commands.keys.changes,
      (message) => this.#onMessage(message),
      () => this.#checkAll(),
    );
    if (!this.#timer) {
      this.#timer = setInterval(() => this.#checkAll(), RECHECK_MS);
      this.#timer.unref();
    }
  }

  #remove(id: string, waiter: Waiter): void {
    const waiters = this.#byJob.get(id);
    waiters?.delete(waiter);
    if (waiters?.size === 0) this.#byJob.delete(id);
    if (this.#byJob.size > 0) return;
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
    this.#unlisten?.();
    this.#unlisten = null;
  }

  #onMessage(message: string): void {
    const [what, name = '', state] = message.split(' ');
    if (what === 'job') {
      const waiters = this.#byJob.get(name);
      if (!waiters) return;
      // An end is final: there is nothing to look at before it is told.
      if (isTerminalJobState(state as JobState)) for (const waiter of [...waiters]) waiter.done();
      else void this.#check(name);
      return;
    }
    for (const [id, waiters] of this.#byJob) {
      for (const waiter of waiters) {
        if (waiter.queue !== name) continue;
        void this.#check(id);
        break;
      }
    }
  }

  #checkAll(): void {
    for (const id of this.#byJob.keys()) void this.#check(id);
  }

  async #check(id: string): Promise<void> {
    if (this.#checking.has(id)) {
      this.#checking.set(id, true);
      return;
    }
    try {
      do {
        this.#checking.set(id, false);
        const now = await this.revision(id);
        for (const waiter of [...(this.#byJob.get(id) ?? [])]) {
          const over = !now || isTerminalJobState(now.state);
          if (over || (!waiter.untilTerminal && now.revision !== waiter.since)) waiter.done();
        }
      } while (this.#checking.get(id) && this.#byJob.has(id));
    } catch {
      // Redis is away: the waiters go on until it is back or their time is over.
    } finally {
      this.#checking.delete(id);
    }
  }
}
