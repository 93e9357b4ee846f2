import { type BigIntStats, constants, promises as fs } from 'node:fs';
import { CopyError, copyErrorOf } from './copy-error.js';
import { type AllowedRoots, openPlace, openRegular, type Place } from './place.js';
import { checksum, storedChecksum } from './pump.js';
import type { Throttle } from './throttle.js';

/** What a source looked like at one moment. */
export interface SourceLook {
  /** For a later `resumeVersion` of `copyFile`. No spaces. */
  version: string;
  size: number;
  mtimeMs: number;
}

export interface CompareRequest {
  source: Buffer;
  destination: Buffer;
  roots: { source: AllowedRoots; destination: AllowedRoots } | null;
  /** Whether files of the same size and time are read, too. */
  content: boolean;
  bufferBytes: number;
  /** Hears where the destination stands, if it does, before anything is said of it; what it throws is thrown. */
  onPlace?: (place: Place) => Promise<void>;
}

/**
 * Looks at a source, within its roots.
 * @throws {CopyError}
 */
export async function lookAt(source: Buffer, roots: AllowedRoots | null): Promise<SourceLook> {
  const { file, place } = await openSource(source, roots);
  try {
    return await lookOf(file);
  } finally {
    await file.close();
    await place.close();
  }
}

/**
 * Looks at a source and whether its destination is the same already: size and time, and if asked for the content. If
 * so the destination is made durable, for whoever wrote it may not have done that.
 * @returns `identical` null: the signal was aborted first
 * @throws {CopyError} if the source cannot be read; a destination that cannot be read is just not the same
 */
export async function compare(
  request: CompareRequest,
  throttle: Throttle,
  signal: AbortSignal,
): Promise<SourceLook & { identical: boolean | null }> {
  const { roots, bufferBytes } = request;
  const source = await openSource(request.source, roots?.source ?? null);
  try {
    const look = await lookOf(source.file);
    const destination = await openThere(request.destination, roots?.destination ?? null);
    if (destination === null) return { ...look, identical: false };
    try {
      await request.onPlace?.(destination.place);
      const there = await destination.file.stat();
      const { dev, ino } = await source.file.stat();
      if (there.dev === dev && there.ino === ino) {
        throw new CopyError('EINVAL', `${request.source} and ${request.destination} are the same file`);
      }
      // Not every file system keeps nanoseconds, and without futimens(3) a copy gets them rounded.
      const same = there.size === look.size && Math.abs(there.mtimeMs - look.mtimeMs) < 1;
      if (!same) return { ...look, identical: false };
      if (request.content) {
        const ours = await checksum(source.file, look.size, bufferBytes, throttle, signal);
        if (ours === null) return { ...look, identical: null };
        const theirs = await storedChecksum(destination.file, look.size, bufferBytes, throttle, signal);
        if (theirs === null) return { ...look, identical: null };
        if (ours !== theirs) return { ...look, identical: false };
      }
      await destination.file.sync();
      await destination.place.syncDirectory();
      return { ...look, identical: true };
    } finally {
      await destination.file.close();
      await destination.place.close();
    }
  } catch (error) {
    throw copyErrorOf(error, `${request.destination} cannot be compared with its source`);
  } finally {
    await source.file.close();
    await source.place.close();
  }
}

/**
 * Whether a destination has its size, as somebody said it has. If so it is durable afterwards, whoever wrote it.
 * @throws {CopyError} if it cannot be made durable
 */
export async function settle(
  destination: Buffer,
  roots: AllowedRoots | null,
  size: number,
): Promise<boolean> {
  const opened = await openRegular(destination, constants.O_RDONLY, roots, false).catch(() => null);
  if (opened === null) return false;
  const { file, place } = opened;
  try {
    if ((await file.stat()).size !== size) return false;
    await file.sync();
    await place.syncDirectory();
    return true;
  } catch (error) {
    throw copyErrorOf(error, `${destination} cannot be made durable`);
  } finally {
    await file.close();
    await place.close();
  }
}

/** Neither through a link, nor waiting for a FIFO that came in between. */
const OPEN_ITSELF = constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** An entry below a directory. */
export interface FoundFile {
  /** Path below the directory, bytes. */
  path: Buffer;
  /** Null: what it is cannot be copied, see `problem`. */
  size: number | null;
  problem: CopyError | 'link' | 'special' | null;
}

