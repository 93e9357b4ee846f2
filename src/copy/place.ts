import { constants, promises as fs } from 'node:fs';
import { CopyError, copyErrorOf, hasCode } from './copy-error.js';

/**
 * Opening files without leaving the allowed roots, symbolic links and races included.
 *
 * A check of `realpath` followed by `open` leaves a gap in which somebody swaps a directory for a link. So the
 * directories below a root are opened one by one, each within the one before and never through a link: Node has
 * no openat(2), but on Linux `/proc/self/fd/N/name` is exactly that. A link that is met is read and its target
 * walked anew from its root, so links that stay within the roots work. The root itself is the operator's word
 * and may be reached through links.
 *
 * Without roots paths are opened as they are, links and all, as cp(1) would.
 */

/** Directories within which paths must lie, absolute. */
export interface AllowedRoots {
  paths: readonly Buffer[];
  /**
   * Links that stay within the roots are followed. False: none is, below the root; for whoever may use only some
   * directories within the roots, whose names say where a file is then.
   */
  followsLinks: boolean;
}

/** Linux, all architectures of Node; not in `fs.constants`. Needs only search permission on the directory. */
const O_PATH = 0o10000000;
const DIRECTORY_FLAGS = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** As many as the Linux kernel follows. */
const MAX_LINKS = 40;

/** A name in a directory that is held open, or (without roots) just a path. Must be closed. */
export class Place {
  readonly path: Buffer;
  readonly #directory: fs.FileHandle | null;

  constructor(path: Buffer, directory: fs.FileHandle | null) {
    this.path = path;
    this.#directory = directory;
  }

  get name(): string {
    return split(this.path).name;
  }

  /** What system calls take for the name itself, or for another in the same directory. Bytes as latin1 text. */
  address(name: string = this.name): Buffer {
    const folder = this.#directory === null ? split(this.path).folder : `/proc/self/fd/${this.#directory.fd}`;
    return bytes(`${folder}/${name}`);
  }

  /** Makes creations, renames and removals in the directory durable. */
  async syncDirectory(): Promise<void> {
    await sharedSync(await this.directoryIdentity(), () => syncDirectory(this.address('.')));
  }

  /** Device and inode of the directory: the same whatever links or mounts a path leads through. */
  async directoryIdentity(): Promise<string> {
    const { dev, ino } = await fs.stat(this.address('.'), { bigint: true });
    return `${dev}:${ino}`;
  }

  async close(): Promise<void> {
    await this.#directory?.close();
  }
}

/**
 * Finds the directory of `path`.
 * @param path absolute, any bytes
 * @param roots null: everywhere
 * @param makeDirectories whether missing directories are made, durably
 * @throws {CopyError} OUTSIDE_ROOTS, INVALID_PATH, ELOOP and what POSIX says
 */
export async function openPlace(
  path: Buffer,
  roots: AllowedRoots | null,
  makeDirectories: boolean,
): Promise<Place> {
  const found = await findPlace(checkedPath(path, roots !== null), roots, makeDirectories, MAX_LINKS);
  return found.place;
}

/**
 * Opens a regular file; anything else (a FIFO would block, a device would never end) is refused as NOT_REGULAR.
 * @param flags of open(2); the file is made with 0666 and the umask if they have O_CREAT
 */
export async function openRegular(
  path: Buffer,
  flags: number,
  roots: AllowedRoots | null,
  makeDirectories: boolean,
): Promise<{ file: fs.FileHandle; place: Place }> {
  let current = checkedPath(path, roots !== null);
  let linksLeft = MAX_LINKS;
  for (;;) {
    const found = await findPlace(current, roots, makeDirectories, linksLeft);
    const { place } = found;
    linksLeft = found.linksLeft;
    try {
      const noFollow = roots === null ? 0 : constants.O_NOFOLLOW;
      const file = await fs.open(place.address(), flags | noFollow | constants.O_NONBLOCK);
      try {
        const stat = await file.stat();
        if (stat.isDirectory()) throw new CopyError('EISDIR', `${path} is a directory`);
        if (!stat.isFile()) throw new CopyError('NOT_REGULAR', `${path} is not a regular file`);
        return { file, place };
      } catch (error) {
        await file.close();
        throw error;
      }
    } catch (error) {
      const target = roots !== null && hasCode(error, 'ELOOP') ? await linkTarget(place) : null;
      await place.close();
      if (target === null) throw error;
      refuseLink(place, roots);
      linksLeft = oneLinkLess(linksLeft, path);
      current = resolveLink(place.path.toString('latin1'), target, '');
    }
  }
}

