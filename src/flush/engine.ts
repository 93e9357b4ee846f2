import type { FileError } from '../model/errors.js';
import type { FileResult } from '../model/file-result.js';
import { PathScope } from '../model/path-scope.js';
import type { TerminalFileState } from '../model/words.js';
import type { Directory } from './directory-cache.js';
import type { Driven, FlushDriver } from './driver.js';
import { GIVEN_UP } from './driver.js';
import {
  CANCELED,
  type Ending,
  endingError,
  PAST_DEADLINE,
  succeeded,
  unfinished,
  untried,
} from './endings.js';
import { Fault } from './fault.js';
import { FileInput, type InputOwner } from './file-input.js';
import { FileTask, seconds } from './file-task.js';
import { hpcCacheAsync, hpcCacheSync } from './hpc-cache.js';
import { OutcomeQueue } from './outcome-queue.js';
import { PathForms } from './path-forms.js';
import { ledOut, type Resolver } from './resolver.js';
import { Retries } from './retries.js';
import { rfc1813 } from './rfc1813.js';
import type { FlushSession, SessionRun } from './session.js';
import { SilenceWatch } from './silence-watch.js';
import { TargetDownError } from './target-error.js';
import { Alarm } from './timer-wheel.js';
import type { FlushFile, FlushOptions } from './types.js';

export { TargetDownError };

/** The reason of an abort after which unfinished files are not ended but belong to the caller again. */
export class HandBack extends Error {
  constructor(message = 'handed back') {
    super(message);
    this.name = 'HandBack';
  }
}

/** Files taken up beyond those that can be in flight: so many are resolved while others are flushed. */
const AHEAD = 128;
/** How often it is looked at whether the target still answers, where that counts. */
const WATCH_MS = 250;

/**
 * Flushes files of one export; outcomes come as files end, in no order. Every file that goes in comes out exactly
 * once, except after `leave`, an abort with `HandBack` and a TargetDownError.
 *
 * `files` is read lazily: no more than are being worked on and `AHEAD` are taken up, and fewer if outcomes are not
 * taken. After an abort, the job's deadline or a refusal of the whole target it is read to its end and what comes
 * is ended at once; an input that can stall has to end by itself then.
 *
 * A file's clock (`fileTimeoutMs`, `durationMs`) does not run while it waits for a slot or for the rate.
 *
 * After `leave` no more flushes begin; those under way end, and the other files get no outcome.
 *
 * Iterate it once; ending the iteration early gives up what is unfinished.
 * @throws {TargetDownError} from the iteration; also whatever `files` throws, once the files before it have ended
 */
export function flushFiles(
  session: FlushSession,
  files: Iterable<FlushFile> | AsyncIterable<FlushFile>,
  options: FlushOptions,
  signal: AbortSignal,
): AsyncIterableIterator<FileResult> {
  return new FlushRun(session, files, options, signal);
}

class FlushRun extends Alarm implements AsyncIterableIterator<FileResult>, SessionRun, InputOwner {
  readonly #session: FlushSession;
  readonly #input: FileInput;
  readonly #options: FlushOptions;
  readonly #signal: AbortSignal;
  readonly #forms: PathForms;
  readonly #driver: FlushDriver;
  readonly #calls = new AbortController();
  #resolver: Resolver | null = null;
  #startedAt = 0;

  /**
   * The files being worked on, by clock. In the first two the oldest has the earliest deadline, because all have the
   * same time: taken up, and begun again when they got a slot they had waited for. Waiting ones have no deadline.
   */
  readonly #taken = new Set<FileTask>();
  readonly #begun = new Set<FileTask>();
  readonly #waiting = new Set<FileTask>();

  #ending: Ending | null = null;
  #error: { value: unknown } | null = null;
  #finished = false;
  readonly #outcomes = new OutcomeQueue<FileResult>();

  /** Date.now() for which the alarm is set. */
  #alarmAt = Number.POSITIVE_INFINITY;
  readonly #scope: PathScope | null;
  readonly #silence: SilenceWatch;
  #awayFault: Fault | null = null;

