import { LRUCache } from 'lru-cache';
import type { FileErrorCode } from '../model/errors.js';
import { NfsExport } from '../nfs/export.js';
import type { CallLimit, NfsEvents, NfsTarget } from '../nfs/target.js';
import { Admission, type StartSource } from './admission.js';
import { Directory } from './directory-cache.js';
import { DEFAULT_RETRY, Fault, type RetryPolicy, thrownFault } from './fault.js';
import type { PathForms } from './path-forms.js';
import { type MountRoot, Resolver } from './resolver.js';
import { type ExportCalls, TargetCalls } from './target-calls.js';
import { TargetError } from './target-error.js';
import { TimerWheel } from './timer-wheel.js';

export type { NfsTarget } from '../nfs/target.js';

/** What happens to the target of a session, whichever files are under way. */
export type SessionEvent =
  /** No address answers any more. */
  | { type: 'down'; error: TargetError }
  | { type: 'up'; address: string }
  /** Its write verifier changed: what was flushed before was flushed by an instance that is gone. */
  | { type: 'server-restarted'; address: string }
  /** It answered 10002 or 66, which only an HPC Cache does. Once. */
  | { type: 'dialect-proven' }
  | { type: 'warning'; message: string };

export interface FlushSessionOptions {
  /** Flushes that may be outstanding on the cache, for all runs of the session together. */
  inFlight: number;
  /** Flushes begun per second, or null. */
  filesPerSecond: number | null;
  /** The target has shown the `hpc-cache` dialect earlier. */
  dialectProven: boolean;
  /** Must not throw. */
  onEvent?: (event: SessionEvent) => void;
  observer?: SessionObserver;
  /** Limits flush starts where the rate is shared with other processes; then `filesPerSecond` is not used. */
  starts?: StartSource | null;
  retry?: Partial<RetryPolicy>;
  /** For tests and measurements: what to flush against instead of an NFS server. */
  mount?: MountExport;
}

export type MountExport = (
  target: NfsTarget,
  exportPath: string,
  limit: CallLimit,
  events: NfsEvents,
) => Promise<ExportCalls>;

/** Single observations, for those who measure; what is absent costs nothing. Must not throw. */
export interface SessionObserver {
  /** A call was answered; `procedure` is like `NFS3 COMMIT`. */
  replied?(procedure: string, roundTripMs: number): void;
  /** A fault was met with another try. */
  retried?(code: FileErrorCode): void;
}

/** What a session has done so far. */
export interface SessionCounters {
  /** NFS calls made. */
  calls: number;
  /** Faults that were met with another try. */
  retries: number;
  /** Flushes outstanding on the cache now, and the most there ever were. */
  outstanding: number;
  maxOutstanding: number;
  /** Files that could begin but wait for a slot or for the rate. */
  waiting: number;
  /** Date.now() of the newest answer; null: none yet. */
  answeredAt: number | null;
  /** Why the target does not answer, or null. */
  down: string | null;
  /** Connections to the target. */
  connections: number;
}

/** One attempt to mount takes at most this long; who needs the mount decides whether there is another. */
const MOUNT_ATTEMPT_MS = 60_000;

/** A mounted export. Made once the first file needs it. */
export interface Mounted {
  readonly calls: TargetCalls;
  resolver(forms: PathForms): Resolver;
}

/** A run of files on a session, as the session sees it. */
export interface SessionRun {
  sessionClosed(): void;
  slotsChanged(): void;
}

/**
 * One export of one target with everything that runs in this process share: its mount, directory handles, window of
 * outstanding flushes, timer wheel, and what is known of its dialect. Mounts when the first file needs it, and again
 * when the root handle became stale; survives restarts of the server.
 */
