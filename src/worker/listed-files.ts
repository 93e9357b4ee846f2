import { DIRECTORY_AGE_MS } from '../flush/directory-cache.js';
import type { ListedFile } from '../flush/types.js';

/** Some 10 MB. What is beyond is looked up again. */
const MOST_KEPT = 32_768;

/**
 * What the listings of expanded directories told of files, from the expansion in this process until the flush in this
 * process, if that comes soon. It is not stored with the chunk: a handle takes several times the room of a path, and
 * is worth only as much as it is young.
 */
export class ListedFiles {
  readonly #max: number;
  /** In the order of the listings: the first is the oldest. */
  readonly #files = new Map<string, ListedFile>();

  constructor(max: number = MOST_KEPT) {
    this.#max = max;
  }

  get size(): number {
    return this.#files.size;
  }

  keep(jobId: string, path: string, listed: ListedFile): void {
    if (this.#files.size >= this.#max && !this.#dropOld()) return;
    this.#files.set(keyOf(jobId, path), listed);
  }

  /** What is known of the file of a job, once. */
  take(jobId: string, path: string): ListedFile | undefined {
    if (this.#files.size === 0) return undefined;
    const key = keyOf(jobId, path);
    const listed = this.#files.get(key);
    if (listed !== undefined) this.#files.delete(key);
    return listed;
  }

  /** False: all are young. */
  #dropOld(): boolean {
    const since = Date.now() - DIRECTORY_AGE_MS;
    for (const [key, { at }] of this.#files) {
      if (at >= since) break;
      this.#files.delete(key);
    }
    return this.#files.size < this.#max;
  }
}

function keyOf(jobId: string, path: string): string {
  return `${jobId} ${path}`;
}
