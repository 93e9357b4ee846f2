import { LRUCache } from 'lru-cache';
import type { FileHandle } from '../nfs/nfs3.js';

/** A directory whose handle is known. */
export class Directory {
  readonly handle: FileHandle;
  /** Relative to the export, without slashes at either end and without symbolic links on the way; '' is the root. */
  readonly path: string;
  /** The directory it was looked up in; null for the root. */
  readonly parent: Directory | null;
  /** Date.now() of the lookup. */
  readonly since: number;
  /** Where a symbolic link that was looked up led to; null if it was a directory itself. */
  readonly target: Directory | null;
  /** True once its handle was found stale: nothing that was looked up through it counts any more. */
  gone = false;

  constructor(
    handle: FileHandle,
    path: string,
    parent: Directory | null,
    since: number,
    target: Directory | null = null,
  ) {
    this.handle = handle;
    this.path = path;
    this.parent = parent;
    this.since = since;
    this.target = target;
  }

  /** False if it, or a directory above it, is gone or was looked up before `notBefore`; the root is of any age. */
  alive(notBefore: number): boolean {
    let directory: Directory = this;
    for (; directory.parent !== null; directory = directory.parent) {
      if (directory.gone || directory.since < notBefore) return false;
      if (directory.target !== null && !directory.target.alive(notBefore)) return false;
    }
    return !directory.gone;
  }

  /** Forgets it and the directories above it, the root excepted: one of them is stale, and none tells which. */
  forget(): void {
    for (let directory: Directory = this; directory.parent !== null; directory = directory.parent) {
      directory.gone = true;
      directory.target?.forget();
    }
  }
}

/** At most this old may a handle be. A directory that was renamed is then found under its old name no longer. */
export const DIRECTORY_AGE_MS = 30_000;
const MAX_DIRECTORIES = 16_384;

/**
 * Directories by path (which may lead over symbolic links), shared by all files and runs of a session. Bounded; the
 * least recently used leave. Dropping a subtree is marking its top: what lies below looks up and sees it.
 */
export class DirectoryCache {
  readonly #byPath: LRUCache<string, Directory>;

  constructor(max: number = MAX_DIRECTORIES) {
    this.#byPath = new LRUCache({ max });
  }

  get(path: string, notBefore: number): Directory | undefined {
    const directory = this.#byPath.get(path);
    if (directory === undefined || directory.alive(notBefore)) return directory;
    this.#byPath.delete(path);
    return undefined;
  }

  set(path: string, directory: Directory): void {
    this.#byPath.set(path, directory);
  }
}
