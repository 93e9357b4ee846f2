import { setTimeout as delay } from 'node:timers/promises';
import { CopyError, type CopyErrorCode } from '../copy/copy-error.js';
import { adoptAttempt, copyFile, discardAttempt } from '../copy/copy-file.js';
import { compare, type SourceLook } from '../copy/look.js';
import type { AllowedRoots, Place } from '../copy/place.js';
import type { Throttle } from '../copy/throttle.js';
import { HandBack } from '../flush/engine.js';
import type { FileError } from '../model/errors.js';
import { endedUntried, type FileResult } from '../model/file-result.js';
import { pathBytes } from '../model/pathname.js';
import type { Part } from '../store/transfers.js';
import type { ChunkFile } from '../store/work.js';
import type { DestinationClaims } from './destination-claims.js';
import { JobEnded } from './endings.js';
import type { TransferProgress } from './transfer-progress.js';

/** Where an agent may read and write. */
export interface Roots {
  source: AllowedRoots;
  destination: AllowedRoots;
}

export interface FileTransfer {
  file: ChunkFile;
  /** What an earlier run has copied of it. */
  part: Part | undefined;
  /** Names this attempt: no other run of this file, of any job, has it. */
  attempt: string;
  roots: Roots;
  verify: boolean;
  bufferBytes: number;
  throttle: Throttle;
  claims: DestinationClaims;
  progress: TransferProgress;
}

const TRIES = 3;
/** What is said of a path in which no temporary file can be. */
const NEVER_MADE: readonly CopyErrorCode[] = [
  'OUTSIDE_ROOTS',
  'INVALID_PATH',
  'ENOTDIR',
  'ELOOP',
  'ENAMETOOLONG',
];
const FIRST_PAUSE_MS = 500;
/** What may pass within moments. A full disk does not, and copying again what it had no room for helps nobody. */
const TRIED_AGAIN: readonly CopyErrorCode[] = ['EIO', 'ENXIO', 'ESTALE', 'VERIFY_FAILED'];

/** One file took longer than it may. */
export class FileTimeout extends Error {
  constructor(timeoutMs: number) {
    super(`it was not copied within ${timeoutMs / 1000} s`);
    this.name = 'FileTimeout';
  }
}

/**
 * Copies one file, going on where an earlier run of the same job was cut off if the source is still the same.
 * @param signal aborted with HandBack: what is durable is told to the store and kept; with anything else: the
 *   temporary file is removed
 * @returns null if it was handed back
 */
export async function transferFile(transfer: FileTransfer, signal: AbortSignal): Promise<FileResult | null> {
  const { file, progress } = transfer;
  const begunAtMs = performance.now();
  const told: Told = { attempts: 0, firstError: null, look: null };
  const ended = (more: Ending): FileResult => ({
    index: file.index,
    path: file.path,
    outcome: null,
    evidence: null,
    attempts: told.attempts,
    size: told.look?.size ?? file.size,
    mtimeMs: told.look?.mtimeMs ?? null,
    durationMs: performance.now() - begunAtMs,
    firstError: told.firstError,
    lastError: told.firstError,
    ...more,
  });
  let part = transfer.part;
  for (;;) {
    try {
      const tried = await tryOnce({ ...transfer, part }, told, signal);
      part = tried.part;
      if (tried.outcome === 'interrupted') break;
      progress.drop(file.index);
      const evidence = transfer.verify ? 'verified' : 'stable';
      return ended({ state: 'succeeded', outcome: tried.outcome, evidence });
    } catch (error) {
      // Whatever is not a fault of the file is one of ours, and then too the job must come to its end.
      const failure =
        error instanceof CopyError ? error : new CopyError('EIO', String(error), { cause: error });
      const lastError = fileError(failure.code, failure.phase, failure.message);
      told.firstError ??= lastError;
      part = undefined;
      const again = TRIED_AGAIN.includes(failure.code) && told.attempts < TRIES && !signal.aborted;
      if (!again) {
        await discard(transfer);
        progress.drop(file.index);
        return ended({ state: 'failed', lastError });
      }
      await delay(FIRST_PAUSE_MS * 2 ** (told.attempts - 1), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) break;
    }
  }
  if (signal.reason instanceof HandBack) {
    if (part !== undefined) progress.set(file.index, part);
    return null;
  }
  await discard(transfer);
  progress.drop(file.index);
  return ended(cutOff(signal.reason));
}

/** What became of a file that was not begun because its job, or this process, ended. Null: it is handed back. */
export async function notBegun(
  transfer: Pick<FileTransfer, 'file' | 'part' | 'roots' | 'attempt' | 'progress'>,
  reason: unknown,
): Promise<FileResult | null> {
  if (reason instanceof HandBack) return null;
  if (transfer.part !== undefined) await discard(transfer);
  const { index, path, size } = transfer.file;
  const { state, lastError } = cutOff(reason);
  return { ...endedUntried(index, path, lastError, state), size };
}