export class FlushSession {
  readonly target: NfsTarget;
  readonly exportPath: string;
  readonly admission: Admission;
  readonly wheel = new TimerWheel();
  readonly retry: Readonly<RetryPolicy>;
  retries = 0;
  readonly #options: FlushSessionOptions;
  readonly #closing = new AbortController();
  readonly #runs = new Set<SessionRun>();
  #dialectProven: boolean;
  #mounted: MountedExport | null = null;
  #mounting: Promise<Fault | null> | null = null;
  #down: string | null = null;

  private constructor(target: NfsTarget, exportPath: string, options: FlushSessionOptions) {
    this.target = target;
    this.exportPath = exportPath;
    this.#options = options;
    this.#dialectProven = options.dialectProven;
    this.retry = { ...DEFAULT_RETRY, ...options.retry };
    this.admission = new Admission(
      this.wheel,
      options.inFlight,
      options.filesPerSecond,
      options.starts ?? null,
    );
  }

  /**
   * @param limit given: mounts at once; not given: makes no call until a file needs it
   * @throws {TargetError} if it cannot be mounted within `limit`
   */
  static async open(
    target: NfsTarget,
    exportPath: string,
    options: FlushSessionOptions,
    limit?: CallLimit,
  ): Promise<FlushSession> {
    const session = new FlushSession(target, exportPath, options);
    if (limit !== undefined) {
      try {
        session.#accept(await session.#mountExport(limit));
      } catch (error) {
        await session.close();
        const { code, message } = thrownFault(error, 'mount').error;
        throw new TargetError(code, message, { cause: error });
      }
    }
    return session;
  }

  get inFlight(): number {
    return this.admission.slots;
  }

