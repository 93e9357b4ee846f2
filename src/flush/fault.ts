import type { FileError, FileErrorCode } from '../model/errors.js';
import { FILE_ERRORS, isTargetError } from '../model/errors.js';
import type { Phase } from '../model/words.js';
import { nfsStatusText } from '../nfs/nfs3.js';
import { RpcRefused } from '../nfs/refusal.js';

/**
 * What helps against a fault:
 * - `none`: permanent, the file fails at once
 * - `few`: a few tries with growing pauses, then the file fails
 * - `later`: the server said "try later"; until the deadline
 * - `lookup`: the handle is gone; forget it and its directories, look up again, once
 * - `remount`: the root handle was stale and the export has been mounted again; look up again, once
 * - `restart`: the flush ended and the file is still dirty; start it again, a bounded number of times
 * - `target-away`: the target does not answer; until the deadline
 * - `target-refuses`: the whole target fails, with every file sent to it
 * - `again`: a call shared with another file ended with that file; ask anew at once
 */
export type Remedy =
  | 'none'
  | 'few'
  | 'later'
  | 'lookup'
  | 'remount'
  | 'restart'
  | 'target-away'
  | 'target-refuses'
  | 'again';

/** One thing that went wrong, and what to do about it. Not thrown: a missing file is an ordinary answer. */
export class Fault {
  readonly error: FileError;
  readonly remedy: Remedy;

  constructor(
    code: FileErrorCode,
    phase: Phase,
    message: string,
    remedy: Remedy = 'none',
    nfsStatus: number | null = null,
  ) {
    this.error = { code, nfsStatus, phase, message };
    this.remedy = remedy;
  }
}

/** nfsstat3 (RFC 1813 §2.6) → our code and what helps. What is not here is permanent and keeps its number. */
const STATUS: Readonly<Record<number, readonly [FileErrorCode, Remedy]>> = {
  1: ['EPERM', 'none'],
  2: ['ENOENT', 'none'],
  5: ['EIO', 'few'],
  6: ['ENXIO', 'few'],
  13: ['EACCES', 'none'],
  19: ['ENXIO', 'few'],
  20: ['ENOTDIR', 'none'],
  21: ['EISDIR', 'none'],
  22: ['EINVAL', 'none'],
  27: ['EFBIG', 'none'],
  28: ['ENOSPC', 'few'],
  30: ['EROFS', 'none'],
  63: ['ENAMETOOLONG', 'none'],
  69: ['EDQUOT', 'few'],
  70: ['ESTALE', 'lookup'],
  10001: ['ESTALE', 'lookup'],
  10006: ['ESERVERFAULT', 'few'],
  10008: ['EJUKEBOX', 'later'],
};

/**
 * The fault behind a status other than NFS3_OK.
 * @param call what was asked, e.g. `LOOKUP of "result" in /`
 */
export function statusFault(status: number, phase: Phase, call: string): Fault {
  const [code, remedy] = STATUS[status] ?? (['NFS_STATUS', 'none'] as const);
  return new Fault(code, phase, `${call}: ${nfsStatusText(status)}`, remedy, status);
}

/** The fault behind what a call of the NFS client threw. Anything that is not an error of its own is thrown on. */
export function thrownFault(thrown: unknown, phase: Phase): Fault {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
  if (typeof code !== 'string') throw thrown;
  const { message } = thrown as Error;
  const status = (thrown as { nfsStatus?: unknown }).nfsStatus;
  const nfsStatus = typeof status === 'number' ? status : null;
  if (code === 'DEADLINE' || code === 'ABORTED') return new Fault('DEADLINE', phase, message, 'again');
  if (code === 'CLOSED') return new Fault('CANCELED', phase, message, 'none');
  if (code === 'PROTOCOL_ERROR') {
    // What cannot be read was asked for several times below, each at the price of the connection.
    const remedy = thrown instanceof RpcRefused ? 'few' : 'none';
    return new Fault('PROTOCOL_ERROR', phase, message, remedy, nfsStatus);
  }
  if (code in FILE_ERRORS && isTargetError(code as FileErrorCode)) {
    const known = code as FileErrorCode;
    const remedy = FILE_ERRORS[known].retryable ? 'target-away' : 'target-refuses';
    return new Fault(known, phase, message, remedy, nfsStatus);
  }
  throw thrown;
}

/** How long and how often to try again. Times in milliseconds. */
export interface RetryPolicy {
  /** Pause after the first JUKEBOX; doubles up to `laterMaxMs`. */
  laterMinMs: number;
  laterMaxMs: number;
  /** Tries in all for errors of the storage behind the server (IO, NOSPC, DQUOT, SERVERFAULT). */
  fewTries: number;
  /** Pause after the first of these; triples. */
  fewMinMs: number;
  /** How often a flush is begun in all if the file stays dirty. */
  restartTries: number;
  /** Pause before the second; doubles. */
  restartMinMs: number;
  /** Pause after a failed attempt to reach the target; doubles up to `awayMaxMs`. */
  awayMinMs: number;
  awayMaxMs: number;
  /** First pause before the status of a flush is asked; grows by half up to `pollMaxMs`. */
  pollMinMs: number;
  pollMaxMs: number;
}

export const DEFAULT_RETRY: Readonly<RetryPolicy> = {
  laterMinMs: 500,
  laterMaxMs: 5000,
  fewTries: 4,
  fewMinMs: 250,
  restartTries: 6,
  restartMinMs: 100,
  awayMinMs: 250,
  awayMaxMs: 5000,
  pollMinMs: 50,
  pollMaxMs: 2000,
};
