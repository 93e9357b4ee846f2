import type { PathScope } from '../model/path-scope.js';
import { pathBytes, pathText } from '../model/pathname.js';
import {
  type FileHandle,
  FTYPE3,
  NF3DIR,
  NF3LNK,
  NF3REG,
  NFS3_OK,
  NFS3ERR_BADHANDLE,
  NFS3ERR_STALE,
} from '../nfs/nfs3.js';
import type { CallLimit } from '../nfs/target.js';
import { Directory, DirectoryCache } from './directory-cache.js';
import { Fault, statusFault } from './fault.js';
import { type PathForms, quoted, shown } from './path-forms.js';
import type { FileAttributes, LookupReply, TargetCalls } from './target-calls.js';

/** As many as Linux follows. */
const MAX_LINKS = 40;
/** What a link's text may add up to; a path of this length is refused by every client. */
const MAX_LINKED_PATH = 4096;

/** The way of one file through the directories. */
export interface Walk {
  readonly limit: CallLimit;
  /** Date.now(): directories that were looked up earlier are looked up again. */
  readonly notBefore: number;
  /** Symbolic links followed so far, wherever on the way. */
  links: number;
}

/** The root of a mounted export, which may become another one. */
export interface MountRoot {
  readonly root: Directory;
  /** Mounts again, unless `stale` is the root no longer. */
  remount(stale: Directory, limit: CallLimit): Promise<Fault | null>;
}

export interface ResolvedFile {
  handle: FileHandle;
  attributes: FileAttributes | null;
  /** The directory it was found in, to be forgotten if the handle turns out to be stale. */
  directory: Directory;
}

/**
 * Paths → handles, by LOOKUP from the root of an export. Directories are looked up once for all their files, also
 * while their LOOKUP is under way. Symbolic links are read and followed here and never above the export.
 */
export class Resolver {
  readonly #calls: TargetCalls;
  readonly #forms: PathForms;
  readonly #directories: DirectoryCache;
  /** Directories that are being looked up. */
  readonly #underWay = new Map<string, Promise<Directory | Fault>>();
  readonly #mount: MountRoot;

  constructor(calls: TargetCalls, mount: MountRoot, forms: PathForms) {
    this.#calls = calls;
    this.#mount = mount;
    this.#forms = forms;
    this.#directories = new DirectoryCache();
  }

  /** @param path relative to the export, as `PathForms.read` gives it. Anything but a regular file is a fault. */
  async file(path: string, walk: Walk): Promise<ResolvedFile | Fault> {
    if (path === '') return new Fault('EISDIR', 'resolve', 'the path is the root of the export, a directory');
    const slash = path.lastIndexOf('/');
    const above = slash < 0 ? '' : path.slice(0, slash);
    const name = slash < 0 ? path : path.slice(slash + 1);
    const directory = this.#known(above, walk) ?? (await this.directory(above, walk));
    if (directory instanceof Fault) return directory;
    const found = await this.#lookup(directory, name, walk);
    if (found instanceof Fault) return found;
    if (found.type === NF3REG) return { handle: found.handle, attributes: found.attributes, directory };
    if (found.type === NF3LNK) {
      const target = await this.#follow(directory, found.handle, name, walk, false);
      return target instanceof Fault ? target : this.file(target, walk);
    }
    const text = `${quoted(`/${path}`)} is a ${FTYPE3[found.type] ?? 'thing of an unknown type'}`;
    return new Fault(found.type === NF3DIR ? 'EISDIR' : 'NOT_REGULAR', 'resolve', text);
  }

  /** @param path relative to the export; '' is its root */
  async directory(path: string, walk: Walk, nested = false): Promise<Directory | Fault> {
    let current = this.#mount.root;
    for (let end = -1; end < path.length; ) {
      const start = end + 1;
      end = path.indexOf('/', start);
      if (end < 0) end = path.length;
      if (end === 0) break;
      const key = path.slice(0, end);
      const next =
        this.#known(key, walk) ?? (await this.#enter(current, path.slice(start, end), key, walk, nested));
      if (next instanceof Fault) return next;
      current = next;
    }
    return current;
  }

