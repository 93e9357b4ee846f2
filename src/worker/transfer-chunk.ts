import { setMaxListeners } from 'node:events';
import { lookAt } from '../copy/look.js';
import type { Throttle } from '../copy/throttle.js';
import { HandBack } from '../flush/engine.js';
import type { FileResult } from '../model/file-result.js';
import { pathBytes } from '../model/pathname.js';
import type { TransferOrders } from '../store/transfers.js';
import type { ChunkFile, ChunkRun, TransferWorkJob } from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';
import type { DestinationClaims } from './destination-claims.js';
import { JobEnded } from './endings.js';
import { OutcomeBatches } from './outcome-batches.js';
import { FileTimeout, notBegun, type Roots, transferFile } from './transfer-file.js';
import { TransferProgress } from './transfer-progress.js';
import type { FileTurns } from './transfer-turns.js';

export interface TransferDeps {
  store: Pick<WorkStore, 'chunks' | 'transfers'>;
  roots: Roots;
  bufferBytes: number;
  turns: FileTurns;
  /** Of the job, within the node's. */
  throttle: Throttle;
  /** Of the job. */
  claims: DestinationClaims;
  /** What the job asks, as it is heard. */
  onOrders: (orders: TransferOrders) => void;
}

const LOOKS_AT_ONCE = 8;
/** setTimeout takes no more; a deadline that far away is kept by the store. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Copies the files of a chunk that have not ended, and stores what became of each.
 * @param abort its owner's: aborted with HandBack, the unfinished files go back to the store with what is durable of
 *   them; aborted with JobEnded, they end. Aborted here when the store says that the job has ended, or takes no more.
 * @returns true if every file has ended; false if the chunk was given back and has to run again
 * @throws whatever the store throws
 */
export async function runTransferChunk(
  run: ChunkRun<TransferWorkJob>,
  abort: AbortController,
  deps: TransferDeps,
): Promise<boolean> {
  const { store, roots } = deps;
  const { job, files } = run;
  const { signal } = abort;
  // Every file of the chunk waits for its turn, and for this.
  setMaxListeners(0, signal);
  const progress = new TransferProgress(store.transfers, job, {
    orders(orders) {
      deps.onOrders(orders);
      if (orders.ended !== null) abort.abort(new JobEnded(orders.ended));
    },
    failed: () => abort.abort(new HandBack('the store takes no progress')),
  });
  const batches = new OutcomeBatches(store.chunks, run, {
    recorded({ state }) {
      if (state === 'expired') abort.abort(new JobEnded('expired'));
      else if (state !== 'running' && state !== 'queued' && state !== 'expanding')
        abort.abort(new JobEnded('canceled'));
    },
    failed: () => abort.abort(new HandBack('the store takes no outcomes')),
  });
  const endAtDeadline = afterMs(job.deadlineAt - Date.now(), () => abort.abort(new JobEnded('expired')));
  let unfinished = 0;
  try {
    await countSizes(run, deps, signal);
    const parts = await store.transfers.parts(
      job,
      files.map(({ index }) => index),
    );
    const attemptOf = ({ index }: ChunkFile): string => `${job.id}-${index}-${run.run}`;
    // Known to the store before any is made, all at once: asking for each file would double the time of small ones.
    for (const file of files) {
      if (parts.has(file.index)) continue;
      const destination = file.destination ?? '';
      progress.set(file.index, { attempts: [attemptOf(file)], destination, durable: 0, source: '-' });
    }
    await progress.stored(signal);
    const one = async (file: ChunkFile): Promise<void> => {
      const transfer = {
        file,
        part: parts.get(file.index),
        attempt: attemptOf(file),
        roots,
        verify: job.options.verify,
        bufferBytes: deps.bufferBytes,
        throttle: deps.throttle,
        claims: deps.claims,
        progress,
      };
      let begun = false;
      const result = await deps.turns.run(job, signal, () => {
        begun = true;
        return withTimeout(signal, job.options.fileTimeoutSeconds * 1000, (limited) =>
          transferFile(transfer, limited),
        );
      });
      const end: FileResult | null = begun ? result : await notBegun(transfer, signal.reason);
      if (end === null) unfinished++;
      else batches.add(end);
    };
    await Promise.all(files.map(one));
  } finally {
    endAtDeadline();
    await progress.end();
    await batches.end();
    await progress.tellLeft();
  }
  if (unfinished > 0) {
    await store.chunks.release(run);
    return false;
  }
  await store.chunks.end(run);
  return true;
}

/** Before anything is copied, so that the bytes of the job are known as early as they can be. */
async function countSizes(
  { job, chunk, files }: ChunkRun<TransferWorkJob>,
  { store, roots }: TransferDeps,
  signal: AbortSignal,
): Promise<void> {
  const unknown = files.filter(({ size }) => size === null);
  if (unknown.length === 0) return;
  let bytes = 0;
  const left = unknown.values();
  const look = async (): Promise<void> => {
    for (const { path } of left) {
      if (signal.aborted) return;
      // What cannot be looked at will fail, and counts for nothing.
      const size = await lookAt(pathBytes(path), roots.source).then(
        (seen) => seen.size,
        () => 0,
      );
      bytes += size;
    }
  };
  await Promise.all(Array.from({ length: LOOKS_AT_ONCE }, look));
  if (!signal.aborted) await store.transfers.countSizes(job, chunk, unknown.length, bytes);
}

async function withTimeout<T>(
  signal: AbortSignal,
  timeoutMs: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const clear = afterMs(timeoutMs, () => late.abort(new FileTimeout(timeoutMs)));
  try {
    return await work(AbortSignal.any([signal, late.signal]));
  } finally {
    clear();
  }
}

/** @returns what ends it */
export function afterMs(ms: number, then: () => void): () => void {
  if (ms > LONGEST_TIMER_MS) return () => undefined;
  const timer = setTimeout(then, Math.max(0, ms));
  return () => clearTimeout(timer);
}
