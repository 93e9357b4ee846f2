import type { Logger } from 'pino';
import { CopyError, copyErrorOf } from '../copy/copy-error.js';
import { openPlace } from '../copy/place.js';
import type { Throttle } from '../copy/throttle.js';
import { HandBack } from '../flush/engine.js';
import { endedUntried, type FileResult } from '../model/file-result.js';
import { pathBytes } from '../model/pathname.js';
import { type EntrySeen, type Look, runScrDaemon } from '../scr/daemon.js';
import { TransferFile } from '../scr/transfer-file.js';
import { readTransferList, writeCommand, writeDone } from '../scr/transfer-list.js';
import type { TransferOrders } from '../store/transfers.js';
import type {
  AppendEnd,
  AppendRoom,
  ChunkFile,
  ExpansionRun,
  NewFile,
  TransferWorkJob,
} from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';
import { JobEnded } from './endings.js';
import { fileError, type Roots } from './transfer-file.js';
import { TransferProgress } from './transfer-progress.js';

export interface ScrDeps {
  store: Pick<WorkStore, 'expansions' | 'chunks' | 'transfers'>;
  roots: Roots;
  bufferBytes: number;
  filesAtOnce: number;
  throttle: Throttle;
  onOrders: (orders: TransferOrders) => void;
  log: Logger;
}

const CHUNK_FILES = 512;
const POLL_MS = 1000;
const LOCK_TIMEOUT_MS = 10_000;

/**
 * Drives an SCR transfer file: gives it COMMAND RUN, does what SCR's daemon does, and mirrors what becomes of each
 * entry into the job. Ends when everything listed is complete or has failed, with COMMAND STOP or EXIT of another
 * program, or with the job. An aborted job leaves COMMAND STOP.
 * @throws the reason of `abort`, unless it is JobEnded
 */
export async function runScrTransfer(
  run: ExpansionRun<TransferWorkJob>,
  abort: AbortController,
  deps: ScrDeps,
): Promise<void> {
  const path = run.job.options.scrTransferFile ?? run.request.path;
  let place: Awaited<ReturnType<typeof openPlace>>;
  try {
    place = await openPlace(pathBytes(path), deps.roots.source, false);
  } catch (error) {
    return failWhole(run, deps, path, error);
  }
  try {
    // The directory stays the one that was found within the roots, whatever is done to its path.
    const file = place.address().toString();
    const known = new Map<string, ChunkFile>();
    for await (const entry of run.appended()) known.set(entry.path, entry);
    // An earlier run of ours had said RUN before it told the job of any entry. What stands there now was said since.
    if (known.size === 0) {
      await command(file, 'RUN').catch((error: unknown) => {
        throw copyErrorOf(error, `the transfer file ${path} cannot be used`);
      });
    }
    await new ScrTransfer(run, abort, deps, file, known).run();
  } catch (error) {
    if (abort.signal.aborted) {
      if (abort.signal.reason instanceof JobEnded) return;
      throw abort.signal.reason;
    }
    if (!(error instanceof CopyError)) throw error;
    await failWhole(run, deps, path, error);
  } finally {
    await place.close();
  }
}

class ScrTransfer {
  readonly #run: ExpansionRun<TransferWorkJob>;
  readonly #abort: AbortController;
  readonly #deps: ScrDeps;
  readonly #file: string;
  /** Files of the job by source. */
  readonly #files: Map<string, ChunkFile>;
  readonly #told = new Map<string, number>();
  readonly #ended = new Set<string>();
  /** Ends the daemon: there is nothing more to do. */
  readonly #finished = new AbortController();
  #newest: readonly EntrySeen[] = [];
  #mirroring: Promise<void> = Promise.resolve();
  #mirrorAgain = false;
  #busy = false;
  #isFull = false;