  #known(path: string, walk: Walk): Directory | undefined {
    return path === '' ? this.#mount.root : this.#directories.get(path, walk.notBefore);
  }

  /**
   * @param nested a link is being followed: then no LOOKUP of another file is waited for, because that one may be
   *   waiting for this one if links lead in a circle
   */
  #enter(
    parent: Directory,
    name: string,
    key: string,
    walk: Walk,
    nested: boolean,
  ): Promise<Directory | Fault> {
    if (nested) return this.#lookupDirectory(parent, name, key, walk);
    let entered = this.#underWay.get(key);
    if (entered === undefined) {
      entered = this.#lookupDirectory(parent, name, key, walk).finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, entered);
    }
    return entered;
  }

  async #lookupDirectory(
    parent: Directory,
    name: string,
    key: string,
    walk: Walk,
  ): Promise<Directory | Fault> {
    const found = await this.#lookup(parent, name, walk);
    if (found instanceof Fault) return found;
    let directory: Directory;
    if (found.type === NF3DIR) {
      const path = parent.path === '' ? name : `${parent.path}/${name}`;
      directory = new Directory(found.handle, path, parent, Date.now());
    } else if (found.type === NF3LNK) {
      const path = await this.#follow(parent, found.handle, name, walk, true);
      if (path instanceof Fault) return path;
      const target = await this.directory(path, walk, true);
      if (target instanceof Fault) return target;
      directory = new Directory(target.handle, target.path, parent, Date.now(), target);
    } else {
      return new Fault(
        'ENOTDIR',
        'resolve',
        `${quoted(`/${key}`)} is a ${FTYPE3[found.type] ?? 'thing of an unknown type'}, not a directory`,
      );
    }
    this.#directories.set(key, directory);
    return directory;
  }

  async #lookup(
    directory: Directory,
    name: string,
    walk: Walk,
  ): Promise<{ handle: FileHandle; attributes: FileAttributes | null; type: number } | Fault> {
    const reply = await this.#calls.lookup(directory.handle, pathBytes(name), walk.limit);
    if (reply instanceof Fault) return reply;
    if (reply.status !== NFS3_OK) return this.#refused(reply.status, directory, name, walk);
    const { handle, attributes } = reply;
    // As nearly all are: not by way of another promise.
    if (handle !== null && attributes !== null) return { handle, attributes, type: attributes.type };
    return this.#typed(reply, directory, name, walk);
  }

  /** The type decides whether a COMMIT is safe: on a FIFO some servers never answer it. */
  async #typed(reply: LookupReply, directory: Directory, name: string, walk: Walk) {
    const { handle } = reply;
    let { attributes } = reply;
    if (handle === null) {
      return new Fault('PROTOCOL_ERROR', 'resolve', `LOOKUP of ${quoted(name)}: OK without a handle`, 'few');
    }
    if (attributes === null) {
      const second = await this.#calls.getattr(handle, walk.limit);
      if (second instanceof Fault) return second;
      if (second.status !== NFS3_OK || second.attributes === null) {
        if (isStale(second.status)) directory.forget();
        return statusFault(
          second.status,
          'resolve',
          `GETATTR of ${quoted(name)} in /${shown(directory.path)}`,
        );
      }
      attributes = second.attributes;
    }
    return { handle, attributes, type: attributes.type };
  }

  async #refused(status: number, directory: Directory, name: string, walk: Walk): Promise<Fault> {
    const fault = statusFault(status, 'resolve', `LOOKUP of ${quoted(name)} in /${shown(directory.path)}`);
    if (!isStale(status)) return fault;
    directory.forget();
    if (directory.parent !== null) return fault;
    const failed = await this.#mount.remount(directory, walk.limit);
    return (
      failed ??
      new Fault('ESTALE', 'resolve', `the root of the export: ${fault.error.message}`, 'remount', status)
    );
  }

  /** Where the symbolic link `name` in `directory` leads: a path relative to the export. */
  async #follow(
    directory: Directory,
    link: FileHandle,
    name: string,
    walk: Walk,
    nested: boolean,
  ): Promise<string | Fault> {
    walk.links++;
    const at = `the symbolic link ${quoted(name)} in /${shown(directory.path)}`;
    if (walk.links > MAX_LINKS) {
      return new Fault('ELOOP', 'resolve', `${at} would be number ${walk.links} to follow`);
    }
    const reply = await this.#calls.readlink(link, walk.limit);
    if (reply instanceof Fault) return reply;
    if (reply.status !== NFS3_OK || reply.target === null) {
      if (isStale(reply.status)) directory.forget();
      return statusFault(reply.status, 'resolve', `READLINK of ${quoted(name)} in /${shown(directory.path)}`);
    }
    const text = pathText(reply.target);
    const leadsTo = `${at} leads to ${quoted(text)}`;
    let path = directory.path;
    let rest = text;
    if (text.startsWith('/')) {
      const below = this.#forms.linkBelowExport(text);
      if (below === null) {
        return new Fault(
          'OUTSIDE_EXPORT',
          'resolve',
          `${leadsTo}, which is not known to lie below export ${this.#forms.exportPath}`,
        );
      }
      path = '';
      rest = below;
    }
    // `..` means the directory above the one that was reached, which a link on the way may have moved elsewhere.
    let reached = true;
    for (const component of rest.split('/')) {
      if (component === '' || component === '.') continue;
      if (component === '..') {
        if (!reached) {
          const through = await this.directory(path, walk, nested);
          if (through instanceof Fault) return through;
          path = through.path;
          reached = true;
        }
        if (path === '') return new Fault('OUTSIDE_EXPORT', 'resolve', `${leadsTo}, above the export`);
        path = path.slice(0, Math.max(0, path.lastIndexOf('/')));
      } else {
        path = path === '' ? component : `${path}/${component}`;
        reached = false;
      }
    }
    if (path.length > MAX_LINKED_PATH || path.includes('\0')) {
      return new Fault('ENAMETOOLONG', 'resolve', `${leadsTo}, a path that is too long or has a NUL in it`);
    }
    return path;
  }
}

/** The fault of what lies in a directory to which a symbolic link led, out of those that the caller may touch. */
export function ledOut(scope: PathScope, { path }: Directory): Fault | null {
  if (scope.holds(pathBytes(path))) return null;
  return new Fault(
    'LINK_NOT_ALLOWED',
    'resolve',
    'a symbolic link on the way leads out of the directories that the principal of the job may flush',
  );
}

function isStale(status: number): boolean {
  return status === NFS3ERR_STALE || status === NFS3ERR_BADHANDLE;
}
