import { setTimeout as delay } from 'node:timers/promises';
import { CopyError } from '../copy/copy-error.js';
import type { CopyRequest } from '../copy/copy-file.js';
import { Throttle } from '../copy/throttle.js';
import { Bell } from './bell.js';
import { CorruptTransferFile } from './codec.js';
import { type CopyableEntry, CopyPool } from './copy-pool.js';
import { EntryCopy } from './entry-copy.js';
import { FileWatch } from './file-watch.js';
import { LockTimeout } from './flock.js';
import { Notices } from './notices.js';
import { TransferFile } from './transfer-file.js';
import {
  type Command,
  type Entry,
  readTransferList,
  type TransferList,
  writeDone,
  writeError,
  writeProgress,
  writeState,
} from './transfer-list.js';
import type { Tree } from './tree.js';

/** Progress is recorded and commands are read this often while something moves, and no more often: see `#pause`. */
const LOOK_MS = 100;
/** Looking takes at most one part in twenty of the time, however long the list is. */
const LOOK_SHARE = 20;
/** While files are copied, commands are noticed within this time also where the file cannot be watched. */
const LONGEST_LOOK_MS = 1000;
const SHORTEST_RETRY_MS = 1000;

export interface ScrDaemonOptions {
  transferFile: string;
  /** The transfer file is read again at least this often, and what failed is tried again. */
  pollMs: number;
  bufferBytes: number;
  /** Read every copy again and compare its CRC-32 before WRITTEN reaches SIZE. */
  verify: boolean;
  filesAtOnce: number;
  lockTimeoutMs: number;
  log: (message: string) => void;
  /** Limits that hold besides those of the transfer file. */
  within?: Throttle;
  /**
   * Where sources and destinations must lie, and the transfer file must be there and no link. Default: anywhere, with
   * the rights of whoever writes the transfer file.
   */
  roots?: CopyRequest['roots'];
  /** Hears what each look at the transfer file found and left there. */
  onLook?: (look: Look) => void;
}

export interface Look {
  entries: readonly EntrySeen[];
  command: Command | null;
  /** FLAG is DONE. */
  done: boolean;
}

/** An entry of the transfer file as the daemon knows it. */
export interface EntrySeen {
  source: string;
  destination: string | null;
  size: number;
  /** Bytes written and fsync'd. */
  written: number;
  complete: boolean;
  /** Why its newest try failed. */
  failure: CopyError | null;
}

export interface ScrDaemonResult {
  /** Files that became complete. */
  copied: number;
  /** Source → sentence, of the files that had failed and were not yet copied when the daemon ended. */
  failed: Map<string, string>;
  /** False if the last progress and STATE could not be written. */
  recorded: boolean;
}

/** What a look at the transfer file asks for. `stop`: copies must end first; `blind`: nobody knows. */
type Order = 'run' | 'wait' | 'stop' | 'exit' | 'blind';

/**
 * SCR's transfer daemon: copies what the transfer file lists, in place, while its COMMAND is RUN and its FLAG is not
 * DONE, within its limits BW and PERCENT. Resolves after COMMAND EXIT, or when `signal` is aborted.
 *
 *   STATE   STOPPED  no file is open      at the start; after STOP; with DONE; when the signal ended it
 *           RUNNING  RUN without DONE     also while files that failed wait for their next try
 *           EXITING  no file is open      after EXIT
 *
 * DONE and STOPPED are written at once, and only when every listed file is complete, durable and has its size.
 * WRITTEN never goes beyond what was fsync'd, and reaches SIZE only then.
 * @throws {Error} if the transfer file can be neither read nor made, at the start
 */
export async function runScrDaemon(options: ScrDaemonOptions, signal: AbortSignal): Promise<ScrDaemonResult> {
  return new ScrDaemon(options, signal).run();
}

interface Failure {
  /** The entry as it was tried; a changed one is tried again at once. */
  entry: string;
  error: CopyError;
  retryAtMs: number;
}

class ScrDaemon {
  readonly #options: ScrDaemonOptions;
  readonly #signal: AbortSignal;
  readonly #file: TransferFile;
  readonly #throttle: Throttle;
  readonly #news = new Bell();
  readonly #watch: FileWatch;
  readonly #copies: CopyPool;
  /** Source → entry that is known to be complete at its destination. */
  readonly #complete = new Map<string, string>();
  readonly #failures = new Map<string, Failure>();
  #running = false;
  #stoppedWhenDone = false;
  #copied = 0;
  #lookMs = 0;
  #lookedAtMs = 0;
  readonly #notices: Notices<'file' | 'limits' | 'command'>;

