import type { FileError } from '../model/errors.js';
import { endedUntried, type FileResult } from '../model/file-result.js';
import { PathScope } from '../model/path-scope.js';
import { pathText } from '../model/pathname.js';
import {
  type FileHandle,
  FTYPE3,
  NF3DIR,
  NF3LNK,
  NF3REG,
  NFS3_OK,
  NFS3ERR_BAD_COOKIE,
  NFS3ERR_NOENT,
  NFS3ERR_NOTSUPP,
} from '../nfs/nfs3.js';
import { type DirectoryCursor, type DirectoryEntry, START_OF_DIRECTORY } from '../nfs/nfs3-procedures.js';
import { DIRECTORY_AGE_MS, Directory } from './directory-cache.js';
import { Fault, statusFault } from './fault.js';
import { seconds } from './file-task.js';
import { type GlobFilter, globFilter } from './globs.js';
import { PathForms, quoted, shown } from './path-forms.js';
import { ledOut, type Resolver } from './resolver.js';
import { Retries } from './retries.js';
import type { FlushSession } from './session.js';
import type { TargetCalls } from './target-calls.js';
import { TargetDownError } from './target-error.js';
import { Alarm } from './timer-wheel.js';
import type { FlushOptions, ListedFile } from './types.js';

/** A directory to be flushed with all it holds. Globs as in globs.ts, against the path below it. */
export interface DirectoryToExpand {
  path: string;
  include: readonly string[];
  exclude: readonly string[];
}

export type ExpandOptions = Pick<
  FlushOptions,
  'pathsAre' | 'clientMount' | 'confinedTo' | 'fileTimeoutMs' | 'deadlineAt' | 'whenDown' | 'holdAfterMs'
>;

/** A regular file that was found. `listed` is for `FlushFile`: undefined where the server told no handle with it. */
export interface ExpandedFile {
  path: string;
  listed: ListedFile | undefined;
}

/** A deeper tree is taken for a mistake, e.g. of a server that shows a directory within itself. */
const MAX_DEPTH = 256;
const MAX_PATH_LENGTH = 4096;
const MAX_NAME_BYTES = 255;
/** How often a directory is begun anew because the server no longer knows its own cookie. */
const MAX_RESTARTS = 8;

/**
 * Lists the regular files below a directory, depth first, each once, in the path form that was given. Memory is held
 * for one page per level, and for the names of the directories that have more than one page.
 *
 * What is no regular file, symbolic links included, comes out as an outcome `skipped`; links are not followed, since
 * what they lead to is either listed by itself or was not asked for. What cannot be listed comes out as `failed`
 * or, after `fileTimeoutMs` for one answer, `expired`. Such outcomes have the index -1.
 *
 * @throws the reason of `signal`; {TargetDownError} as `flushFiles` does; Error if the session is closed meanwhile
 */
export async function* expandDirectory(
  session: FlushSession,
  directory: DirectoryToExpand,
  options: ExpandOptions,
  signal: AbortSignal,
): AsyncGenerator<ExpandedFile | FileResult, void, undefined> {
  const expansion = new Expansion(session, directory.path, options, signal);
  let filter: GlobFilter;
  try {
    filter = globFilter(directory.include, directory.exclude);
  } catch (error) {
    yield expansion.outcome(directory.path, 'failed', {
      code: 'INVALID_PATH',
      nfsStatus: null,
      phase: 'expand',
      message: (error as Error).message,
    });
    return;
  }
  yield* expansion.run(filter);
}

/** A directory that is being listed. */
interface Level {
  directory: Directory;
  /** Below the directory that was asked for; '' is that one. */
  below: string;
  page: DirectoryEntry[];
  at: number;
  /** Date.now() when the page was asked for. */
  readAt: number;
  /** Null: the page is the last one. */
  next: DirectoryCursor | null;
  /** Names that were seen, as Latin-1 of their bytes; null while one page is all. */
  seen: Set<string> | null;
  /** Cookies of this pass: one that comes twice leads in a circle. */
  cookies: Set<string>;
  restarts: number;
}