async function findPlace(
  path: string,
  roots: AllowedRoots | null,
  makeDirectories: boolean,
  linksLeft: number,
): Promise<{ place: Place; linksLeft: number }> {
  if (roots === null) {
    const place = new Place(bytes(path), null);
    // Almost always it is there.
    if (makeDirectories && (await isMissing(place.address('.'))))
      await makeDirectory(split(place.path).folder);
    return { place, linksLeft };
  }
  let current = path;
  let left = linksLeft;
  for (;;) {
    const walked = await walk(current, roots, makeDirectories);
    if (walked instanceof Place) return { place: walked, linksLeft: left };
    if (walked.byLink) left = oneLinkLess(left, path);
    current = walked.becomes;
  }
}

/**
 * From the root down to the directory of `path`. Stops at the first link, and at a ".." that came out of a link:
 * everything before it is real by then, so the path it becomes means the same.
 */
async function walk(
  path: string,
  roots: AllowedRoots,
  makeDirectories: boolean,
): Promise<Place | { becomes: string; byLink: boolean }> {
  const root = roots.paths
    .map((each) => components(each.toString('latin1')))
    .find((each) => isBelow(path, each));
  if (root === undefined) {
    throw new CopyError('OUTSIDE_ROOTS', `${bytes(path)} lies outside the allowed roots`);
  }
  const names = components(path);
  const name = names.pop() as string;
  if (name === '..') throw new CopyError('EISDIR', `${bytes(path)} is a directory`);
  let directory = await fs.open(bytes(`/${root.join('/')}`), O_PATH | constants.O_DIRECTORY);
  try {
    for (let depth = root.length; depth < names.length; depth++) {
      const rest = [...names.slice(depth + 1), name].join('/');
      if (names[depth] === '..') {
        await directory.close();
        return { becomes: `/${names.slice(0, Math.max(0, depth - 1)).join('/')}/${rest}`, byLink: false };
      }
      const here = names.slice(0, depth + 1);
      const place = new Place(bytes(`/${here.join('/')}`), directory);
      const below = await openBelow(place, makeDirectories);
      if (typeof below === 'string') {
        await directory.close();
        refuseLink(place, roots);
        return { becomes: resolveLink(place.path.toString('latin1'), below, rest), byLink: true };
      }
      await directory.close();
      directory = below;
    }
    return new Place(bytes(`/${[...names, name].join('/')}`), directory);
  } catch (error) {
    await directory.close().catch(() => undefined);
    throw error;
  }
}

/** The directory with the name of `place`, opened, or the target of the link that stands there. */
async function openBelow(place: Place, make: boolean): Promise<fs.FileHandle | string> {
  try {
    return await fs.open(place.address(), DIRECTORY_FLAGS);
  } catch (error) {
    if (hasCode(error, 'ENOTDIR', 'ELOOP')) {
      const target = await linkTarget(place);
      if (target !== null) return target;
    }
    if (!make || !hasCode(error, 'ENOENT')) {
      throw copyErrorOf(error, `the directory ${place.path} cannot be opened`);
    }
  }
  try {
    // If another copy makes it at the same time, this one too may not say that it is there before it is durable.
    await fs.mkdir(place.address()).catch((error: unknown) => {
      if (!hasCode(error, 'EEXIST')) throw error;
    });
    await place.syncDirectory();
  } catch (error) {
    throw copyErrorOf(error, `the directory ${place.path} cannot be made`);
  }
  return openBelow(place, false);
}

