import { createHash } from 'node:crypto';
import fs, { type BigIntStats, constants } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { splitPath } from './handles.js';
import { ChangedError } from './volume.js';

// What may wait for the file system's journal goes through the thread pool; the rest is faster without.
const fsync = promisify(fs.fsync);
const open = promisify(fs.open);
const read = promisify(fs.read);
const rename = promisify(fs.rename);
const write = promisify(fs.write);

const BLOCK_BYTES = 1 << 20;
/** Up to here the round trip through the thread pool costs more than the copying. */
const COPIED_AT_ONCE_BYTES = 64 << 10;

/**
 * The kernel stamps times with a clock that ticks every 1 to 10 ms. Reading starts only when the last change is
 * this old, so that every later change gets another mtime and none can hide behind the one that was copied.
 */
const SETTLED_AFTER_MS = 20;

/** Times can be set to the microsecond only, and are cut, not rounded, on the way through a double. */
const MTIME_TOLERANCE_NS = 2_000n;

/** True if a copy made by {@link copyDurably} has the size and mtime of its source as it is now. */
export function isSameVersion(source: BigIntStats, copy: BigIntStats): boolean {
  const apart = source.mtimeNs - copy.mtimeNs;
  return (
    copy.isFile() && source.size === copy.size && apart <= MTIME_TOLERANCE_NS && apart >= -MTIME_TOLERANCE_NS
  );
}

/**
 * Copies a regular file so that `target` is either what it was or the whole new file, and stays so after a power
 * cut: temporary name, fsync, rename, fsync of the directory. The copy gets the owner (where permitted), mode and
 * times of the source. The copying starts at once; the rename waits for `visible`.
 * @param isSource says whether the file found under the name of the source is the one that is meant
 * @returns bytes copied
 * @throws {ChangedError} if the source was written to meanwhile; `target` is untouched then
 */
export async function copyDurably(
  source: Buffer,
  isSource: (stat: BigIntStats) => boolean,
  target: Buffer,
  visible: Promise<void>,
  directories: DirectorySync,
): Promise<number> {
  const directory = target.subarray(0, target.lastIndexOf(0x2f));
  const temporary = temporaryName(target);
  let bytes: number;
  const from = fs.openSync(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    await settle(fs.fstatSync(from, { bigint: true }));
    const before = fs.fstatSync(from, { bigint: true });
    if (!isSource(before)) {
      throw Object.assign(new Error('another file has this name now'), { code: 'ESTALE' });
    }
    bytes = await copyInto(temporary, from, before);
    await visible;
    await rename(temporary, target);
  } catch (error) {
    removeQuietly(temporary);
    throw error;
  } finally {
    fs.closeSync(from);
  }
  await directories.sync(directory);
  return bytes;
}

/** The same name each time, so that what a crash left behind is overwritten and does not pile up. */
function temporaryName(target: Buffer): Buffer {
  const name = target.subarray(target.lastIndexOf(0x2f) + 1);
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 24);
  return Buffer.concat([
    target.subarray(0, target.length - name.length),
    Buffer.from(`.writeback-${digest}`),
  ]);
}

async function settle(stat: BigIntStats): Promise<void> {
  const ageMs = Date.now() - Number(stat.mtimeNs / 1_000_000n);
  if (ageMs >= -1 && ageMs < SETTLED_AFTER_MS) await sleep(SETTLED_AFTER_MS - ageMs);
}

async function copyInto(temporary: Buffer, from: number, before: BigIntStats): Promise<number> {
  const to = await openNew(temporary);
  try {
    const size = Number(before.size);
    const bytes = size <= COPIED_AT_ONCE_BYTES ? copySmall(from, to, size) : await copyBlocks(from, to);
    const after = fs.fstatSync(from, { bigint: true });
    if (bytes !== size || after.size !== before.size || after.mtimeNs !== before.mtimeNs) {
      throw new ChangedError();
    }
    copyMetadata(to, before);
    await fsync(to);
    return bytes;
  } finally {
    fs.closeSync(to);
  }
}

async function openNew(path: Buffer): Promise<number> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    return await open(path, flags, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    // Left behind by a crash: there is only one flush of a file at a time.
    fs.rmSync(path, { force: true });
    return open(path, flags, 0o600);
  }
}

