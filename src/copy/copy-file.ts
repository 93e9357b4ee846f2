import { createHash } from 'node:crypto';
import { type BigIntStats, constants, promises as fs } from 'node:fs';
import { CopyError, copyErrorOf, hasCode } from './copy-error.js';
import { loadLibc } from './libc.js';
import { exactSize, versionOf } from './look.js';
import { type AllowedRoots, openPlace, openRegular, type Place } from './place.js';
import { checksum, pump, storedChecksum } from './pump.js';
import type { Throttle } from './throttle.js';

const NAME_MAX = 255;

export interface CopyRequest {
  /** Absolute paths; names are bytes. */
  source: Buffer;
  destination: Buffer;
  /** Where sources and destinations must lie. Null: anywhere. */
  roots: { source: AllowedRoots; destination: AllowedRoots } | null;
  /** How many bytes of the source make the file. Null: all that it has when the copy begins. */
  size: number | null;
  /** Continue behind this many bytes, which an earlier, unfinished copy made durable; 0: begin anew. */
  resumeAt: number;
  /** The source version that the earlier copy told. The copy begins anew if it is another now. Null: not known. */
  resumeVersion: string | null;
  /**
   * `in-place` writes to the destination itself. `atomic` writes to a name of this attempt beside it and renames
   * that in the end: the destination is never half a file, and has permissions and mtime of the source.
   */
  mode: 'in-place' | 'atomic';
  /** `atomic` only: tells this attempt's temporary file from others'. Letters, digits, "-" and "_", at most 64. */
  attemptId?: string;
  /**
   * `size` looks at the size of the destination after the last fsync; `crc32` also reads it again and compares.
   * The page cache is dropped before, where the kernel does that (Linux; a network file system may not).
   */
  verify: 'size' | 'crc32';
  /** Memory is twice this. */
  bufferBytes: number;
  /** `atomic` only: hears where the copy will stand before anything is made there; what it throws ends the copy. */
  onPlace?: (place: Place) => Promise<void>;
}

export interface CopyResult {
  /** False if the signal was aborted first; the copy can be resumed at `durableBytes`. */
  complete: boolean;
  durableBytes: number;
  /** Size and time of the source. */
  size: number;
  mtimeMs: number;
  /** Inode, size and time of the source in one string, for a later `resumeVersion`. */
  version: string;
  /** CRC-32 of the content, if `verify` is `crc32` and the copy is complete. */
  crc32: number | null;
}

/**
 * Copies one file in throttled bursts and resolves when it is durable under its name: data, then attributes, then
 * the directory entry. When `signal` is aborted it finishes the burst under way and resolves with `complete: false`.
 * @param onDurable hears how many bytes are durable, and of which version of the source, from `resumeAt` (or 0, if
 *   the copy has to begin anew) on. It never hears the full size: that is said by the result, after all checks.
 * @throws {CopyError} what went wrong with this file, and nothing else
 */
export async function copyFile(
  request: CopyRequest,
  throttle: Throttle,
  signal: AbortSignal,
  onDurable: (bytes: number, version: string) => void = () => undefined,
): Promise<CopyResult> {
  const source = await openSource(request);
  try {
    const before = await source.file.stat({ bigint: true });
    const available = exactSize(before.size);
    const size = request.size ?? available;
    if (available < size) {
      throw new CopyError(
        'SOURCE_SHORT',
        `the source ${request.source} has ${available} bytes, ${size} are expected`,
      );
    }
    const destination = await openDestination(request);
    try {
      const copy: Copy = { request, source, destination, before, size, throttle, signal, onDurable };
      const result = await copyOpened(copy);
      // Some file systems tell only here that they could not write.
      await destination.file.close();
      if (result.complete && request.mode === 'atomic') await takeName(destination);
      return result;
    } catch (error) {
      if (request.mode === 'atomic') await removeQuietly(destination);
      throw copyErrorOf(error, `${request.destination} cannot be written`);
    } finally {
      await closeQuietly(destination);
    }
  } finally {
    await closeQuietly(source);
  }
}

/**
 * Makes what an earlier attempt left behind the beginning of a new one, so that the earlier one, should it still be
 * alive somewhere, can neither finish nor remove it.
 * @returns false if nothing was left behind
 * @throws {CopyError}
 */