/** Directories deeper than this are rather a loop of mounts than somebody's data. */
const MAX_DEPTH = 256;

/**
 * Everything below a directory that is no directory itself, depth first. Symbolic links are not followed: they come
 * out as `link`. A directory that cannot be read comes out with its error, and the walk goes on.
 * @param enters whether a directory (path below the first) is walked at all
 * @throws {CopyError} if the directory itself cannot be read, or lies outside the roots
 */
export async function* walkFiles(
  directory: Buffer,
  roots: AllowedRoots | null,
  enters: (path: Buffer) => boolean,
): AsyncGenerator<FoundFile, void, undefined> {
  yield* walk(directory, Buffer.alloc(0), roots, enters, 0);
}

async function* walk(
  top: Buffer,
  below: Buffer,
  roots: AllowedRoots | null,
  enters: (path: Buffer) => boolean,
  depth: number,
): AsyncGenerator<FoundFile, void, undefined> {
  const path = below.length === 0 ? top : join(top, below);
  const subdirectories: Buffer[] = [];
  // Whatever the name, the place of a name in it is the directory itself, found without leaving the roots.
  const place = await openPlace(join(path, Buffer.from('-')), roots, false);
  try {
    for (const entry of await entriesOf(place, path)) {
      const name = join(below, entry.name);
      if (entry.isDirectory()) {
        if (enters(name)) subdirectories.push(name);
      } else if (!entry.isFile()) {
        yield { path: name, size: null, problem: entry.isSymbolicLink() ? 'link' : 'special' };
      } else {
        const stat = await fs.lstat(place.address(entry.name.toString('latin1'))).catch(() => null);
        yield { path: name, size: stat?.size ?? null, problem: null };
      }
    }
  } finally {
    await place.close();
  }
  for (const name of subdirectories) {
    try {
      if (depth >= MAX_DEPTH)
        throw new CopyError('ELOOP', `${join(top, name)} is more than ${MAX_DEPTH} deep`);
      yield* walk(top, name, roots, enters, depth + 1);
    } catch (error) {
      yield { path: name, size: null, problem: copyErrorOf(error, `${join(top, name)} cannot be listed`) };
    }
  }
}

async function entriesOf(place: Place, path: Buffer) {
  try {
    return await fs.readdir(place.address('.'), { withFileTypes: true, encoding: 'buffer' });
  } catch (error) {
    throw copyErrorOf(error, `the directory ${path} cannot be listed`);
  }
}

/** The destination itself, if it is a regular file that can be read: a link would be replaced, not written through. */
async function openThere(destination: Buffer, roots: AllowedRoots | null) {
  let place: Place | null = null;
  try {
    place = await openPlace(destination, roots, false);
    // A device would be opened with effects.
    if (!(await fs.lstat(place.address())).isFile()) throw new CopyError('NOT_REGULAR', `${destination}`);
    const file = await fs.open(place.address(), constants.O_RDONLY | OPEN_ITSELF);
    return { file, place };
  } catch (error) {
    await place?.close();
    // It leads out of the roots: that is for the caller to hear, before anything is tried.
    if (error instanceof CopyError && error.code === 'OUTSIDE_ROOTS') throw error;
    return null;
  }
}

async function openSource(source: Buffer, roots: AllowedRoots | null) {
  try {
    return await openRegular(source, constants.O_RDONLY, roots, false);
  } catch (error) {
    throw copyErrorOf(error, `the source ${source} cannot be opened`);
  }
}

async function lookOf(file: fs.FileHandle): Promise<SourceLook> {
  const stat = await file.stat({ bigint: true });
  return {
    version: versionOf(stat),
    size: exactSize(stat.size),
    mtimeMs: Number(stat.mtimeNs / 1000n) / 1000,
  };
}

/** @throws {CopyError} EFBIG: of a larger file (a sparse one can be) positions would not be exact */
export function exactSize(size: bigint): number {
  if (size <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(size);
  throw new CopyError('EFBIG', `the source has ${size} bytes; at most ${Number.MAX_SAFE_INTEGER} are copied`);
}

/** Changes when a file is replaced or written to, as far as stat(2) tells. No spaces. */
export function versionOf({ ino, size, mtimeNs }: BigIntStats): string {
  return `${ino}:${size}:${mtimeNs}`;
}

function join(folder: Buffer, name: Buffer): Buffer {
  return folder.length === 0 ? name : Buffer.concat([folder, Buffer.from('/'), name]);
}