type Ending = Pick<FileResult, 'state'> & Partial<FileResult>;

interface Told {
  attempts: number;
  firstError: FileError | null;
  look: SourceLook | null;
}

interface Tried {
  outcome: 'copied' | 'identical' | 'interrupted';
  /** What stands beside the destination. */
  part: Part | undefined;
}

async function tryOnce(transfer: FileTransfer, told: Told, signal: AbortSignal): Promise<Tried> {
  const { file, attempt, roots, verify, bufferBytes, throttle, claims, progress } = transfer;
  const source = pathBytes(file.path);
  const destination = pathBytes(file.destination ?? '');
  told.attempts++;
  const onPlace = (place: Place): Promise<void> => claims.claim(place, file.index);
  const request = { source, destination, roots, content: verify, bufferBytes, onPlace };
  const look = await compare(request, throttle, signal);
  told.look = look;
  checkSize(file, look);
  if (look.identical === null || signal.aborted) return { outcome: 'interrupted', part: transfer.part };
  if (look.identical) {
    await discard(transfer);
    return { outcome: 'identical', part: undefined };
  }

  const before = transfer.part?.source === look.version ? transfer.part : undefined;
  if (before === undefined && transfer.part !== undefined) await discard(transfer);
  const part: Part = {
    attempts: [...new Set([attempt, ...(before?.attempts ?? [])])],
    destination: file.destination ?? '',
    durable: before?.durable ?? 0,
    source: look.version,
  };
  // The name of a file that is begun for the first time is known to the store already.
  if (transfer.part !== undefined) {
    progress.set(file.index, part);
    await progress.stored(signal);
    if (signal.aborted) return { outcome: 'interrupted', part };
  }
  if (before !== undefined && !(await adopt(transfer, before))) part.durable = 0;
  part.attempts = [attempt];
  const result = await copyFile(
    {
      source,
      destination,
      roots,
      size: null,
      resumeAt: part.durable,
      resumeVersion: look.version,
      mode: 'atomic',
      attemptId: attempt,
      verify: verify ? 'crc32' : 'size',
      bufferBytes,
      onPlace,
    },
    throttle,
    signal,
    (durable, version) => {
      part.durable = durable;
      part.source = version;
      progress.set(file.index, part);
    },
  );
  if (!result.complete) part.durable = result.durableBytes;
  return { outcome: result.complete ? 'copied' : 'interrupted', part };
}

async function adopt({ file, attempt, roots }: FileTransfer, before: Part): Promise<boolean> {
  const destination = pathBytes(file.destination ?? '');
  for (const from of before.attempts) {
    if (from === attempt) return true;
    if (await adoptAttempt({ destination, roots, from, to: attempt })) return true;
  }
  // The renaming may have been done before a crash; only this attempt can have done it.
  return false;
}

/** Removes the temporary files of this and earlier runs; what cannot be removed is left to the later clean-up. */
async function discard({
  file,
  part,
  roots,
  attempt,
  progress,
}: Pick<FileTransfer, 'file' | 'part' | 'roots' | 'attempt' | 'progress'>): Promise<void> {
  const destination = file.destination ?? '';
  const left: string[] = [];
  for (const attemptId of new Set([attempt, ...(part?.attempts ?? [])])) {
    const request = { destination: pathBytes(destination), roots, attemptId };
    // Outside the roots nothing was ever made.
    await discardAttempt(request).catch((error: unknown) => {
      if (!(error instanceof CopyError && NEVER_MADE.includes(error.code))) left.push(attemptId);
    });
  }
  if (left.length > 0) progress.leave(file.index, { attempts: left, destination, durable: 0, source: '-' });
}

function checkSize({ path, size }: ChunkFile, look: SourceLook): void {
  if (size === null || size === look.size) return;
  const sentence = `the source ${path} has ${look.size} bytes; ${size} were given for it`;
  throw new CopyError(look.size < size ? 'SOURCE_SHORT' : 'SOURCE_CHANGED', sentence);
}

function cutOff(reason: unknown): { state: 'expired' | 'canceled'; lastError: FileError } {
  const expired = reason instanceof FileTimeout || (reason instanceof JobEnded && reason.why === 'expired');
  const sentence =
    reason instanceof FileTimeout
      ? reason.message
      : expired
        ? "the job's deadline passed before this file was done"
        : 'the job was canceled before this file was done';
  const lastError = fileError(expired ? 'DEADLINE' : 'CANCELED', 'copy', sentence);
  return { state: expired ? 'expired' : 'canceled', lastError };
}

export function fileError(code: FileError['code'], phase: FileError['phase'], message: string): FileError {
  return { code, nfsStatus: null, phase, message };
}