  constructor(
    session: FlushSession,
    files: Iterable<FlushFile> | AsyncIterable<FlushFile>,
    options: FlushOptions,
    signal: AbortSignal,
  ) {
    super();
    this.#session = session;
    this.#input = new FileInput(files, this);
    this.#options = options;
    this.#signal = signal;
    this.#forms = new PathForms(session.exportPath, options);
    this.#scope = options.confinedTo === undefined ? null : PathScope.of(options.confinedTo);
    this.#silence = new SilenceWatch(session, options.holdAfterMs);
    this.#driver =
      options.dialect === 'rfc1813' ? rfc1813 : options.mode === 'sync' ? hpcCacheSync : hpcCacheAsync;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<FileResult>> {
    if (!this.#input.opened && !this.#finished) this.#start();
    const taken = this.#outcomes.take();
    this.#input.read();
    this.#settle();
    return taken;
  }

  return(): Promise<IteratorResult<FileResult>> {
    this.#stop(null);
    this.#outcomes.clear();
    return Promise.resolve({ done: true, value: undefined });
  }

  sessionClosed(): void {
    this.#endAll({ ...CANCELED, message: 'the session was closed' });
  }

  /** More slots make room for more files. */
  slotsChanged(): void {
    this.#input.read();
    this.#settle();
  }

  // Taking files up.

  #start(): void {
    this.#startedAt = Date.now();
    this.#input.open();
    this.#session.join(this);
    if (this.#signal.aborted) this.#onAbort();
    else this.#signal.addEventListener('abort', this.#onAbort);
    const { deadlineAt, leave } = this.#options;
    // What was over before it began would leave its alarm behind, and keep the process alive for as long.
    if (this.#finished) return;
    if (leave?.aborted) this.#onLeave();
    else leave?.addEventListener('abort', this.#onLeave);
    if (this.#finished || deadlineAt === null) return;
    if (deadlineAt <= this.#startedAt) this.#endAll(PAST_DEADLINE);
    else this.#setAlarm(deadlineAt);
  }

  get #live(): number {
    return this.#taken.size + this.#begun.size + this.#waiting.size;
  }

  // What the input asks and tells.

  get hasRoom(): boolean {
    return this.#live + this.#outcomes.length < this.#session.inFlight + AHEAD;
  }

  inputFailed(error: unknown): void {
    this.#error ??= { value: error };
  }

  inputAnswered(): void {
    this.#settle();
  }

  accept(file: FlushFile): void {
    const now = Date.now();
    if (this.#ending === null && now >= (this.#options.deadlineAt ?? Number.POSITIVE_INFINITY)) {
      this.#endAll(PAST_DEADLINE);
    }
    if (this.#ending !== null) {
      this.#outcomes.push(untried(file, this.#ending));
      return;
    }
    const path = this.#forms.read(file.path);
    if (path instanceof Fault) {
      this.#outcomes.push(untried(file, { state: 'failed', ...path.error, alone: true }));
      return;
    }
    const deadlineAt = this.#deadline(now);
    const run = {
      self: this,
      startedAt: this.#startedAt,
      signal: this.#calls.signal,
      clock: this.#taken,
      begunBefore: this.#options.begunBefore ?? false,
    };
    const task = new FileTask(file, path, this.#session, run, deadlineAt, now);
    this.#taken.add(task);
    this.#setAlarm(
      this.#options.whenDown === 'hand-back' ? Math.min(deadlineAt, now + WATCH_MS) : deadlineAt,
    );
    void this.#work(task);
  }

  #deadline(now: number): number {
    return Math.min(now + this.#options.fileTimeoutMs, this.#options.deadlineAt ?? Number.POSITIVE_INFINITY);
  }

  // The way of one file.

  async #work(task: FileTask): Promise<void> {
    try {
      while (!task.ended) {
        const result = await this.#attempt(task);
        if (task.ended) return;
        if (!(result instanceof Fault)) {
          this.#succeeded(task, result);
          return;
        }
        const pauseMs = this.#afterFault(task, result);
        if (task.ended) return;
        this.#session.retried(result.error.code);
        if (pauseMs > 0) {
          // With `again` it goes on with what it did.
          if (result.remedy !== 'again') task.does('backing-off', Date.now());
          await task.pause(pauseMs);
        }
      }
    } catch (error) {
      // A mistake of ours: better the whole run fails loudly than one file silently.
      this.#stop({ value: error });
    }
  }

  /** One try: mount, resolve, wait for a slot, drive; what an earlier try got is kept. */
  async #attempt(task: FileTask): Promise<Driven | Fault> {
    const session = this.#session;
    if (session.mounted === null) {
      task.does('mounting', Date.now());
      const fault = await session.mount();
      if (fault !== null || task.ended) return fault ?? GIVEN_UP;
    }
    const mounted = session.mounted;
    if (mounted === null) return GIVEN_UP;
    this.#resolver ??= mounted.resolver(this.#forms);
    task.calls = mounted.calls;
    const now = Date.now();
    if (task.isOutdated(now)) task.unresolve();
    if (!task.resolved && !task.useListing(now)) {
      task.does('resolving', now);
      task.startWalk(now);
      const found = await this.#resolver.file(task.path, task);
      if (task.ended || found instanceof Fault) return found instanceof Fault ? found : GIVEN_UP;
      const outside = this.#ledOut(task, found.directory);
      if (outside !== null) return outside;
      task.found(found.handle, found.attributes, found.directory, now);
    }
    if (!task.hasSlot) {
      if (session.admission.enter(task)) task.hasSlot = true;
      else await this.#waitForSlot(task);
      if (task.ended) return GIVEN_UP;
      if (task.isOutdated(Date.now())) return this.#attempt(task);
    }
    task.does('flushing', Date.now());
    return this.#driver.flush(task);
  }

  /** A link on the way, followed for this file or for one before, shows in the directory that it was found in. */
  #ledOut({ path, links }: FileTask, directory: Directory): Fault | null {
    if (this.#scope === null) return null;
    const above = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    return links === 0 && directory.path === above ? null : ledOut(this.#scope, directory);
  }

  async #waitForSlot(task: FileTask): Promise<void> {
    const waitingSince = Date.now();
    task.does('waiting', waitingSince);
    this.#moveTo(task, this.#waiting);
    await task.untilAdmitted();
    if (task.ended) return;
    const now = Date.now();
    task.startedAt += now - waitingSince;
    task.limit.deadlineAt = this.#deadline(now);
    this.#moveTo(task, this.#begun);
    this.#setAlarm(task.limit.deadlineAt);
  }

  #moveTo(task: FileTask, clock: Set<FileTask>): void {
    task.clock.delete(task);
    task.clock = clock;
    clock.add(task);
  }

  /** Ends the file, or tells how long to wait before the next try. */
  #afterFault(task: FileTask, fault: Fault): number {
    const { error, remedy } = fault;
    if (remedy === 'target-refuses') {
      this.#endAll({ state: 'failed', ...error, alone: true });
      return 0;
    }
    if (remedy === 'again') {
      const now = Date.now();
      if (now >= task.limit.deadlineAt) {
        this.#expire(task, now);
        return 0;
      }
    } else if (error.code === 'CANCELED') {
      this.#finish(task, 'canceled', error);
      return 0;
    } else {
      this.#note(task, fault);
    }
    if (remedy === 'lookup') task.lose();
    if (remedy === 'few') task.underWay = false;
    if (remedy === 'target-away') this.#awayFault = fault;
    task.retries ??= new Retries(this.#session.retry);
    const pauseMs = task.retries.pauseMs(fault, task.attempts);
    if (pauseMs === null) this.#finish(task, 'failed', task.lastError);
    return pauseMs ?? 0;
  }

  #note(task: FileTask, { error, remedy }: Fault): void {
    // The same answer again and again is one error; building its text each time would be the dearest part of waiting.
    if (remedy === 'later' && task.lastError?.code === error.code && task.lastError.phase === error.phase)
      return;
    const about = error.phase === 'resolve' ? `; ${this.#forms.explain(task.path)}` : '';
    task.note(about === '' ? error : { ...error, message: error.message + about });
  }

  // Ends.

  #succeeded(task: FileTask, driven: Driven): void {
    task.end();
    this.#outcomes.push(succeeded(task, driven));
    this.#input.read();
    this.#settle();
  }

