import { randomBytes } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CliError } from './cli-error.js';
import type { Content } from './service-client.js';

/** Beyond this the list goes to the file, block by block. */
const BLOCK_BYTES = 1024 * 1024;

/**
 * Holds a list of any length until it is complete: nothing is submitted of a list that ends in an error, and the
 * service, which ends uploads that pause, never waits for a slow producer. Long lists lie in a temporary file
 * without a name, which the system removes however the process ends.
 */
export class PathSpool {
  paths = 0;
  /** Of the whole list, with a NUL behind each path. */
  bytes = 0;
  /** Grows to a whole block; most lists are short. */
  #block = Buffer.allocUnsafe(4096);
  #blockBytes = 0;
  #file: FileHandle | null = null;
  #fileBytes = 0;

  /** Takes a copy. A promise means: wait, the list is being written out. */
  add(path: Uint8Array): Promise<void> | undefined {
    const need = this.#blockBytes + path.length + 1;
    if (need > this.#block.length) this.#grow(need);
    this.#block.set(path, this.#blockBytes);
    this.#block[need - 1] = 0;
    this.#blockBytes = need;
    this.bytes += path.length + 1;
    this.paths++;
    return need >= BLOCK_BYTES ? this.#spill() : undefined;
  }

  /** The list as the body of a request, `delimiter=nul`. */
  content(): Content {
    return { type: 'text/plain', bytes: this.bytes, chunks: () => this.#chunks() };
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = null;
  }

  #grow(need: number): void {
    const block = Buffer.allocUnsafe(Math.max(need, this.#block.length * 4));
    this.#block.copy(block, 0, 0, this.#blockBytes);
    this.#block = block;
  }

  async *#chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; this.#file && at < this.#fileBytes; ) {
      // A fresh one each time: what was given out may still wait to be sent.
      const chunk = Buffer.allocUnsafe(256 * 1024);
      const { bytesRead } = await this.#file.read(chunk, 0, chunk.length, at);
      if (bytesRead === 0) throw new CliError('The temporary file of the list was cut short.');
      at += bytesRead;
      yield chunk.subarray(0, bytesRead);
    }
    yield this.#block.subarray(0, this.#blockBytes);
  }

  async #spill(): Promise<void> {
    try {
      this.#file ??= await unnamedFile();
      await this.#file.appendFile(this.#block.subarray(0, this.#blockBytes));
    } catch (error) {
      throw new CliError(
        `Cannot keep the list in ${tmpdir()}: ${error instanceof Error ? error.message : error}. TMPDIR names another folder.`,
        undefined,
        { cause: error },
      );
    }
    this.#fileBytes += this.#blockBytes;
    this.#blockBytes = 0;
  }
}

async function unnamedFile(): Promise<FileHandle> {
  const path = join(tmpdir(), `writeback-list-${randomBytes(9).toString('hex')}`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  return file;
}