  constructor(options: ScrDaemonOptions, signal: AbortSignal) {
    const { transferFile, lockTimeoutMs, bufferBytes, verify, filesAtOnce, roots = null } = options;
    this.#options = options;
    this.#signal = signal;
    this.#throttle = new Throttle(undefined, undefined, options.within);
    this.#file = new TransferFile(transferFile, lockTimeoutMs, { onlyAsItIs: roots !== null });
    this.#notices = new Notices(options.log);
    const news = (): void => this.#news.ring();
    // An idle daemon should neither wake a compute node every second nor answer a RUN after a minute.
    this.#watch = new FileWatch(transferFile, news);
    const copying = { throttle: this.#throttle, bufferBytes, verify, roots, onProgress: news };
    this.#copies = new CopyPool({ filesAtOnce, signal, begin: (entry) => new EntryCopy(entry, copying) });
  }

  async run(): Promise<ScrDaemonResult> {
    await this.#begin();
    try {
      let order: Order = 'wait';
      while (order !== 'exit' && !this.#signal.aborted) {
        order = await this.#look();
        this.#watch.again();
        if ((order === 'stop' || order === 'blind') && this.#copies.running > 0) await this.#copies.stop();
        else if (order !== 'exit') {
          this.#copies.start();
          await this.#pause();
        }
      }
      if (order !== 'exit') {
        await this.#copies.stop();
        order = await this.#look({ leaving: true });
      }
      const failed = new Map([...this.#failures].map(([source, failure]) => [source, failure.error.message]));
      return { copied: this.#copied, failed, recorded: order !== 'blind' };
    } finally {
      this.#watch.close();
    }
  }

  /** Like the original, it says STOPPED before it has looked at anything else. */
  async #begin(): Promise<void> {
    try {
      await this.#file.update((tree) => ({ changed: writeState(tree, 'STOPPED'), result: null }));
    } catch (error) {
      // These pass; a directory that is not there, or not ours to write to, does not.
      if (!(error instanceof CorruptTransferFile || error instanceof LockTimeout)) throw error;
    }
  }

  /** Records what happened, and reads what to do, in one read-modify-write. */
  async #look(options: { leaving: boolean } = { leaving: false }): Promise<Order> {
    const begunAtMs = performance.now();
    // What is recorded counts as such only when it is written.
    const afterwards: (() => void)[] = [];
    try {
      const { order, list, done } = await this.#file.update((tree) => {
        const list = readTransferList(tree);
        this.#takeLimits(list);
        let changed = this.#record(tree, list, afterwards);
        const followed = this.#follow(tree, list, options.leaving, afterwards);
        changed = followed.changed || changed;
        const done = tree.get('FLAG')?.has('DONE') ?? false;
        return { changed, result: { order: followed.order, list, done } };
      });
      for (const settle of afterwards) settle();
      this.#options.onLook?.({ entries: this.#seen(list), command: list.command, done });
      if (this.#notices.tell('file', null)) this.#options.log('the transfer file can be used again');
      return order;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#notices.tell('file', `the transfer file ${this.#file.path} cannot be used: ${message}`);
      if (error instanceof CorruptTransferFile) this.#copies.setQueue([]);
      return error instanceof CorruptTransferFile || options.leaving ? 'blind' : 'wait';
    } finally {
      this.#lookedAtMs = performance.now();
      this.#lookMs = this.#lookedAtMs - begunAtMs;
    }
  }

  #seen(list: TransferList): EntrySeen[] {
    return [...list.entries.values()].map(({ source, destination, size, written }) => {
      const complete = this.#complete.has(source);
      const failure = complete ? null : (this.#failures.get(source)?.error ?? null);
      return { source, destination, size, written, complete, failure };
    });
  }

  /** What became of the copies goes into the tree, and into `list` where it is needed again. */
  #record(tree: Tree, list: TransferList, afterwards: (() => void)[]): boolean {
    let changed = false;
    for (const copy of this.#copies) {
      const entry = list.entries.get(copy.source);
      const { durable, outcome } = copy;
      if (entry === undefined || !copy.isFor(entry)) {
        copy.stop();
        if (outcome !== null) afterwards.push(() => this.#copies.forget(copy));
        continue;
      }
      const complete = outcome === 'complete';
      entry.written = complete ? copy.size : durable;
      if (complete || durable !== copy.recorded) {
        const sourceVersion = complete || durable === 0 ? null : copy.sourceVersion;
        changed = writeProgress(tree, copy.source, entry.written, sourceVersion) || changed;
      }
      if (complete) changed = writeError(tree, copy.source, null) || changed;
      if (outcome instanceof CopyError) changed = this.#fail(tree, entry, outcome, afterwards) || changed;
      const { written } = entry;
      afterwards.push(() => {
        copy.recorded = written;
        if (outcome !== null) this.#copies.forget(copy);
        if (complete) {
          this.#copied++;
          this.#failures.delete(copy.source);
          this.#complete.set(copy.source, identity(entry));
        }
      });
    }
    for (const entry of list.entries.values()) {
      if (entry.fault === null) continue;
      changed = this.#fail(tree, entry, new CopyError('EINVAL', entry.fault), afterwards) || changed;
    }
    return changed;
  }

  #fail(tree: Tree, entry: Entry, error: CopyError, afterwards: (() => void)[]): boolean {
    const { message } = error;
    const retryAtMs = performance.now() + Math.max(this.#options.pollMs, SHORTEST_RETRY_MS);
    afterwards.push(() => {
      if (this.#failures.get(entry.source)?.error.message !== message) {
        this.#options.log(`${entry.source} is not copied: ${message}`);
      }
      this.#failures.set(entry.source, { entry: identity(entry), error, retryAtMs });
    });
    return writeError(tree, entry.source, `${message}.`);
  }

  /** Obeys COMMAND as far as it can be done now, and says with STATE and FLAG what was done. */
  #follow(
    tree: Tree,
    list: TransferList,
    leaving: boolean,
    afterwards: (() => void)[],
  ): { changed: boolean; order: Order } {
    const { command } = list;
    this.#notices.tell(
      'command',
      list.unknownCommand && `COMMAND ${JSON.stringify(list.unknownCommand)} is not known`,
    );
    let changed = false;
    let { done } = list;
    if (done && command === 'STOP') this.#stoppedWhenDone = true;
    if (done && command === 'RUN' && this.#stoppedWhenDone) {
      // A RUN after that STOP is a new one, and asks for everything to be looked at again.
      changed = writeDone(tree, false);
      done = false;
    }
    const running = command === 'RUN' && !done && !leaving;
    if (running) {
      if (!this.#running) this.#startRun();
      this.#prune(list);
      const complete = this.#willBeComplete(list);
      if (complete) afterwards.push(() => this.#options.log(`done: ${list.entries.size} files are complete`));
      else this.#copies.setQueue(this.#pending(list));
      if (!complete) return { changed: writeState(tree, 'RUNNING') || changed, order: 'run' };
      changed = writeDone(tree, true) || changed;
    }
    this.#running = false;
    this.#copies.setQueue([]);
    if (this.#copies.running > 0) return { changed, order: 'stop' };
    const state = command === 'EXIT' ? 'EXITING' : 'STOPPED';
    changed = writeState(tree, state) || changed;
    return { changed, order: command === 'EXIT' ? 'exit' : 'wait' };
  }

  #startRun(): void {
    this.#running = true;
    this.#stoppedWhenDone = false;
    this.#failures.clear();
    this.#complete.clear();
  }

  /** Forgets what other programs changed. */
  #prune(list: TransferList): void {
    for (const [source, failure] of this.#failures) {
      const entry = list.entries.get(source);
      // Whoever removes ERROR wants it tried again.
      if (entry === undefined || identity(entry) !== failure.entry || entry.error === null) {
        this.#failures.delete(source);
      }
    }
    for (const [source, complete] of this.#complete) {
      const entry = list.entries.get(source);
      if (entry === undefined || identity(entry) !== complete || entry.written !== entry.size) {
        this.#complete.delete(source);
      }
    }
  }

  /** Whether every entry is complete once this look is written. */
  #willBeComplete(list: TransferList): boolean {
    for (const entry of list.entries.values()) {
      const copy = this.#copies.of(entry.source);
      const completes = copy?.outcome === 'complete' && copy.isFor({ ...entry, written: copy.recorded });
      if (!completes && !this.#complete.has(entry.source)) return false;
    }
    return true;
  }

  #pending(list: TransferList): CopyableEntry[] {
    const nowMs = performance.now();
    // The last burst of a copy that is not wanted any more must not come after the first of another.
    const busy = new Set([...this.#copies].map(({ destination }) => destination));
    return [...list.entries.values()].filter(
      (entry): entry is CopyableEntry =>
        entry.destination !== null &&
        !busy.has(entry.destination) &&
        !this.#complete.has(entry.source) &&
        this.#copies.of(entry.source) === undefined &&
        (this.#failures.get(entry.source)?.retryAtMs ?? 0) <= nowMs,
    );
  }

  #takeLimits(list: TransferList): void {
    const { bytesPerSecond, percent } = list;
    if (bytesPerSecond !== undefined) this.#throttle.bandwidth.bytesPerSecond = bytesPerSecond;
    if (percent !== undefined) this.#throttle.cpu.percent = percent;
    const unclear = [bytesPerSecond === undefined && 'BW', percent === undefined && 'PERCENT'].filter(
      Boolean,
    );
    this.#notices.tell(
      'limits',
      unclear.length > 0
        ? `${unclear.join(' and ')} is no number from 0 on; the limit stays as it was`
        : null,
    );
  }

  /** Until there is news or the poll time is over, and never so soon that looking takes the time of copying. */
  async #pause(): Promise<void> {
    const { pollMs } = this.#options;
    const longestMs = this.#copies.running > 0 ? Math.min(pollMs, LONGEST_LOOK_MS) : pollMs;
    await this.#news.wait(longestMs, this.#signal);
    const restMs = this.#lookedAtMs + Math.max(LOOK_MS, this.#lookMs * LOOK_SHARE) - performance.now();
    if (restMs > 0) await delay(restMs, undefined, { signal: this.#signal }).catch(() => undefined);
  }
}

/** What is copied, without how far. */
function identity(entry: Entry): string {
  return `${entry.size} ${entry.destination}`;
}