  constructor(
    run: ExpansionRun<TransferWorkJob>,
    abort: AbortController,
    deps: ScrDeps,
    file: string,
    known: Map<string, ChunkFile>,
  ) {
    this.#run = run;
    this.#abort = abort;
    this.#deps = deps;
    this.#file = file;
    this.#files = known;
  }

  async run(): Promise<void> {
    const { store, roots, bufferBytes, filesAtOnce, throttle, log, onOrders } = this.#deps;
    const { job } = this.#run;
    const progress = new TransferProgress(
      store.transfers,
      job,
      {
        orders: (orders) => {
          onOrders(orders);
          if (orders.ended !== null) this.#abort.abort(new JobEnded(orders.ended));
        },
        failed: () => this.#abort.abort(new HandBack('the store takes no progress')),
      },
      true,
    );
    try {
      await runScrDaemon(
        {
          transferFile: this.#file,
          pollMs: POLL_MS,
          bufferBytes,
          verify: job.options.verify,
          filesAtOnce,
          lockTimeoutMs: LOCK_TIMEOUT_MS,
          log: (message) => log.info({ job: job.id }, `scr: ${message}`),
          within: throttle,
          roots,
          onLook: (look) => this.#looked(look, progress),
        },
        AbortSignal.any([this.#abort.signal, this.#finished.signal]),
      );
      await this.#mirroring;
      await progress.end();
      if (this.#abort.signal.aborted) {
        if (this.#abort.signal.reason instanceof JobEnded) await command(this.#file, 'STOP');
        throw this.#abort.signal.reason;
      }
      await this.#endAll();
    } finally {
      await progress.end();
    }
  }

  #looked({ entries, command, done }: Look, progress: TransferProgress): void {
    this.#newest = entries;
    const hasEnded = entries.length > 0 && entries.every(({ complete, failure }) => complete || failure);
    // It was RUN when this began: another program has changed it.
    if (done || hasEnded || command !== 'RUN') this.#finished.abort();
    this.#mirrorAgain = true;
    if (this.#busy) return;
    this.#busy = true;
    this.#mirroring = this.#mirror(progress)
      .catch((error: unknown) => {
        this.#deps.log.warn(
          { err: error, job: this.#run.job.id },
          'the progress of a transfer file was not told',
        );
        this.#abort.abort(new HandBack('the store takes no progress'));
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  async #mirror(progress: TransferProgress): Promise<void> {
    while (this.#mirrorAgain) {
      this.#mirrorAgain = false;
      await this.#append(this.#newest);
      for (const { source, destination, written } of this.#newest) {
        const file = this.#files.get(source);
        if (file === undefined || destination === null || this.#ended.has(source)) continue;
        if ((this.#told.get(source) ?? 0) === written) continue;
        this.#told.set(source, written);
        progress.set(file.index, { attempts: ['scr'], destination, durable: written, source: '-' });
      }
      await this.#record(
        this.#newest.filter(({ complete }) => complete),
        ({ size }) => ({ state: 'succeeded', outcome: 'copied', evidence: this.#evidence, size }),
        progress,
      );
    }
  }

  get #evidence(): 'verified' | 'stable' {
    return this.#run.job.options.verify ? 'verified' : 'stable';
  }

  async #append(entries: readonly EntrySeen[]): Promise<void> {
    const added: NewFile[] = entries
      .filter(({ source }) => !this.#files.has(source))
      .map(({ source, destination, size }) => ({ path: source, destination: destination ?? '', size }));
    if (added.length === 0) return;
    let reply: AppendEnd | AppendRoom = 'ok';
    for (let i = 0; i < added.length && reply === 'ok'; i += CHUNK_FILES) {
      reply = await this.#deps.store.expansions.append(this.#run, added.slice(i, i + CHUNK_FILES));
    }
    if (reply === 'ended') this.#abort.abort(new JobEnded('canceled'));
    else if (reply === 'fenced') this.#abort.abort(new HandBack('a newer run has it'));
    else if (reply === 'full') await this.#endFull();
    for await (const file of this.#run.appended()) this.#files.set(file.path, file);
  }

  /** Ends the job, which cannot hold what the transfer file lists. */
  async #endFull(): Promise<void> {
    if (this.#isFull) return;
    this.#isFull = true;
    this.#finished.abort();
    const sentence =
      'the job has as many files as one job may have; what else the transfer file lists was not added';
    const error = fileError('TOO_MANY_FILES', 'expand', sentence);
    await this.#deps.store.expansions.appendEnded(this.#run, [
      endedUntried(0, this.#run.request.path, error),
    ]);
  }

  /** What has not ended when the daemon has: failed, or given up by COMMAND STOP or EXIT. */
  async #endAll(): Promise<void> {
    const { store } = this.#deps;
    const stopped = fileError(
      'CANCELED',
      'copy',
      'COMMAND of the transfer file was changed before this file was complete',
    );
    await this.#record(this.#newest, ({ failure, written }) => {
      if (failure === null) return { state: 'canceled', lastError: stopped, size: written };
      const lastError = fileError(failure.code, failure.phase, failure.message);
      return { state: 'failed', lastError, firstError: lastError, attempts: 1 };
    });
    // An entry that somebody removed from the transfer file.
    const removed = [...this.#files.values()].filter(({ path }) => !this.#ended.has(path));
    await this.#recordResults(
      removed.map((file) => endedUntried(file.index, file.path, stopped, 'canceled')),
    );
    await store.expansions.end(this.#run, this.#files.size);
  }

  async #record(
    entries: readonly EntrySeen[],
    ending: (entry: EntrySeen) => Pick<FileResult, 'state'> & Partial<FileResult>,
    progress?: TransferProgress,
  ): Promise<void> {
    const results: FileResult[] = [];
    for (const entry of entries) {
      const file = this.#files.get(entry.source);
      if (file === undefined || this.#ended.has(entry.source)) continue;
      progress?.drop(file.index);
      this.#ended.add(entry.source);
      results.push({
        index: file.index,
        path: file.path,
        outcome: null,
        evidence: null,
        attempts: 1,
        firstError: null,
        lastError: null,
        size: null,
        mtimeMs: null,
        durationMs: 0,
        ...ending(entry),
      });
    }
    await this.#recordResults(results);
  }

  async #recordResults(results: readonly FileResult[]): Promise<void> {
    const { store } = this.#deps;
    const { job } = this.#run;
    const byChunk = new Map<number, FileResult[]>();
    for (const result of results) {
      const chunk = Math.floor(result.index / CHUNK_FILES);
      byChunk.set(chunk, [...(byChunk.get(chunk) ?? []), result]);
    }
    for (const [chunk, some] of byChunk) {
      const { state } = await store.chunks.record({ job, chunk, run: 0, files: [], hold: null }, some);
      if (state === 'gone' || state === 'canceled' || state === 'canceling') {
        this.#abort.abort(new JobEnded('canceled'));
      }
    }
  }
}

/** RUN of ours is a new one: whatever is DONE is looked at again. */
async function command(path: string, word: 'RUN' | 'STOP'): Promise<void> {
  const file = new TransferFile(path, LOCK_TIMEOUT_MS, { onlyAsItIs: true });
  await file.update((tree) => {
    const fresh = word === 'RUN' ? writeDone(tree, false) : false;
    return { changed: writeCommand(tree, word) || fresh, result: readTransferList(tree).command };
  });
}

/** The transfer file itself is the one entry of the job then. */
async function failWhole(
  run: ExpansionRun<TransferWorkJob>,
  { store }: Pick<ScrDeps, 'store'>,
  path: string,
  error: unknown,
): Promise<void> {
  const { code, message } = copyErrorOf(error, `the transfer file ${path} cannot be used`);
  await store.expansions.appendEnded(run, [endedUntried(0, path, fileError(code, 'expand', message))]);
  await store.expansions.end(run, 1);
}
