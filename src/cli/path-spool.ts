import { randomBytes } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CliError } from './cli-error.js';
import type { Content } from './service-client.js';

const MEMORY_BYTES = 1024 * 1024;
const NUL = Buffer.of(0);

/**
 * Holds a list of any length until it is complete: nothing is submitted of a list that ends in an error, and the
 * service, which ends uploads that pause, never waits for a slow producer. Long lists lie in a temporary file
 * without a name, which the system removes however the process ends.
 */
export class PathSpool {
  paths = 0;
  /** Of the whole list, with a NUL behind each path. */
  bytes = 0;
  #parts: Uint8Array[] = [];
  #partBytes = 0;
  #file: FileHandle | null = null;
  #fileBytes = 0;

  /** Takes a copy. A promise means: wait, the list is being written out. */
  add(path: Uint8Array): Promise<void> | undefined {
    this.#parts.push(Uint8Array.prototype.slice.call(path), NUL);
    this.#partBytes += path.length + 1;
    this.bytes += path.length + 1;
    this.paths++;
    return this.#partBytes >= MEMORY_BYTES ? this.#spill() : undefined;
  }

  /** The list as the body of a request, `delimiter=nul`. */
  content(): Content {
    return { type: 'text/plain', bytes: this.bytes, chunks: () => this.#chunks() };
  }

  async close(): Promise<void> {
    this.#parts = [];
    await this.#file?.close();
    this.#file = null;
  }

  async *#chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    const chunk = Buffer.allocUnsafe(256 * 1024);
    for (let at = 0; this.#file && at < this.#fileBytes; ) {
      const { bytesRead } = await this.#file.read(chunk, 0, chunk.length, at);
      if (bytesRead === 0) throw new CliError('The temporary file of the list was cut short.');
      at += bytesRead;
      yield Uint8Array.prototype.slice.call(chunk, 0, bytesRead);
    }
    yield Buffer.concat(this.#parts);
  }

  async #spill(): Promise<void> {
    try {
      this.#file ??= await unnamedFile();
      const part = Buffer.concat(this.#parts);
      await this.#file.appendFile(part);
      this.#fileBytes += part.length;
    } catch (error) {
      throw new CliError(
        `Cannot keep the list in ${tmpdir()}: ${error instanceof Error ? error.message : error}. TMPDIR names another folder.`,
        undefined,
        { cause: error },
      );
    }
    this.#parts = [];
    this.#partBytes = 0;
  }
}

async function unnamedFile(): Promise<FileHandle> {
  const path = join(tmpdir(), `writeback-list-${randomBytes(9).toString('hex')}`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  return file;
}
