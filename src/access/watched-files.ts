import { open, stat } from 'node:fs/promises';

/** Files of the operator that are read again when they change: tokens, keys, certificates. */

const LOOK_MS = 2000;
const MAX_BYTES = 64 * 1024 * 1024;

/** Null: the file is not there. */
export type FileContent = Buffer | null;

export interface WatchedFilesOptions<T> {
  paths: readonly string[];
  /** Makes of the contents, in the order of the paths, what is kept. What it throws refuses them. */
  parse(contents: FileContent[]): T;
  /** After the first time, when they have changed. */
  onChange?(value: T): void;
  /** They have changed and cannot be used; what was read before stays in use. */
  onError(error: Error): void;
  /** Between two looks. Default 2 s: also a network file system shows a change by then. */
  lookMs?: number;
}

/**
 * The newest good content of some files. They are looked at by time and not by notifications of the file system, which
 * tell nothing of another host's change, nor where a secret is a symbolic link that is turned.
 */
export class WatchedFiles<T> {
  readonly #options: WatchedFilesOptions<T>;
  #value!: T;
  /** Of the last look, good or bad: what is bad is told once. */
  #seen = '';
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  private constructor(options: WatchedFilesOptions<T>) {
    this.#options = options;
  }

  /** @throws {Error} if they cannot be read or used now */
  static async open<T>(options: WatchedFilesOptions<T>): Promise<WatchedFiles<T>> {
    const files = new WatchedFiles(options);
    files.#seen = await files.#look();
    files.#value = await files.#read();
    files.#again();
    return files;
  }

  get value(): T {
    return this.#value;
  }

  close(): void {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
  }

  #again(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      void this.#refresh().finally(() => this.#again());
    }, this.#options.lookMs ?? LOOK_MS);
    this.#timer.unref();
  }

  async #refresh(): Promise<void> {
    try {
      const seen = await this.#look();
      if (seen === this.#seen) return;
      this.#seen = seen;
      const value = await this.#read();
      if (this.#closed) return;
      this.#value = value;
      this.#options.onChange?.(value);
    } catch (error) {
      if (!this.#closed) this.#options.onError(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #look(): Promise<string> {
    const looks = this.#options.paths.map(async (path) => {
      try {
        const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
        return [dev, ino, size, mtimeNs, ctimeNs].join(':');
      } catch (error) {
        return String((error as NodeJS.ErrnoException).code);
      }
    });
    return (await Promise.all(looks)).join(' ');
  }

  async #read(): Promise<T> {
    return this.#options.parse(await Promise.all(this.#options.paths.map(contentOf)));
  }
}

async function contentOf(path: string): Promise<FileContent> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    const { size } = await file.stat();
    if (size > MAX_BYTES) throw new Error(`${path} has ${size} bytes; ${MAX_BYTES} are possible`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}