async function linkTarget(place: Place): Promise<string | null> {
  try {
    return (await fs.readlink(place.address(), { encoding: 'buffer' })).toString('latin1');
  } catch {
    return null;
  }
}

/** Without roots: makes what is missing of `folder`, from the top down, and each durably. */
async function makeDirectory(folder: string): Promise<void> {
  try {
    await fs.mkdir(bytes(folder));
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return;
    if (!hasCode(error, 'ENOENT')) {
      throw copyErrorOf(error, `the directory ${bytes(folder)} cannot be made`);
    }
    const parent = split(bytes(folder)).folder;
    if (parent === folder || parent === '') throw error;
    await makeDirectory(parent);
    return makeDirectory(folder);
  }
  await syncDirectory(bytes(`${folder}/..`));
}

async function isMissing(address: Buffer): Promise<boolean> {
  try {
    await fs.stat(address);
    return false;
  } catch (error) {
    // Anything else is told by the open that follows.
    return hasCode(error, 'ENOENT');
  }
}

const syncs = new Map<string, { running: Promise<void>; next: Promise<void> | null }>();

/**
 * Many small files in one directory become complete at the same time: the sync that has not begun yet serves all
 * of them. One that is under way does not, it may have passed their names already.
 */
async function sharedSync(key: string, sync: () => Promise<void>): Promise<void> {
  const begin = (): Promise<void> => {
    const running = sync().finally(() => {
      if (syncs.get(key)?.next === null) syncs.delete(key);
    });
    syncs.set(key, { running, next: null });
    return running;
  };
  const current = syncs.get(key);
  if (current === undefined) return begin();
  current.next ??= current.running.catch(() => undefined).then(begin);
  return current.next;
}

async function syncDirectory(address: Buffer): Promise<void> {
  const directory = await fs.open(address, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } catch (error) {
    // Some network and user-space file systems have no fsync for directories; their names are durable or never are.
    if (!hasCode(error, 'EINVAL', 'ENOTSUP', 'ENOSYS')) throw error;
  } finally {
    await directory.close();
  }
}

function checkedPath(path: Buffer, confined: boolean): string {
  const text = path.toString('latin1');
  if (!text.startsWith('/')) throw new CopyError('INVALID_PATH', `"${path}" is not an absolute path`);
  if (text.includes('\0')) throw new CopyError('INVALID_PATH', `"${path}" holds a NUL byte`);
  if (text.endsWith('/')) throw new CopyError('INVALID_PATH', `"${path}" names a directory, not a file`);
  if (!confined) return text;
  const names = components(text);
  // ".." after a symbolic link does not lead back to where it came from: nobody means that, except to get out.
  if (names.includes('..')) throw new CopyError('INVALID_PATH', `"${path}" has ".." in it`);
  return `/${names.join('/')}`;
}

/** The path after the link at `link` was followed. A ".." in its target stays: only the walk knows what it leaves. */
function resolveLink(link: string, target: string, rest: string): string {
  const folder = target.startsWith('/') ? '' : split(bytes(link)).folder;
  return `/${components(`${folder}/${target}/${rest}`).join('/')}`;
}

function refuseLink({ path }: Place, roots: AllowedRoots | null): void {
  if (roots === null || roots.followsLinks) return;
  throw new CopyError('OUTSIDE_ROOTS', `${path} is a symbolic link; this job may not follow any`);
}

function oneLinkLess(linksLeft: number, path: Buffer | string): number {
  if (linksLeft === 0)
    throw new CopyError('ELOOP', `more than ${MAX_LINKS} symbolic links on the way to ${path}`);
  return linksLeft - 1;
}

function components(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function isBelow(path: string, root: readonly string[]): boolean {
  const names = components(path);
  return names.length > root.length && root.every((name, i) => names[i] === name);
}

function split(path: Buffer): { folder: string; name: string } {
  const text = path.toString('latin1');
  const slash = text.lastIndexOf('/');
  return { folder: text.slice(0, slash), name: text.slice(slash + 1) };
}

function bytes(latin1: string): Buffer {
  return Buffer.from(latin1, 'latin1');
}