export async function adoptAttempt(
  request: Pick<CopyRequest, 'destination' | 'roots'> & { from: string; to: string },
): Promise<boolean> {
  const { destination, roots, from, to } = request;
  try {
    const place = await openPlace(destination, roots?.destination ?? null, false);
    try {
      const [before, after] = [temporaryName(place.name, from), temporaryName(place.name, to)];
      await fs.rename(place.address(before), place.address(after));
      return true;
    } finally {
      await place.close();
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT') || (error instanceof CopyError && error.code === 'ENOENT')) return false;
    throw copyErrorOf(error, `the temporary file of ${destination} cannot be continued`);
  }
}

/**
 * Removes what an attempt of an `atomic` copy left behind; never anything else, however late it comes. A missing
 * temporary file is fine.
 * @throws {CopyError} if it is there and cannot be removed
 */
export async function discardAttempt(
  request: Pick<CopyRequest, 'destination' | 'roots'> & { attemptId: string },
): Promise<void> {
  const { destination, roots, attemptId } = request;
  try {
    const place = await openPlace(destination, roots?.destination ?? null, false);
    try {
      const address = place.address(temporaryName(place.name, attemptId));
      await fs.unlink(address).catch(async (error: unknown) => {
        // A read-only file system does not say that there is nothing to remove.
        await fs.lstat(address);
        throw error;
      });
    } finally {
      await place.close();
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    if (error instanceof CopyError && error.code === 'ENOENT') return;
    throw copyErrorOf(error, `the temporary file of ${destination} cannot be removed`);
  }
}

interface Opened {
  file: fs.FileHandle;
  place: Place;
  /** The name that is written to: the place's own, or the temporary one beside it. */
  name: string;
}

interface Copy {
  request: CopyRequest;
  source: Opened;
  destination: Opened;
  before: BigIntStats;
  size: number;
  throttle: Throttle;
  signal: AbortSignal;
  onDurable: (bytes: number, version: string) => void;
}

async function openSource(request: CopyRequest): Promise<Opened> {
  try {
    const opened = await openRegular(
      request.source,
      constants.O_RDONLY,
      request.roots?.source ?? null,
      false,
    );
    return { ...opened, name: opened.place.name };
  } catch (error) {
    throw copyErrorOf(error, `the source ${request.source} cannot be opened`);
  }
}

async function openDestination(request: CopyRequest): Promise<Opened> {
  const roots = request.roots?.destination ?? null;
  try {
    if (request.mode === 'in-place') {
      const flags = constants.O_RDWR | constants.O_CREAT;
      const opened = await openRegular(request.destination, flags, roots, true);
      return { ...opened, name: opened.place.name };
    }
    const place = await openPlace(request.destination, roots, true);
    try {
      await request.onPlace?.(place);
      await checkReplaceable(place);
      const name = temporaryName(place.name, request.attemptId);
      return { file: await openTemporary(place, name, request.resumeAt > 0), place, name };
    } catch (error) {
      await place.close();
      throw error;
    }
  } catch (error) {
    throw copyErrorOf(error, `the destination ${request.destination} cannot be opened`);
  }
}

/** Before anything is copied: a rename would find out last of all, or quietly replace a device. */
async function checkReplaceable(place: Place): Promise<void> {
  const there = await fs.lstat(place.address()).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return null;
    throw error;
  });
  if (there?.isDirectory()) throw new CopyError('EISDIR', `the destination ${place.path} is a directory`);
  if (there !== null && !there.isFile() && !there.isSymbolicLink()) {
    throw new CopyError('NOT_REGULAR', `the destination ${place.path} is there and not a regular file`);
  }
}

/** Private until it is complete. A left-over of the same attempt is continued or replaced; it can be nobody else's. */
async function openTemporary(place: Place, name: string, resume: boolean): Promise<fs.FileHandle> {
  const address = place.address(name);
  const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  if (resume) {
    const file = await fs.open(address, flags).catch((error: unknown) => {
      if (hasCode(error, 'ENOENT', 'ELOOP')) return null;
      throw error;
    });
    const stat = await file?.stat();
    // A second name could be that of a file which somebody wants us to overwrite.
    if (file && stat?.isFile() && stat.nlink === 1) return file;
    await file?.close();
  }
  await fs.rm(address, { force: true });
  return fs.open(address, flags | constants.O_CREAT | constants.O_EXCL, 0o600);
}

async function copyOpened(copy: Copy): Promise<CopyResult> {
  const { request, source, destination, before, size, throttle, signal } = copy;
  const version = versionOf(before);
  const from = await prepareDestination(copy, version);
  const result: CopyResult = {
    complete: false,
    durableBytes: 0,
    size,
    mtimeMs: Number(before.mtimeMs),
    version,
    crc32: null,
  };
  const report = (position: number): void => {
    // Less than everything, as long as a check or the rename may still fail.
    if (position >= size) return;
    result.durableBytes = position;
    copy.onDurable(position, version);
  };
  report(from);
  const wantsCrc = request.verify === 'crc32';
  const prefixCrc = wantsCrc
    ? await checksum(source.file, from, request.bufferBytes, throttle, signal)
    : null;
  if (wantsCrc && prefixCrc === null) return result;
  const { durable, crc } = await pumped(copy, { from, to: size, crc: prefixCrc }, report);
  if (durable < size) return result;

  await checkSource(copy);
  if (!(await isVerified(copy, crc))) return result;
  // In place, the name may be new. A renamed file's directory is synced after the rename.
  if (request.mode === 'in-place') await destination.place.syncDirectory();
  return { ...result, complete: true, durableBytes: size, crc32: crc };
}

