import type { FileError } from '../model/errors.js';
import type { FileHandle } from '../nfs/nfs3.js';
import type { Candidate } from './admission.js';
import { DIRECTORY_AGE_MS, type Directory } from './directory-cache.js';
import type { DrivenFile } from './driver.js';
import type { Walk } from './resolver.js';
import type { Retries } from './retries.js';
import type { FlushSession } from './session.js';
import type { FileAttributes, TargetCalls } from './target-calls.js';
import { Alarm } from './timer-wheel.js';
import type { FlushFile, ListedFile } from './types.js';

/** What a file waits for; decides the words of a file that is given up. */
export type Activity = 'mounting' | 'resolving' | 'waiting' | 'flushing' | 'backing-off';

/** One file between its taking up and its end: its state, and its sleeping and waking. Decisions are the run's. */
export class FileTask extends Alarm implements Candidate, DrivenFile, Walk {
  readonly file: FlushFile;
  /** Relative to the export. */
  readonly path: string;
  readonly session: FlushSession;
  readonly run: object;
  /** Of every call for it; `deadlineAt` is the file's own deadline. */
  readonly limit: { deadlineAt: number; signal: AbortSignal };
  readonly #runStartedAt: number;
  /** The set of the run that holds it: which clock it is on. */
  clock: Set<FileTask>;
  /** Date.now() of its taking up, later by the time it waited for a slot. */
  startedAt: number;
  ended = false;
  hasSlot = false;
  activity: Activity = 'mounting';
  activitySince: number;

  calls!: TargetCalls;
  directory: Directory | null = null;
  attributes: FileAttributes | null = null;
  notBefore = 0;
  links = 0;

  attempts = 0;
  polls = 0;
  pollMs = 0;
  underWay = false;
  begun: boolean;
  calling: string | null = null;

  retries: Retries | null = null;
  firstError: FileError | null = null;
  lastError: FileError | null = null;

  #handle: FileHandle | null = null;
  /** Not yet used. */
  #listed: ListedFile | null;
  #foundAt = 0;
  #resume: (() => void) | null = null;

  constructor(
    file: FlushFile,
    path: string,
    session: FlushSession,
    run: { self: object; startedAt: number; signal: AbortSignal; clock: Set<FileTask>; begunBefore: boolean },
    deadlineAt: number,
    now: number,
  ) {
    super();
    this.file = file;
    this.path = path;
    this.session = session;
    this.run = run.self;
    this.limit = { deadlineAt, signal: run.signal };
    this.#runStartedAt = run.startedAt;
    this.clock = run.clock;
    this.begun = run.begunBefore;
    this.#listed = file.listed ?? null;
    this.startedAt = now;
    this.activitySince = now;
  }

  get resolved(): boolean {
    return this.#handle !== null;
  }

  /** @throws if it was not resolved, which is a mistake of ours */
  get handle(): FileHandle {
    if (this.#handle === null) throw new Error('the file has no handle yet');
    return this.#handle;
  }

  get retry() {
    return this.session.retry;
  }

  get dialectProven(): boolean {
    return this.session.dialectProven;
  }

  proveDialect(): void {
    this.session.proveDialect();
  }

  /** The path may name another file by now. A flush that is under way is that of the file that was found. */
  isOutdated(now: number): boolean {
    return this.#handle !== null && !this.underWay && now - this.#foundAt > DIRECTORY_AGE_MS;
  }

  found(
    handle: FileHandle,
    attributes: FileAttributes | null,
    directory: Directory | null,
    now: number,
  ): void {
    this.#handle = handle;
    this.#foundAt = now;
    this.attributes = attributes;
    this.directory = directory;
  }

  /** Takes what a listing told of the file instead of a LOOKUP, once and while it is young; false: nothing was told. */
  useListing(now: number): boolean {
    const listed = this.#listed;
    this.#listed = null;
    if (listed === null || now - listed.at > DIRECTORY_AGE_MS) return false;
    this.found(listed.handle, listed.attributes, null, listed.at);
    return true;
  }

  /** Forgets the handle. */
  unresolve(): void {
    this.#handle = null;
  }

  /** Forgets the handle and where it came from, for it is stale. */
  lose(): void {
    this.#handle = null;
    this.directory?.forget();
    this.directory = null;
    this.underWay = false;
  }

  startWalk(now: number): void {
    this.links = 0;
    this.notBefore = Math.max(this.#runStartedAt, now - DIRECTORY_AGE_MS);
  }

  does(activity: Activity, now: number): void {
    this.activity = activity;
    this.activitySince = now;
  }

  note(error: FileError): void {
    this.firstError ??= error;
    this.lastError = error;
  }

  pause(ms: number): Promise<void> {
    if (this.ended) return Promise.resolve();
    this.session.wheel.set(this, ms);
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  /** Waits until `admitted` is called, or it is ended. */
  untilAdmitted(): Promise<void> {
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  admitted(): void {
    this.hasSlot = true;
    this.#wake();
  }

  override ring(): void {
    this.#wake();
  }

  /** Whatever it waits for goes on and finds it ended; its slot is free. */
  end(): void {
    this.ended = true;
    this.clock.delete(this);
    const { wheel, admission } = this.session;
    wheel.clear(this);
    if (this.hasSlot) {
      this.hasSlot = false;
      admission.leave();
    } else if (this.activity === 'waiting') {
      admission.withdraw(this);
    }
    this.#wake();
  }

  /** What it was doing, for the message of a file that is given up. */
  doing(now: number): string {
    const { session } = this;
    const forSeconds = `for ${seconds(now - this.activitySince)}`;
    const down = session.down === null ? '' : ` (${session.down})`;
    switch (this.activity) {
      case 'mounting':
        return `the export ${session.exportPath} of ${session.where} is not mounted ${forSeconds}${down}`;
      case 'resolving':
        return `no answer from ${session.where} to the lookup of the path ${forSeconds}${down}`;
      case 'waiting':
        return `waiting for one of ${session.inFlight} flushes in flight ${forSeconds}`;
      case 'backing-off':
        return `waiting to try again after: ${this.lastError?.message ?? 'a fault'}`;
      case 'flushing':
        if (this.calling !== null) return `no answer from ${session.where} to ${this.calling}${down}`;
        return `still flushing after ${this.polls} ${this.polls === 1 ? 'poll' : 'polls'}`;
    }
  }

  #wake(): void {
    const resume = this.#resume;
    this.#resume = null;
    resume?.();
  }
}

export function seconds(ms: number): string {
  return ms < 1000 ? `${Math.max(0, Math.round(ms))} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}