function copySmall(from: number, to: number, size: number): number {
  // One byte more than there should be shows a file that grew.
  const block = Buffer.allocUnsafe(size + 1);
  let filled = 0;
  while (filled <= size) {
    const got = fs.readSync(from, block, filled, block.length - filled, filled);
    if (got === 0) break;
    filled += got;
  }
  for (let written = 0; written < filled; ) {
    written += fs.writeSync(to, block, written, filled - written, written);
  }
  return filled;
}

async function copyBlocks(from: number, to: number): Promise<number> {
  const block = Buffer.allocUnsafe(BLOCK_BYTES);
  for (let position = 0; ; ) {
    const { bytesRead } = await read(from, block, 0, block.length, position);
    if (bytesRead === 0) return position;
    for (let done = 0; done < bytesRead; ) {
      const { bytesWritten } = await write(to, block, done, bytesRead - done, position + done);
      done += bytesWritten;
    }
    position += bytesRead;
  }
}

function copyMetadata(to: number, stat: BigIntStats): void {
  copyOwner(stat, (uid, gid) => fs.fchownSync(to, uid, gid));
  fs.fchmodSync(to, Number(stat.mode & 0o7777n));
  fs.futimesSync(to, seconds(stat.atimeNs), seconds(stat.mtimeNs));
}

/** Only root may give files away; without it the copies belong to whoever runs this. */
function copyOwner(stat: BigIntStats, chown: (uid: number, gid: number) => void): void {
  try {
    chown(Number(stat.uid), Number(stat.gid));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
  }
}

function seconds(ns: bigint): number {
  return Number(ns / 1_000n) / 1e6;
}

function removeQuietly(path: Buffer): void {
  try {
    fs.rmSync(path, { force: true });
  } catch {
    // The error that led here says more.
  }
}

/**
 * Makes the directories above `relative` under `root`, durably, never through a symbolic link, with the owner
 * (where permitted) and mode of those under `model`.
 * @throws an ENOTDIR error if something else has the name of one
 */
export async function makeDirectories(
  model: Buffer,
  root: Buffer,
  relative: Buffer,
  directories: DirectorySync,
): Promise<void> {
  let path = root;
  let modelPath = model;
  for (const name of splitPath(relative).slice(0, -1)) {
    const parent = path;
    path = Buffer.concat([parent, SLASH, name]);
    modelPath = Buffer.concat([modelPath, SLASH, name]);
    const stat = fs.lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory()) {
      await directories.pending(parent);
      continue;
    }
    if (stat !== undefined) {
      throw Object.assign(new Error(`${path.toString()} is no directory`), { code: 'ENOTDIR' });
    }
    makeDirectory(path, fs.lstatSync(modelPath, { bigint: true }));
    await directories.sync(parent);
  }
}

function makeDirectory(path: Buffer, model: BigIntStats): void {
  fs.mkdirSync(path, 0o700);
  copyOwner(model, (uid, gid) => fs.lchownSync(path, uid, gid));
  fs.chmodSync(path, Number(model.mode & 0o7777n));
}

const SLASH = Buffer.from('/');

/** fsync of directories, shared: all that ask while one runs are served together by the next. */
export class DirectorySync {
  readonly #running = new Map<string, { current: Promise<void>; next: Promise<void> | null }>();

  sync(directory: Buffer): Promise<void> {
    const key = directory.toString('latin1');
    const running = this.#running.get(key);
    if (running === undefined) return this.#begin(key, directory);
    // The running one may have begun before the caller's rename: it proves nothing for it.
    running.next ??= running.current.catch(() => {}).then(() => this.#begin(key, directory));
    return running.next;
  }

  /** Whoever finds a directory that another has just made waits with that other until it is durable. */
  pending(directory: Buffer): Promise<void> | undefined {
    const running = this.#running.get(directory.toString('latin1'));
    return running?.next ?? running?.current;
  }

  #begin(key: string, directory: Buffer): Promise<void> {
    const entry: { current: Promise<void>; next: Promise<void> | null } = {
      current: syncDirectory(directory).finally(() => {
        if (entry.next === null) this.#running.delete(key);
      }),
      next: null,
    };
    this.#running.set(key, entry);
    return entry.current;
  }
}

async function syncDirectory(directory: Buffer): Promise<void> {
  const fd = fs.openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await fsync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