  #finish(task: FileTask, state: TerminalFileState, error: FileError | null): void {
    task.end();
    this.#outcomes.push(unfinished(task, state, error));
    this.#input.read();
    this.#settle();
  }

  #expire(task: FileTask, now: number): void {
    const { fileTimeoutMs, deadlineAt } = this.#options;
    const isJobs = deadlineAt !== null && now >= deadlineAt;
    const message = isJobs ? PAST_DEADLINE.message : `not done within ${seconds(fileTimeoutMs)}`;
    this.#finish(task, 'expired', endingError({ ...PAST_DEADLINE, message }, task, now));
  }

  /** Ends what is being worked on and all that is still to come. */
  #endAll(ending: Ending): void {
    if (this.#finished) return;
    this.#ending ??= ending;
    this.#calls.abort();
    const now = Date.now();
    for (const task of this.#tasks()) {
      // Ending a file gives its slot away; one that got it just now is in the list as well.
      if (task.ended) continue;
      this.#finish(task, ending.state, endingError(ending, task, now));
    }
    this.#input.read();
    this.#settle();
  }

  /** Ends the run; unfinished files get no outcome. */
  #stop(error: { value: unknown } | null): void {
    if (this.#finished) return;
    this.#error ??= error;
    this.#calls.abort();
    for (const task of this.#tasks()) task.end();
    this.#input.giveUp();
    this.#settle();
  }

  #tasks(): FileTask[] {
    return [...this.#taken, ...this.#begun, ...this.#waiting];
  }

  /** If all is over: cleans up, and tells those that wait for more. */
  #settle(): void {
    if (this.#finished || !this.#input.ended || this.#live > 0) return;
    this.#finished = true;
    this.#calls.abort();
    this.#session.wheel.clear(this);
    this.#session.part(this);
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#options.leave?.removeEventListener('abort', this.#onLeave);
    this.#outcomes.end(this.#error);
  }

  readonly #onAbort = () => {
    if (this.#signal.reason instanceof HandBack) this.#stop(null);
    else this.#endAll(CANCELED);
  };

  readonly #onLeave = () => {
    // Those that wait first: a slot that becomes free must not go to one of them. A fault may keep a file here for as
    // long as its deadline allows.
    for (const task of [...this.#waiting, ...this.#taken, ...this.#begun])
      if (!task.hasSlot || task.activity === 'backing-off') task.end();
    this.#input.giveUp();
    this.#settle();
  };

  // Time.

  #setAlarm(at: number): void {
    if (at >= this.#alarmAt) return;
    this.#alarmAt = at;
    this.#session.wheel.set(this, Math.max(0, at - Date.now()));
  }

  /** Something may be over: the oldest files' time, the job's, or the patience with a silent target. */
  override ring(): void {
    this.#alarmAt = Number.POSITIVE_INFINITY;
    if (this.#finished) return;
    const now = Date.now();
    const { deadlineAt, whenDown } = this.#options;
    if (deadlineAt !== null && now >= deadlineAt) {
      this.#endAll(PAST_DEADLINE);
      return;
    }
    for (const clock of [this.#taken, this.#begun]) {
      for (const task of clock) {
        if (task.limit.deadlineAt > now) {
          this.#setAlarm(task.limit.deadlineAt);
          break;
        }
        this.#expire(task, now);
      }
    }
    if (this.#live === 0) return;
    if (whenDown === 'hand-back' && this.#silence.isTooLong(this.#tasks(), now)) {
      this.#stop({ value: this.#targetDown() });
      return;
    }
    if (deadlineAt !== null) this.#setAlarm(deadlineAt);
    if (whenDown === 'hand-back') this.#setAlarm(now + WATCH_MS);
  }

  #targetDown(): TargetDownError {
    const { error } = this.#awayFault ?? {};
    const silence = `no answer from ${this.#session.where} for ${seconds(this.#options.holdAfterMs)}`;
    const why = this.#session.down ?? error?.message;
    return new TargetDownError(
      error?.code ?? 'UNREACHABLE',
      why === undefined ? silence : `${silence}: ${why}`,
    );
  }
}
