import { setTimeout as delay } from 'node:timers/promises';
import { BrokerError } from '../model/errors.js';
import type { Job } from '../model/job.js';
import { isTerminalJobState } from '../model/words.js';
import type { JobStore, Revision } from '../store/types.js';
import { Audience, type Seat } from './audience.js';

const PING_MS = 15_000;
const EVENTS_APART_MS = 250;
/** Told to the client for its reconnection; also how long we wait for a store that is away. */
const AGAIN_MS = 2000;

/** A line that tells a client how long to wait before it connects again. */
export function reconnectAfter(ms: number): string {
  return `retry: ${ms}\n`;
}

/** A job in the form of text/event-stream: `end` when it has ended, else `job`. */
export function jobEvent({ revision: _, ...job }: Job & Revision, id: string): string {
  return `id: ${id}\nevent: ${isTerminalJobState(job.state) ? 'end' : 'job'}\ndata: ${JSON.stringify(job)}\n\n`;
}

/** The events of single jobs, for any number of listeners to each: a change is read, and its text made, once for all. */
export class JobEvents {
  readonly #store: JobStore;
  readonly #watched = new Map<string, WatchedJob>();
  readonly #texts = new WeakMap<Job & Revision, Buffer>();

  constructor(store: JobStore) {
    this.#store = store;
  }

  /**
   * The events of a job in the form of text/event-stream: its present state unless `lastEventId` names it, every change
   * at most four times a second (only the newest state counts), a comment when nothing happens, the end. Ends after
   * that, at the abort, or when the job is gone.
   * @param first the job as it is now
   */
  async *listen(
    first: Job & Revision,
    lastEventId: string | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<string | Buffer, void, undefined> {
    yield `${reconnectAfter(AGAIN_MS)}\n`;
    const watched = this.#watched.get(first.id) ?? new WatchedJob(this.#store, first.id);
    this.#watched.set(first.id, watched);
    const seat = watched.enter(signal);
    try {
      let job = first;
      let known = lastEventId;
      while (!signal.aborted) {
        if (job.revision !== known) {
          yield this.#text(job);
          if (isTerminalJobState(job.state)) return;
          known = job.revision;
        } else {
          yield ': ping\n\n';
        }
        const pingAt = Date.now() + PING_MS;
        for (;;) {
          const news = await watched.next(seat, known, pingAt - Date.now());
          if (news === 'gone') return;
          if (news === null) break;
          // What is news to others need not be to this one.
          if (news === 'unread' || news.revision === known) continue;
          job = news;
          break;
        }
      }
    } finally {
      if (watched.leave(seat) === 0 && this.#watched.get(first.id) === watched)
        this.#watched.delete(first.id);
    }
  }

  #text(job: Job & Revision): Buffer {
    let text = this.#texts.get(job);
    if (!text) {
      text = Buffer.from(jobEvent(job, job.revision));
      this.#texts.set(job, text);
    }
    return text;
  }
}

/** What a read found; `unread`: the store was away. */
type Found = (Job & Revision) | 'gone' | 'unread';

/** A job that is read again when it has changed, for as long as a listener waits for that. */
class WatchedJob {
  readonly #store: JobStore;
  readonly #id: string;
  readonly #audience = new Audience<Found>();
  #listeners = 0;
  /** What is waited for: a change of this revision; null: nothing. */
  #since: string | null = null;
  #hurry = new AbortController();
  #toldAt = Date.now();
  #telling: Promise<void> | null = null;

  constructor(store: JobStore, id: string) {
    this.#store = store;
    this.#id = id;
  }

  enter(signal: AbortSignal): Seat<Found> {
    this.#listeners += 1;
    return this.#audience.enter(signal);
  }

  /** @returns how many listeners are left */
  leave(seat: Seat<Found>): number {
    seat.leave();
    this.#listeners -= 1;
    if (this.#listeners === 0) this.#hurry.abort();
    return this.#listeners;
  }

  /** Waits for the next read. @returns null: there was none in the time, or the listener has left */
  next(seat: Seat<Found>, known: string, timeoutMs: number): Promise<Found | null> {
    if (this.#since === null) void this.#read(known);
    // What others wait for may have happened before this one came, or while it did not read.
    else if (this.#since !== known) this.#hurry.abort();
    return seat.wait(timeoutMs);
  }

  async #read(since: string): Promise<void> {
    this.#since = since;
    this.#hurry = new AbortController();
    let found: Found = 'unread';
    try {
      await this.#store.waitForChange(this.#id, since, false, this.#hurry.signal);
      await pause(this.#toldAt + EVENTS_APART_MS - Date.now());
      if (this.#listeners > 0) found = await this.#store.getJob(this.#id);
    } catch (error) {
      if (error instanceof BrokerError && error.code === 'STORE_UNAVAILABLE') await pause(AGAIN_MS);
      else found = 'gone';
    }
    // What was read before must not come after.
    await this.#telling;
    this.#since = null;
    this.#toldAt = Date.now();
    this.#telling = this.#audience.tell(found);
  }
}

async function pause(ms: number): Promise<void> {
  if (ms > 0) await delay(ms, undefined, { ref: false });
}
