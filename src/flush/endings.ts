import type { FileError, FileErrorCode } from '../model/errors.js';
import { endedUntried, type FileResult } from '../model/file-result.js';
import type { Phase, TerminalFileState } from '../model/words.js';
import type { Driven } from './driver.js';
import type { FileTask } from './file-task.js';
import type { FlushFile } from './types.js';

/** How files end that are not tried any more, for a reason that is not their own. */
export interface Ending {
  state: 'failed' | 'canceled' | 'expired';
  code: FileErrorCode;
  nfsStatus: number | null;
  /** Null: where the file was. */
  phase: Phase | null;
  message: string;
  /** The message says all; else it stands in front of what the file was doing. */
  alone: boolean;
}

export const CANCELED: Ending = {
  state: 'canceled',
  code: 'CANCELED',
  nfsStatus: null,
  phase: null,
  message: 'canceled',
  alone: false,
};

export const PAST_DEADLINE: Ending = {
  state: 'expired',
  code: 'DEADLINE',
  nfsStatus: null,
  phase: null,
  message: 'the deadline of the job passed',
  alone: false,
};

/** The error of a file that was being worked on. */
export function endingError(ending: Ending, task: FileTask, now: number): FileError {
  const { code, nfsStatus, phase, message, alone } = ending;
  return {
    code,
    nfsStatus: nfsStatus ?? task.lastError?.nfsStatus ?? null,
    phase: phase ?? phaseOf(task),
    message: alone ? message : `${message}: ${task.doing(now)}`,
  };
}

/** The outcome of a file that its driver was done with. */
export function succeeded(task: FileTask, driven: Driven): FileResult {
  const attributes = driven.attributes ?? task.attributes;
  return {
    index: task.file.index,
    path: task.file.path,
    state: 'succeeded',
    outcome: driven.outcome,
    evidence: driven.evidence,
    attempts: task.attempts,
    firstError: task.firstError,
    lastError: task.lastError,
    size: attributes?.size ?? null,
    mtimeMs: attributes?.mtimeMs ?? null,
    durationMs: Date.now() - task.startedAt,
  };
}

/** The outcome of a file that was given up; the time it waits for a slot does not count. */
export function unfinished(task: FileTask, state: TerminalFileState, error: FileError | null): FileResult {
  const { attributes } = task;
  const now = Date.now();
  return {
    index: task.file.index,
    path: task.file.path,
    state,
    outcome: null,
    evidence: null,
    attempts: task.attempts,
    firstError: task.firstError ?? error,
    lastError: error,
    size: attributes?.size ?? null,
    mtimeMs: attributes?.mtimeMs ?? null,
    durationMs: now - task.startedAt - (task.activity === 'waiting' ? now - task.activitySince : 0),
  };
}

/** The outcome of a file that nothing was done for. */
export function untried(file: FlushFile, ending: Ending): FileResult {
  const { code, nfsStatus, phase, alone } = ending;
  const message = alone ? ending.message : `${ending.message} before this file was begun`;
  const error: FileError = { code, nfsStatus, phase: phase ?? 'intake', message };
  return endedUntried(file.index, file.path, error, ending.state);
}

function phaseOf(task: FileTask): Phase {
  if (task.session.mounted === null) return 'mount';
  if (!task.resolved) return 'resolve';
  return task.underWay ? 'poll' : 'flush';
}