/** Cuts the destination down to what can be continued. Resolves to how many bytes that is. */
async function prepareDestination(copy: Copy, version: string): Promise<number> {
  const { request, destination, before, size } = copy;
  const target = await destination.file.stat({ bigint: true });
  if (target.dev === before.dev && target.ino === before.ino) {
    throw new CopyError('EINVAL', `${request.source} and ${request.destination} are the same file`);
  }
  // Bytes that are not there any more were not made durable here: somebody replaced the file.
  const isThere = request.resumeAt <= Math.min(size, Number(target.size));
  const isSame = request.resumeVersion === null || request.resumeVersion === version;
  const from = isThere && isSame ? request.resumeAt : 0;
  if (Number(target.size) > from) await destination.file.truncate(from);
  return from;
}

/**
 * Compares the destination with what was read. False if the signal was aborted.
 * @param crc CRC-32 of what was read; null: only the size is compared
 */
async function isVerified(copy: Copy, crc: number | null): Promise<boolean> {
  const { request, destination, size, throttle, signal } = copy;
  const stored = await destination.file.stat();
  if (stored.size !== size) {
    throw new CopyError(
      'VERIFY_FAILED',
      `${request.destination} has ${stored.size} bytes after the copy, not ${size}`,
      { phase: 'verify' },
    );
  }
  if (crc === null) return true;
  const storedCrc = await storedChecksum(destination.file, size, request.bufferBytes, throttle, signal);
  if (storedCrc === null || storedCrc === crc) return storedCrc !== null;
  throw new CopyError('VERIFY_FAILED', `${request.destination} differs from what was read (CRC-32)`, {
    phase: 'verify',
  });
}

async function pumped(
  copy: Copy,
  part: { from: number; to: number; crc: number | null },
  report: (position: number) => void,
): ReturnType<typeof pump> {
  const { request, source, destination, throttle, signal } = copy;
  const range = { ...part, seal: () => seal(copy) };
  try {
    return await pump(source.file, destination.file, range, request.bufferBytes, throttle, signal, report);
  } catch (error) {
    if (!(error instanceof CopyError) || error.code !== 'SOURCE_SHORT') throw error;
    // It had enough bytes when it was opened.
    await checkSource(copy);
    throw error;
  }
}

/** @throws {CopyError} SOURCE_CHANGED if the source is not what it was when it was opened, as far as stat(2) tells */
async function checkSource(copy: Copy): Promise<void> {
  const { request, source, before } = copy;
  const now = await source.file.stat({ bigint: true });
  const named = await fs.stat(source.place.address(), { bigint: true }).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return null;
    throw copyErrorOf(error, `the source ${request.source} cannot be read`);
  });
  let change: string | null = null;
  if (named === null) change = 'was removed';
  else if (named.ino !== before.ino || named.dev !== before.dev) change = 'was replaced';
  else if (now.size !== before.size) change = `went from ${before.size} to ${now.size} bytes`;
  else if (now.mtimeNs !== before.mtimeNs) change = 'was written to';
  if (change !== null) {
    throw new CopyError('SOURCE_CHANGED', `the source ${request.source} ${change} while it was copied`);
  }
}

/** A temporary file gets the source's mode and times. */
async function seal({ request, destination, before }: Copy): Promise<void> {
  if (request.mode !== 'atomic') return;
  const { file } = destination;
  // Not set-uid and its kin: the copy may have another owner than the source.
  await file.chmod(Number(before.mode & 0o777n));
  const exact = (await loadLibc())?.setTimes(file.fd, before.atimeNs, before.mtimeNs) ?? false;
  if (!exact) await file.utimes(Number(before.atimeNs) / 1e9, Number(before.mtimeNs) / 1e9);
}

/** The temporary file gets the destination's name, and the directory is durable. */
async function takeName({ place, name }: Opened): Promise<void> {
  await fs.rename(place.address(name), place.address());
  await place.syncDirectory();
}

/** What it says now changes nothing: what was written is durable, or has failed before. */
async function closeQuietly({ file, place }: Opened): Promise<void> {
  await file.close().catch(() => undefined);
  await place.close().catch(() => undefined);
}

async function removeQuietly(destination: Opened): Promise<void> {
  // After the rename the name is gone; before it, what is left is worth less than the error that led here.
  await fs.unlink(destination.place.address(destination.name)).catch(() => undefined);
}

/** Of one attempt and one destination, in its directory, hidden; at most 255 bytes. Bytes as latin1 text. */
function temporaryName(name: string, attemptId: string | undefined): string {
  if (attemptId === undefined || !/^[A-Za-z0-9_-]{1,64}$/.test(attemptId)) {
    throw new CopyError(
      'EINVAL',
      `"${attemptId}" is no attempt id: letters, digits, "-" and "_", at most 64`,
    );
  }
  const readable = `.${name}.${attemptId}.part`;
  if (readable.length <= NAME_MAX) return readable;
  const digest = createHash('sha256').update(Buffer.from(name, 'latin1')).digest('hex').slice(0, 32);
  return `.${digest}.${attemptId}.part`;
}
