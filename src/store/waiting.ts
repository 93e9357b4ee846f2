import { type FileError, type FileErrorCode, isTargetError } from '../model/errors.js';
import type { FileState, JobKind } from '../model/words.js';

/** Words for what keeps a job waiting that is not its own: its cache, or that nobody works for it. */

/** As the end of a sentence about a cache that is held. */
export function heldSince(code: FileErrorCode, sinceMs: number, message: string): string {
  const reason = message.replace(/[.\s]+$/, '');
  const what = isTargetError(code) ? 'has been unreachable' : 'has written nothing back';
  return `${what} since ${new Date(sinceMs).toISOString()}${reason === '' ? '' : ` (${reason})`}`;
}

/** As it is stored; a hold of an earlier version has none. */
export function holdCode(stored: string | null | undefined): FileErrorCode {
  return (stored || 'UNREACHABLE') as FileErrorCode;
}

export function lastSeen(seenAtMs: number | null): string {
  return seenAtMs === null
    ? 'none was ever seen'
    : `the last was seen at ${new Date(seenAtMs).toISOString()}`;
}

/** The fields of a job that say what it waited for when its deadline passed; scripts/job-prelude.ts writes them. */
export const WAITED_FIELDS = ['waitedFor', 'waitedSince', 'waitedCode', 'waitedWhy'] as const;

/** What a job waited for when its deadline passed. */
export interface Waited {
  /** As the end of a sentence. */
  why: string;
  /** The fault behind it, if it was one of the cache. */
  fault: Pick<FileError, 'code' | 'message'> | null;
}

/** @param values of `WAITED_FIELDS`; null: it waited for nothing but its turn */
export function waitedOf(values: readonly (string | null | undefined)[], kind: JobKind): Waited | null {
  const [waitedFor, since, code, why] = values;
  const sinceMs = since ? Number(since) : null;
  switch (waitedFor) {
    case 'held':
      return {
        why: `its cache ${heldSince(holdCode(code), sinceMs ?? 0, why ?? '')}`,
        fault: { code: holdCode(code), message: why ?? '' },
      };
    case 'paused':
      return {
        why: `its ${kind === 'flush' ? 'cache' : 'node'} was paused${why ? `: ${why}` : ''}`,
        fault: null,
      };
    case 'unserved': {
      const nobody =
        kind === 'flush' ? 'no running worker served its cache' : 'no agent of its node was connected';
      return { why: `${nobody} (${lastSeen(sinceMs)})`, fault: null };
    }
    case 'room':
      return { why: 'its directories had to wait for room in the quota of its principal', fault: null };
    default:
      return null;
  }
}

/** The errors, first and last, of a file that ended while nobody had it in hand; null: it is no such file. */
export function unseenErrors(
  state: FileState,
  kind: JobKind,
  waited: Waited | null,
): { first: FileError; last: FileError } | null {
  const phase = kind === 'flush' ? 'flush' : 'copy';
  if (state === 'canceled') {
    const message = 'The job was canceled before this file was done.';
    const error: FileError = { code: 'CANCELED', nfsStatus: null, phase, message };
    return { first: error, last: error };
  }
  if (state !== 'expired') return null;
  const message = `The job's deadline passed before this file was done${waited === null ? '' : `: ${waited.why}`}.`;
  const last: FileError = { code: 'DEADLINE', nfsStatus: null, phase, message };
  const fault = waited?.fault ?? null;
  return {
    first:
      fault === null
        ? last
        : { ...fault, nfsStatus: null, phase: isTargetError(fault.code) ? 'mount' : 'flush' },
    last,
  };
}