class Expansion extends Alarm {
  readonly #session: FlushSession;
  readonly #path: string;
  readonly #options: ExpandOptions;
  readonly #signal: AbortSignal;
  readonly #forms: PathForms;
  readonly #startedAt = Date.now();
  /** READDIRPLUS is understood, as far as is known. */
  #plus = true;
  #prefix = '';
  #calls!: TargetCalls;
  #resolver!: Resolver;
  #wake: (() => void) | null = null;

  constructor(session: FlushSession, path: string, options: ExpandOptions, signal: AbortSignal) {
    super();
    this.#session = session;
    this.#path = path;
    this.#options = options;
    this.#signal = signal;
    this.#forms = new PathForms(session.exportPath, options);
  }

  readonly #onAbort = () => this.#wake?.();

  override ring(): void {
    this.#wake?.();
  }

  async *run(filter: GlobFilter): AsyncGenerator<ExpandedFile | FileResult, void, undefined> {
    const relative = this.#forms.read(this.#path);
    if (relative instanceof Fault) {
      yield this.outcome(this.#path, 'failed', relative.error);
      return;
    }
    const prefix = this.#forms.tidy(this.#path);
    this.#prefix = prefix === '/' ? '' : prefix;
    const top = await this.#asked(() => this.#enter(relative));
    if (!(top instanceof Directory)) {
      yield this.outcome(this.#path, top.state, {
        ...top.error,
        message: `${top.error.message}; ${this.#forms.explain(relative)}`,
      });
      return;
    }
    const levels: Level[] = [this.#level(top, '')];
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const entry = level.page[level.at];
      if (entry === undefined) {
        if (level.next === null) {
          levels.pop();
          continue;
        }
        const failed = await this.#turnPage(level);
        if (failed === null) continue;
        levels.pop();
        if (level.below === '') yield this.outcome(this.#path, failed.state, failed.error);
        else if (failed.error.code !== 'ENOENT') {
          yield this.outcome(`${this.#prefix}/${level.below}`, failed.state, failed.error);
        }
        continue;
      }
      level.at++;
      const name = pathText(entry.name);
      if (name === '.' || name === '..') continue;
      const below = level.below === '' ? name : `${level.below}/${name}`;
      const path = `${this.#prefix}/${below}`;
      if (name === '' || name.includes('/') || name.includes('\0') || entry.name.length > MAX_NAME_BYTES) {
        const message = `the server lists an entry with the impossible name ${quoted(name)}`;
        yield this.outcome(path, 'failed', fault('PROTOCOL_ERROR', message));
        continue;
      }
      const known = await this.#known(level, entry);
      // Removed since it was listed: there is nothing to write back.
      if (known === null) continue;
      if ('state' in known) {
        yield this.outcome(path, known.state, known.error);
        continue;
      }
      if (known.type === NF3DIR && known.handle !== null) {
        if (filter.prunes(below)) continue;
        if (levels.length >= MAX_DEPTH || path.length > MAX_PATH_LENGTH) {
          const message = `the tree is deeper than ${MAX_DEPTH} levels or ${MAX_PATH_LENGTH} characters`;
          yield this.outcome(path, 'failed', fault('ENAMETOOLONG', message));
          continue;
        }
        const { directory } = level;
        const inner = directory.path === '' ? name : `${directory.path}/${name}`;
        levels.push(this.#level(new Directory(known.handle, inner, directory, Date.now()), below));
      } else if (filter.wants(below)) {
        if (known.type === NF3REG) yield { path, listed: listedFile(entry, level.readAt) };
        else yield this.outcome(path, 'skipped', fault('NOT_REGULAR', whySkipped(known.type)));
      }
    }
  }

  #level(directory: Directory, below: string): Level {
    return {
      directory,
      below,
      page: [],
      at: 0,
      readAt: 0,
      next: START_OF_DIRECTORY,
      seen: null,
      cookies: new Set(),
      restarts: 0,
    };
  }

  async #enter(relative: string): Promise<Directory | Fault> {
    if (this.#session.mounted === null) {
      const failed = await this.#session.mount();
      if (failed !== null) return failed;
    }
    const { mounted } = this.#session;
    if (mounted === null) return new Fault('CANCELED', 'mount', 'the session was closed');
    this.#calls = mounted.calls;
    this.#resolver = mounted.resolver(this.#forms);
    const directory = await this.#resolver.directory(relative, {
      limit: this.#limit(),
      notBefore: Math.max(this.#startedAt, Date.now() - DIRECTORY_AGE_MS),
      links: 0,
    });
    const { confinedTo } = this.#options;
    if (confinedTo === undefined || !(directory instanceof Directory) || directory.path === relative)
      return directory;
    return ledOut(PathScope.of(confinedTo), directory) ?? directory;
  }

  /** Reads the page at `level.next`; names that were seen before are left out of it. */
  async #turnPage(level: Level): Promise<Failure | null> {
    const cursor = level.next as DirectoryCursor;
    const page = await this.#asked(async () => {
      level.readAt = Date.now();
      const plus = this.#plus;
      const reply = await this.#calls.page(level.directory.handle, cursor, plus, this.#limit());
      if (reply instanceof Fault || reply.status === NFS3_OK || reply.status === NFS3ERR_BAD_COOKIE)
        return reply;
      if (plus && reply.status === NFS3ERR_NOTSUPP) return reply;
      const call = `${plus ? 'READDIRPLUS' : 'READDIR'} of /${shown(level.directory.path)}`;
      return statusFault(reply.status, 'expand', call);
    }, level);
    if ('state' in page) {
      if (page.remedy !== 'lookup') return page;
      level.directory.forget();
      return this.#restart(level, page, await this.#asked(() => this.#enter(level.directory.path)));
    }
    if (page.status === NFS3ERR_NOTSUPP) {
      this.#plus = false;
      return this.#restart(level, null, level.directory);
    }
    if (page.status === NFS3ERR_BAD_COOKIE) {
      const call = `listing of /${shown(level.directory.path)}`;
      const { error } = statusFault(page.status, 'expand', call);
      return this.#restart(level, { state: 'failed', error, remedy: 'none' }, level.directory);
    }
    const { next } = page;
    level.next = next;
    level.page = page.entries;
    level.at = 0;
    if (next !== null) {
      const cookie = `${next.cookieHigh}:${next.cookieLow}`;
      if (level.cookies.has(cookie)) {
        return {
          state: 'failed',
          error: fault(
            'PROTOCOL_ERROR',
            `the server's listing of /${shown(level.directory.path)} leads in a circle`,
          ),
          remedy: 'none',
        };
      }
      level.cookies.add(cookie);
      level.seen ??= new Set();
    }
    const { seen } = level;
    if (seen !== null) {
      level.page = page.entries.filter(({ name }) => {
        const before = seen.size;
        return seen.add(name.toString('latin1')).size > before;
      });
    }
    return null;
  }

  /** Begins a directory anew; what was seen of it stays seen. */
  #restart(level: Level, why: Failure | null, directory: Directory | Failure): Failure | null {
    if (!(directory instanceof Directory)) return directory;
    if (why !== null && level.restarts++ >= MAX_RESTARTS) return why;
    level.directory = directory;
    level.next = START_OF_DIRECTORY;
    level.page = [];
    level.at = 0;
    level.cookies.clear();
    return null;
  }

  /** Type of an entry, and the handle of one that is a directory; null if the entry is gone. */
  async #known(
    level: Level,
    entry: DirectoryEntry,
  ): Promise<{ type: number; handle: FileHandle | null } | Failure | null> {
    const { handle, attributes } = entry;
    if (attributes !== null && (handle !== null || attributes.type !== NF3DIR)) {
      return { type: attributes.type, handle };
    }
    const found = await this.#asked(async () => {
      if (handle !== null) return { status: NFS3_OK, handle, attributes: null };
      const reply = await this.#calls.lookup(level.directory.handle, entry.name, this.#limit());
      if (reply instanceof Fault || reply.status === NFS3_OK || reply.status === NFS3ERR_NOENT) return reply;
      return statusFault(reply.status, 'expand', `LOOKUP of ${quoted(pathText(entry.name))}`);
    });
    if ('state' in found) return found;
    if (found.status === NFS3ERR_NOENT || found.handle === null) return null;
    if (found.attributes !== null) return { type: found.attributes.type, handle: found.handle };
    const itself = found.handle;
    const got = await this.#asked(async () => {
      const reply = await this.#calls.getattr(itself, this.#limit());
      if (reply instanceof Fault || reply.status === NFS3_OK) return reply;
      return statusFault(reply.status, 'expand', `GETATTR of ${quoted(pathText(entry.name))}`);
    });
    if ('state' in got) return got.error.code === 'ESTALE' ? null : got;
    return got.attributes === null ? null : { type: got.attributes.type, handle: itself };
  }

  #limit() {
    const { fileTimeoutMs, deadlineAt, whenDown, holdAfterMs } = this.#options;
    const patienceMs = whenDown === 'hand-back' ? Math.min(fileTimeoutMs, holdAfterMs) : fileTimeoutMs;
    return {
      deadlineAt: Math.min(Date.now() + patienceMs, deadlineAt ?? Number.POSITIVE_INFINITY),
      signal: this.#signal,
    };
  }

  /**
   * Asks until there is an answer, by the rules for the faults of a file.
   * @param level whose handle the call uses: if that is stale, it is the caller who looks up again
   */
  async #asked<T extends object>(ask: () => Promise<T | Fault>, level?: Level): Promise<T | Failure> {
    let retries: Retries | null = null;
    const since = Date.now();
    for (;;) {
      this.#signal.throwIfAborted();
      const reply = await ask();
      this.#signal.throwIfAborted();
      if (!(reply instanceof Fault)) return reply;
      const { error, remedy } = reply;
      const now = Date.now();
      const { fileTimeoutMs, deadlineAt, whenDown, holdAfterMs } = this.#options;
      if (remedy === 'target-away' || remedy === 'again') {
        const silentMs = now - Math.max(since, this.#session.answeredAt);
        if (whenDown === 'hand-back' && silentMs >= holdAfterMs) {
          const message = this.#session.down ?? error.message;
          const code = remedy === 'again' ? 'UNREACHABLE' : error.code;
          throw new TargetDownError(code, `no answer for ${seconds(silentMs)}: ${message}`);
        }
      }
      if (now - since >= fileTimeoutMs || (deadlineAt !== null && now >= deadlineAt)) {
        const message = `not listed within ${seconds(now - since)}: ${error.message}`;
        return { state: 'expired', error: { ...error, code: 'DEADLINE', message }, remedy: 'none' };
      }
      if (error.code === 'CANCELED') throw new Error(error.message);
      if (remedy === 'lookup' && level !== undefined) return { state: 'failed', error, remedy };
      retries ??= new Retries(this.#session.retry);
      const pauseMs = retries.pauseMs(reply, 0);
      if (pauseMs === null) return { state: 'failed', error, remedy: 'none' };
      this.#session.retries++;
      await this.#pause(pauseMs);
    }
  }

  async #pause(ms: number): Promise<void> {
    if (ms === 0) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#signal.addEventListener('abort', this.#onAbort, { once: true });
      this.#session.wheel.set(this, ms);
    });
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#session.wheel.clear(this);
  }

  outcome(path: string, state: Failure['state'] | 'skipped', error: FileError): FileResult {
    return { ...endedUntried(-1, path, error, state), durationMs: Date.now() - this.#startedAt };
  }
}

interface Failure {
  state: 'failed' | 'expired';
  error: FileError;
  remedy: Fault['remedy'];
}

function fault(code: FileError['code'], message: string): FileError {
  return { code, nfsStatus: null, phase: 'expand', message };
}

function listedFile({ handle, attributes }: DirectoryEntry, at: number): ListedFile | undefined {
  return handle === null || attributes === null ? undefined : { handle, attributes, at };
}

function whySkipped(type: number): string {
  if (type === NF3LNK) {
    return 'a symbolic link; those in a directory are not followed. List it under "files" to flush what it leads to';
  }
  return `a ${FTYPE3[type] ?? 'thing of an unknown type'}, which cannot be written back`;
}
