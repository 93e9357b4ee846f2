import { constants, promises as fs } from 'node:fs';
import { writeAt } from '../copy/pump.js';
import { CorruptTransferFile, decodeTree, encodeTree, fileSize, MAX_FILE_BYTES } from './codec.js';
import { LockTimeout, lockExclusively } from './flock.js';
import type { Tree } from './tree.js';

/** A write within one page is done or not done, whatever happens to the process. */
const PAGE_BYTES = 4096;
const INTENTION_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;

/**
 * The file through which the SCR library and its transfer daemon talk. Every use is one read, change and write under
 * an exclusive flock(2), and the write goes into the same file: a rename would leave the others waiting for the
 * lock of a file that is gone.
 *
 * It is not fsync'd: kill -9 takes nothing that was written, and after a crash of the node its cache is gone too.
 * But kill -9 may end a write of more than a page in its middle. Before such a one the new bytes are put beside the
 * file, and whoever finds the file torn and them whole takes them.
 */
export class TransferFile {
  readonly path: string;
  readonly #lockTimeoutMs: number;
  readonly #onlyAsItIs: boolean;
  /** What the file was last known to hold: reading a large one again costs more than comparing it. */
  #known: { bytes: Buffer; tree: Tree } | null = null;

  /**
   * @param options `onlyAsItIs`: the file is not made, and its name may not be a link, for it was named by somebody who
   *   is not to read or write with the rights of this process wherever he likes
   */
  constructor(path: string, lockTimeoutMs: number, options: { onlyAsItIs: boolean } = { onlyAsItIs: false }) {
    this.path = path;
    this.#lockTimeoutMs = lockTimeoutMs;
    this.#onlyAsItIs = options.onlyAsItIs;
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
      const known = this.#known?.bytes.equals(before) ? this.#known.tree : null;
      const { tree, isMended } = known ? { tree: known, isMended: false } : await this.#decode(before);
      // Forgotten until it is known again: a failure below may leave tree and file different.
      this.#known = null;
      const { changed, result } = change(tree);
      let bytes = before;
      if (changed || isMended || before.length === 0) {
        bytes = encodeTree(tree);
        await this.#rewrite(file, before, bytes);
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
      const more = this.#onlyAsItIs ? constants.O_NOFOLLOW : constants.O_CREAT;
      const file = await fs.open(this.path, constants.O_RDWR | constants.O_NONBLOCK | more);
      try {
        const opened = await file.stat();
        if (!opened.isFile()) throw new Error('it is not a regular file');
        await lockExclusively(file.fd, Math.max(0, deadlineMs - performance.now()));
        const named = await (this.#onlyAsItIs ? fs.lstat : fs.stat)(this.path).catch(() => null);
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

  async #decode(bytes: Buffer): Promise<{ tree: Tree; isMended: boolean }> {
    try {
      return { tree: decode(bytes), isMended: false };
    } catch (error) {
      const intended = await fs.readFile(this.#intention).catch(() => null);
      if (intended === null || !isTornRewrite(bytes, intended)) throw error;
      return { tree: decodeTree(intended), isMended: true };
    }
  }

  async #rewrite(file: fs.FileHandle, before: Buffer, after: Buffer): Promise<void> {
    const mayBeTorn = after.length > PAGE_BYTES;
    // Without room for it the rewrite goes on as the C library's does.
    if (mayBeTorn)
      await fs.writeFile(this.#intention, after, { flag: INTENTION_FLAGS }).catch(() => undefined);
    try {
      await writeAt(file, after, 0);
      if (after.length < before.length) await file.truncate(after.length);
    } catch (error) {
      // A full disk must not cost the list of files: the old bytes fit, they were there.
      await writeAt(file, before, 0)
        .then(() => file.truncate(before.length))
        .catch(() => undefined);
      throw error;
    } finally {
      if (mayBeTorn) await fs.rm(this.#intention, { force: true });
    }
  }

  /** Used only under the lock. */
  get #intention(): string {
    return `${this.path}.rewrite`;
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

/** Whether the bytes are the beginning of the intended ones, as far as a write came, with older ones behind. */
function isTornRewrite(bytes: Buffer, intended: Buffer): boolean {
  return bytes.length >= PAGE_BYTES && intended.subarray(0, PAGE_BYTES).equals(bytes.subarray(0, PAGE_BYTES));
}

async function readAll(file: fs.FileHandle): Promise<Buffer> {
  const { size } = await file.stat();
  if (size > MAX_FILE_BYTES) {
    throw new CorruptTransferFile(`it has ${size} bytes, more than the ${MAX_FILE_BYTES} that are read`);
  }
  return file.readFile();
}
