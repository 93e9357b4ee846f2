import type { FileError } from './errors.js';
import type { Evidence, FileOutcome, TerminalFileState } from './words.js';

/** What became of one file of a job or of a list. */
export interface FileResult {
  /** The number by which its list knows the file. */
  index: number;
  path: string;
  state: TerminalFileState;
  /** Null unless `state` is `succeeded`. */
  outcome: FileOutcome | null;
  evidence: Evidence | null;
  /** How often a flush or a copy of the file was begun; 0 if it never came to that. */
  attempts: number;
  /** Errors met on the way, also by a file that succeeded in the end. */
  firstError: FileError | null;
  lastError: FileError | null;
  /** Bytes, as the server or the file system said last; null if it is not known. */
  size: number | null;
  /** Milliseconds since the epoch, from the same answer. */
  mtimeMs: number | null;
  /** From the moment the file was taken up to its end, without the time it waited for a free slot. */
  durationMs: number;
  /** Of an entry that an expansion of a transfer adds. */
  destination?: string | null;
}

/** A file that ended with nothing done for it. */
export function endedUntried(
  index: number,
  path: string,
  error: FileError,
  state: Exclude<TerminalFileState, 'succeeded'> = 'failed',
): FileResult {
  return {
    index,
    path,
    state,
    outcome: null,
    evidence: null,
    attempts: 0,
    firstError: error,
    lastError: error,
    size: null,
    mtimeMs: null,
    durationMs: 0,
  };
}
