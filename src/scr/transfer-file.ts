import { constants, promises as fs } from 'node:fs';
import { CorruptTransferFile, decodeTree, encodeTree, fileSize, MAX_FILE_BYTES } from './codec.js';
import { LockTimeout, lockExclusively } from './flock.js';
import type { Tree } from './tree.js';

/**
 * The file through which the SCR library and its transfer daemon talk. Every use is one read, change and write under
 * an exclusive flock(2), and the write goes into the same file: a rename would leave the others waiting for the
 * lock of a file that is gone.
 *
 * It is not fsync'd: kill -9 takes nothing that was written, and after a crash of the node its cache is gone too.
 */
export class TransferFile {
  readonly path: string;
  readonly #lockTimeoutMs: number;
  /** What the file was last known to hold: reading a large one again costs more than comparing it. */
  #known: { bytes: Buffer; tree: Tree } | null = null;

  constructor(path: string, lockTimeoutMs: number) {
    this.path = path;
    this.#lockTimeoutMs = lockTimeoutMs;
  }

  /**
   * Reads the tree (an absent or empty file: an empty one), lets `change` alter it, and writes it back if `change`
   * says that it did.
   * @throws {CorruptTransferFile} it is left untouched
   * @throws {LockTimeout} another program keeps the lock
   */
  async update<T>(change: (tree: Tree) => { changed: boolean; result: T }): Promise<T> {
    const file = await this.#openLocked();
    try {
      const before = await readAll(file);
      const tree = this.#known?.bytes.equals(before) ? this.#known.tree : decode(before);
      // Forgotten until it is known again: a failure below may leave tree and file different.
      this.#known = null;
      const { changed, result } = change(tree);
      let bytes = before;
      if (changed || before.length === 0) {
        bytes = encodeTree(tree);
        await rewrite(file, before, bytes);
      }
      this.#known = { bytes, tree };
      return result;
    } finally {
      // This also ends the lock.
      await file.close();
    }
  }

  async #openLocked(): Promise<fs.FileHandle> {
    const deadlineMs = performance.now() + this.#lockTimeoutMs;
    for (;;) {
      const file = await fs.open(this.path, constants.O_RDWR | constants.O_CREAT | constants.O_NONBLOCK);
      try {
        const opened = await file.stat();
        if (!opened.isFile()) throw new Error('it is not a regular file');
        await lockExclusively(file.fd, Math.max(0, deadlineMs - performance.now()));
        const named = await fs.stat(this.path).catch(() => null);
        if (named?.ino === opened.ino && named.dev === opened.dev) return file;
      } catch (error) {
        await file.close();
        throw error instanceof LockTimeout ? new LockTimeout(this.#lockTimeoutMs) : error;
      }
      // Somebody replaced the file while we waited: that lock is worth nothing.
      await file.close();
      if (performance.now() > deadlineMs) throw new LockTimeout(this.#lockTimeoutMs);
    }
  }
}

function decode(bytes: Buffer): Tree {
  if (bytes.length === 0) return new Map();
  const size = fileSize(bytes);
  // A program that was killed between writing a shorter tree and cutting the file leaves the end of the old one
  // behind. The header says what counts, as it does for the C library; without a CRC-32 it might be the header
  // that is wrong.
  const hasTail = size < bytes.length && (bytes.readUInt32BE(16) & 1) === 1;
  return decodeTree(hasTail ? bytes.subarray(0, size) : bytes);
}

async function readAll(file: fs.FileHandle): Promise<Buffer> {
  const { size } = await file.stat();
  if (size > MAX_FILE_BYTES) {
    throw new CorruptTransferFile(`it has ${size} bytes, more than the ${MAX_FILE_BYTES} that are read`);
  }
  const bytes = Buffer.allocUnsafe(size);
  let length = 0;
  while (length < size) {
    const { bytesRead } = await file.read(bytes, length, size - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return bytes.subarray(0, length);
}

async function rewrite(file: fs.FileHandle, before: Buffer, after: Buffer): Promise<void> {
  try {
    await writeAll(file, after);
    if (after.length < before.length) await file.truncate(after.length);
  } catch (error) {
    // A full disk must not cost the list of files: the old bytes fit, they were there.
    await writeAll(file, before)
      .then(() => file.truncate(before.length))
      .catch(() => undefined);
    throw error;
  }
}

async function writeAll(file: fs.FileHandle, bytes: Buffer): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, done);
    if (bytesWritten === 0) throw new Error('it takes no more bytes');
    done += bytesWritten;
  }
}