  set inFlight(slots: number) {
    this.admission.slots = slots;
    for (const run of this.#runs) run.slotsChanged();
  }

  get filesPerSecond(): number | null {
    return this.admission.perSecond;
  }

  set filesPerSecond(perSecond: number | null) {
    this.admission.perSecond = perSecond;
  }

  set starts(source: StartSource | null) {
    this.admission.source = source;
  }

  get dialectProven(): boolean {
    return this.#dialectProven;
  }

  /** Learnt elsewhere, e.g. by another worker; makes no event. */
  set dialectProven(proven: boolean) {
    this.#dialectProven = proven;
  }

  proveDialect(): void {
    if (this.#dialectProven) return;
    this.#dialectProven = true;
    this.#emit({ type: 'dialect-proven' });
  }

  counters(): SessionCounters {
    const calls = this.#mounted?.calls;
    return {
      calls: calls?.calls ?? 0,
      retries: this.retries,
      outstanding: this.admission.outstanding,
      maxOutstanding: this.admission.maxOutstanding,
      waiting: this.admission.waiting,
      answeredAt: calls === undefined || calls.answeredAt === 0 ? null : calls.answeredAt,
      down: this.#down,
      connections: calls?.nfs.connections ?? 0,
    };
  }

  /** Ends its runs (their unfinished files as canceled) and closes the connections. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const run of this.#runs) run.sessionClosed();
    this.#runs.clear();
    await this.#mounting?.catch(() => null);
    await this.#mounted?.calls.nfs.close();
  }

  // What follows is for the runs of this room.

  get mounted(): Mounted | null {
    return this.#mounted;
  }

  /** Date.now() of the newest answer, 0 if there was none. */
  get answeredAt(): number {
    return this.#mounted?.calls.answeredAt ?? 0;
  }

  get down(): string | null {
    return this.#down;
  }

  /** Addresses, for messages. */
  get where(): string {
    return this.target.addresses.join(', ');
  }

  retried(code: FileErrorCode): void {
    this.retries++;
    this.#options.observer?.retried?.(code);
  }

  join(run: SessionRun): void {
    if (this.#closing.signal.aborted) run.sessionClosed();
    else this.#runs.add(run);
  }

  part(run: SessionRun): void {
    this.#runs.delete(run);
  }

  /** Makes `mounted` there, or tells why not. One attempt is shared by all that ask meanwhile. */
  mount(): Promise<Fault | null> {
    this.#mounting ??= this.#attemptMount().finally(() => {
      this.#mounting = null;
    });
    return this.#mounting;
  }

  /** Asks the server something small, to see whether it still answers. */
  async probe(deadlineAt: number): Promise<void> {
    const mounted = this.#mounted;
    if (mounted !== null) {
      await mounted.calls.getattr(mounted.root.handle, { deadlineAt, signal: this.#closing.signal });
    }
  }

  /** True if the server answers something small by then, be it a refusal. Mounts first, if that was not done yet. */
  async answers(deadlineAt: number): Promise<boolean> {
    if (this.#mounted === null) return (await this.mount())?.remedy !== 'target-away';
    const askedAt = Date.now();
    await this.probe(deadlineAt);
    return this.answeredAt >= askedAt;
  }

  async #attemptMount(): Promise<Fault | null> {
    if (this.#mounted !== null) return null;
    const limit = { deadlineAt: Date.now() + MOUNT_ATTEMPT_MS, signal: this.#closing.signal };
    try {
      const nfs = await this.#mountExport(limit);
      this.#accept(nfs);
      this.#down = null;
      return null;
    } catch (thrown) {
      const fault = thrownFault(thrown, 'mount');
      this.#down = fault.error.message;
      if (fault.remedy !== 'again') return fault;
      if (this.#closing.signal.aborted) return new Fault('CANCELED', 'mount', 'the session was closed');
      return new Fault('UNREACHABLE', 'mount', fault.error.message, 'target-away');
    }
  }

  #mountExport(limit: CallLimit): Promise<ExportCalls> {
    const events: NfsEvents = {
      down: (error) => {
        this.#down = error.message;
        const { code, message } = thrownFault(error, 'mount').error;
        this.#emit({ type: 'down', error: new TargetError(code, message, { cause: error }) });
      },
      up: (address) => {
        this.#down = null;
        this.#emit({ type: 'up', address });
      },
      serverRestarted: (address) => this.#emit({ type: 'server-restarted', address }),
      warning: (message) => this.#emit({ type: 'warning', message }),
    };
    const { observer } = this.#options;
    if (observer?.replied) events.replied = observer.replied.bind(observer);
    const mount: MountExport = this.#options.mount ?? ((...args) => NfsExport.mount(...args));
    return mount(this.target, this.exportPath, limit, events);
  }

  #accept(nfs: ExportCalls): void {
    this.#mounted = new MountedExport(nfs);
    this.#mounted.calls.answeredAt = Date.now();
  }

  #emit(event: SessionEvent): void {
    this.#options.onEvent?.(event);
  }
}

class MountedExport implements Mounted, MountRoot {
  readonly calls: TargetCalls;
  root: Directory;
  /** By client mount, because it decides where absolute links lead; jobs may bring any number of them. */
  readonly #resolvers = new LRUCache<string, Resolver>({ max: 16 });
  #remounting: Promise<Fault | null> | null = null;

  constructor(nfs: ExportCalls) {
    this.calls = new TargetCalls(nfs);
    this.root = new Directory(nfs.root, '', null, Date.now());
  }

  resolver(forms: PathForms): Resolver {
    const key = forms.clientMount ?? '';
    let resolver = this.#resolvers.get(key);
    if (resolver === undefined) {
      resolver = new Resolver(this.calls, this, forms);
      this.#resolvers.set(key, resolver);
    }
    return resolver;
  }

  /** One mount for all that found the same root stale. */
  remount(stale: Directory, limit: CallLimit): Promise<Fault | null> {
    if (stale !== this.root) return Promise.resolve(null);
    this.#remounting ??= this.#remountOnce(limit).finally(() => {
      this.#remounting = null;
    });
    return this.#remounting;
  }

  async #remountOnce(limit: CallLimit): Promise<Fault | null> {
    const handle = await this.calls.remount(limit);
    if (handle instanceof Fault) return handle;
    this.root.gone = true;
    this.root = new Directory(handle, '', null, Date.now());
    return null;
  }
}
