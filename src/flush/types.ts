import type { Dialect, FlushMode, PathsAre } from '../model/words.js';
import type { FileHandle } from '../nfs/nfs3.js';
import type { FileAttributes } from './target-calls.js';

/** One path to flush. `index` is the caller's own number for it and comes back with the outcome. */
export interface FlushFile {
  index: number;
  /** Text as in model/pathname.ts; its form is `FlushOptions.pathsAre`. */
  path: string;
  /** What a listing of its directory told of it a moment ago, on the same export: saves the LOOKUP. */
  listed?: ListedFile | undefined;
}

/** A regular file as READDIRPLUS tells of it. */
export interface ListedFile {
  handle: FileHandle;
  attributes: FileAttributes;
  /** Date.now() of the listing. */
  at: number;
}

export interface FlushOptions {
  dialect: Dialect;
  mode: FlushMode;
  pathsAre: PathsAre;
  /** Where clients mount the cache's namespace, e.g. `/mnt/cache`; needed for `pathsAre: 'client'`. */
  clientMount: string | null;
  /**
   * A file that is not done this long after the engine took it up ends as `expired`. The clock does not run while it
   * waits for a free slot, and begins anew when it gets one.
   */
  fileTimeoutMs: number;
  /** Date.now() after which nothing more is tried: the remaining files end as `expired`. Null: none. */
  deadlineAt: number | null;
  /**
   * What to do about an unreachable target. `wait`: keep trying until the files' deadlines.
   * `hand-back`: after `holdAfterMs` without an answer throw TargetDownError; unfinished files stay without an outcome.
   */
  whenDown: 'wait' | 'hand-back';
  holdAfterMs: number;
  /**
   * Directories of the export, which is their root. A file outside of them fails, though a symbolic link below one leads
   * to it; that the paths themselves lie in them is for the caller to see to. Absent: anywhere in the export.
   */
  confinedTo?: readonly string[];
  /** Aborted: the other files are wanted back as soon as what is under way has ended. */
  leave?: AbortSignal;
  /** An earlier run may have begun flushes of these files: none is told to have been clean already. */
  begunBefore?: boolean;
}
