import { flushFiles, HandBack } from '../flush/engine.js';
import type { FlushOptions } from '../flush/types.js';
import { isTargetError } from '../model/errors.js';
import type { FileResult } from '../model/file-result.js';
import { heldSince } from '../store/waiting.js';
import type { ChunkRun, FlushWork, HoldReason, RecordReply } from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';
import { ChunkSpans } from './chunk-spans.js';
import { JobEnded } from './endings.js';
import type { ActiveItem } from './item-queue.js';
import type { ListedFiles } from './listed-files.js';
import { OutcomeBatches } from './outcome-batches.js';
import type { SharedSession } from './sessions.js';
import type { CacheSlots } from './slots.js';

/** How many files end before it is looked at whether fewer slots would do. */
const FILES_PER_LOOK = 32;

export interface ChunkDeps {
  store: Pick<WorkStore, 'chunks'>;
  slots: CacheSlots;
  shared: SharedSession;
  listed: ListedFiles;
  holdAfterMs: number;
  /** Files have ended, and their outcomes are stored; `state` is the job's by now. */
  onRecorded: (state: RecordReply['state']) => void;
  onEnded?: ((result: FileResult) => void) | undefined;
}

/** How a job wants its files flushed, as the engine takes it. */
export function flushOptions(job: FlushWork, holdAfterMs: number): FlushOptions {
  const { dialect, mode, pathsAre, clientMount, fileTimeoutSeconds } = job.options;
  return {
    dialect,
    mode,
    pathsAre,
    clientMount,
    fileTimeoutMs: fileTimeoutSeconds * 1000,
    deadlineAt: job.deadlineAt,
    whenDown: 'hand-back',
    holdAfterMs,
    ...(job.confinedTo !== undefined && { confinedTo: job.confinedTo }),
  };
}

/**
 * Flushes the files of a chunk that have not ended, and stores what became of each.
 * @param item its owner's. `abort`: aborted with HandBack, the unfinished files go back to the store; aborted with
 *   JobEnded, they end; aborted here when the store says that the job has ended, or takes no more. `leave`: aborted,
 *   the files that have not begun go back to the store when the others have ended.
 * @returns true if every file has ended; false if the chunk was given back and has to run again
 * @throws {TargetDownError} after the unfinished files were given back; whatever the store throws
 */
export async function runChunk(
  run: ChunkRun<FlushWork>,
  item: Pick<ActiveItem, 'abort' | 'leave'>,
  deps: ChunkDeps,
): Promise<boolean> {
  const spans = new ChunkSpans(run, () => deps.shared.session.counters());
  try {
    const done = await flushChunk(run, item, deps, spans);
    spans.end(done);
    return done;
  } catch (error) {
    spans.end(false, error);
    throw error;
  }
}

async function flushChunk(
  run: ChunkRun<FlushWork>,
  { abort, leave }: Pick<ActiveItem, 'abort' | 'leave'>,
  deps: ChunkDeps,
  spans: ChunkSpans,
): Promise<boolean> {
  const { store, slots, shared } = deps;
  let unfinished = run.files.length;
  shared.wanted += unfinished;
  slots.changed();

  const batches = new OutcomeBatches(store.chunks, run, {
    recorded({ state }, files) {
      spans.batchEnded(files);
      if (state === 'expired') abort.abort(new JobEnded('expired'));
      else if (state !== 'running' && state !== 'queued' && state !== 'expanding') {
        abort.abort(new JobEnded('canceled'));
      }
      deps.onRecorded(state);
    },
    failed: () => abort.abort(new HandBack('the store takes no outcomes')),
  });

  await shared.turns.take(unfinished);
  try {
    // Who had the chunk before may have begun flushes that nobody saw the end of.
    const begunBefore = run.run > 1;
    const options = { ...flushOptions(run.job, deps.holdAfterMs), begunBefore, leave: leave.signal };
    const begunAt = Date.now();
    const files = run.files.map(({ index, path }) => ({
      index,
      path,
      listed: deps.listed.take(run.job.id, path),
    }));
    for await (const outcome of flushFiles(shared.session, files, options, abort.signal)) {
      unfinished--;
      shared.wanted--;
      shared.turns.ended(1);
      if (unfinished % FILES_PER_LOOK === 0) slots.changed();
      const ended = endedBy(abort.signal.reason, outcome);
      const result = shared.session.answeredAt < begunAt ? afterHold(run.hold, ended) : ended;
      batches.add(result);
      deps.onEnded?.(result);
    }
  } finally {
    shared.wanted -= unfinished;
    shared.turns.ended(unfinished);
    slots.changed();
    // Also after a TargetDownError: what had ended by then has ended.
    await batches.end();
    if (unfinished > 0) await store.chunks.release(run);
  }
  if (unfinished > 0) return false;
  await store.chunks.end(run);
  return true;
}

/** What the engine cancels because the job's deadline has passed, has expired. */
function endedBy(reason: unknown, outcome: FileResult): FileResult {
  if (outcome.state !== 'canceled' || !(reason instanceof JobEnded) || reason.why !== 'expired')
    return outcome;
  const { firstError, lastError } = outcome;
  const error = lastError && {
    ...lastError,
    code: 'DEADLINE' as const,
    message: `the deadline of the job passed (${lastError.message})`,
  };
  return {
    ...outcome,
    state: 'expired',
    firstError: firstError?.code === 'CANCELED' ? error : firstError,
    lastError: error,
  };
}

/** A file that expires while its cache is held has waited since the hold began, not since its last try. */
function afterHold(hold: HoldReason | null, result: FileResult): FileResult {
  const { state, lastError } = result;
  if (hold === null || state !== 'expired' || lastError === null) return result;
  const { code, since, message } = hold;
  return {
    ...result,
    firstError: { code, nfsStatus: null, phase: isTargetError(code) ? 'mount' : 'flush', message },
    lastError: {
      ...lastError,
      message: `${lastError.message}; the cache ${heldSince(code, since, message)}`,
    },
  };
}
