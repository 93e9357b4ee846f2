import fs, { type BigIntStats, constants } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { ListingCache } from './directory-listing.js';
import { copyDurably, DirectorySync, isSameVersion, makeDirectories } from './durable-copy.js';
import { decodeHandle, encodeHandle, type FileIdentity, identityOf, nameHash, RecentMap } from './handles.js';
import {
  type Attributes,
  attributesOf,
  type DirectoryEntry,
  type Located,
  type Space,
  type Volume,
} from './volume.js';

const fsync = promisify(fs.fsync);
const read = promisify(fs.read);

/** Enough for the working set of a benchmark; what is forgotten is found again by its handle's hints. */
const KNOWN_FILES = 300_000;
/** A walk by hints keeps at most so many directories in mind on one level. */
const MAX_CANDIDATES = 64;
/** A page that begins at or below this cookie is a directory's first. */
const FIRST_PAGE_COOKIE = 2;
const SLASH = Buffer.from('/');
const EMPTY = Buffer.alloc(0);

interface KnownFile {
  readonly handle: Buffer;
  readonly key: string;
  readonly path: Buffer;
  readonly fullPath: Buffer;
  readonly identity: FileIdentity;
  /** What the last look showed, and the turn of the event loop it was in. */
  located: Located | null;
  turn: number;
}

/**
 * An export over two folders: `cacheDir` is what clients wrote, `filerDir` the long-term store.
 *
 * A regular file is dirty while the filer's copy is absent, no regular file, or of another size or mtime. A copy
 * gets the mtime of what was copied, and is only taken when that mtime is so old that every later write shows in
 * it. So nothing has to be remembered, and a restart changes nothing. What it cannot see: a writer that keeps the
 * size and sets the old mtime back, the same blind spot that rsync has.
 *
 * Files that are on the filer alone are not served. Symbolic links are never followed here: a handle names an
 * inode that was seen under the export, and is stale once its path leads to anything else.
 */
export class FolderVolume implements Volume {
  readonly exportPath: string;
  readonly volumeId: number;
  readonly #cacheDir: Buffer;
  readonly #filerDir: Buffer;
  readonly #known = new RecentMap<KnownFile>(KNOWN_FILES);
  readonly #listings = new ListingCache();
  readonly #directorySync = new DirectorySync();
  readonly #root: KnownFile;
  #turn = 0;
  #turnEnds = false;

  /** @throws Error that names the folder, if one is missing or they lie in one another */
  constructor(exportPath: string, cacheDir: string, filerDir: string) {
    this.exportPath = exportPath;
    this.volumeId = nameHash(Buffer.from(exportPath));
    const cache = realFolder(cacheDir);
    const filer = realFolder(filerDir);
    if (isWithin(cache, filer) || isWithin(filer, cache)) {
      throw new Error(`the folders of cache and filer must lie apart: ${cache} and ${filer}`);
    }
    this.#cacheDir = Buffer.from(cache);
    this.#filerDir = Buffer.from(filer);
    const { key } = this.#learn(EMPTY, fs.lstatSync(cache, { bigint: true }));
    this.#root = this.#known.get(key) as KnownFile;
  }

  root(): Located {
    const located = this.#look(this.#root);
    if (located !== null) return located;
    throw Object.assign(new Error(`${this.#cacheDir.toString()} is gone`), { code: 'ESTALE' });
  }

  find(handle: Uint8Array): Located | null {
    const key = keyOf(handle);
    const known = this.#known.get(key);
    if (known !== undefined) return this.#look(known);
    return this.#search(handle);
  }

  lookup(directory: Located, name: Buffer): Located | null {
    const fullPath = Buffer.concat([this.#fullPath(directory.path), SLASH, name]);
    const stat = lstat(fullPath);
    if (stat === undefined) return null;
    return this.#learn(childPath(directory.path, name), stat, fullPath);
  }

  parent(directory: Located): Located | null {
    if (directory.path.length === 0) return this.root();
    const slash = directory.path.lastIndexOf(0x2f);
    if (slash < 0) return this.root();
    const parentPath = directory.path.subarray(0, slash);
    const stat = lstat(this.#fullPath(parentPath));
    return stat === undefined ? null : this.#learn(parentPath, stat);
  }

  *entries(directory: Located, after: number): Generator<DirectoryEntry> {
    const fullPath = this.#fullPath(directory.path);
    yield* this.#listings
      .get(directory.key, fullPath, directoryTimeNs(directory.attributes), after > FIRST_PAGE_COOKIE)
      .entriesAfter(after);
  }

  readlink(link: Located): Buffer {
    return fs.readlinkSync(this.#fullPath(link.path), { encoding: 'buffer' });
  }

  async read(file: Located, offset: number, count: number): Promise<Buffer> {
    const fd = this.#open(file);
    try {
      const length = Math.max(0, Math.min(count, file.attributes.size - offset));
      const bytes = Buffer.allocUnsafe(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await read(fd, bytes, filled, length - filled, offset + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return bytes.subarray(0, filled);
    } finally {
      fs.closeSync(fd);
    }
  }

  async sync(file: Located): Promise<void> {
    const fd = this.#open(file);
    try {
      await fsync(fd);
    } finally {
      fs.closeSync(fd);
    }
  }

  isDirty(file: Located): boolean {
    const source = lstat(this.#fullPath(file.path));
    const copy = lstat(this.#filerPath(file.path));
    return source === undefined || copy === undefined || !isSameVersion(source, copy);
  }

  async writeBack(file: Located, visible: Promise<void>): Promise<number> {
    const identity = this.#known.get(file.key)?.identity ?? decodeHandle(file.handle)?.identity;
    await makeDirectories(this.#cacheDir, this.#filerDir, file.path, this.#directorySync);
    return copyDurably(
      this.#fullPath(file.path),
      (stat) => identity !== undefined && stat.isFile() && isSameFile(identity, stat),
      this.#filerPath(file.path),
      visible,
      this.#directorySync,
    );
  }

  space(): Space {
    const { bsize, blocks, bfree, bavail, files, ffree } = fs.statfsSync(this.#cacheDir);
    return {
      totalBytes: blocks * bsize,
      freeBytes: bfree * bsize,
      availableBytes: bavail * bsize,
      totalFiles: files,
      freeFiles: ffree,
    };
  }

  /** Opens the very file that was located, or throws ESTALE. */
  #open(file: Located): number {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const fd = fs.openSync(this.#fullPath(file.path), flags);
    const identity = decodeHandle(file.handle)?.identity;
    if (identity !== undefined && isSameFile(identity, fs.fstatSync(fd, { bigint: true }))) return fd;
    fs.closeSync(fd);
    throw Object.assign(new Error('another file has its name now'), { code: 'ESTALE' });
  }

  #look(known: KnownFile): Located | null {
    if (known.turn === this.#turn) return known.located;
    const stat = lstat(known.fullPath);
    if (stat !== undefined && isSameFile(known.identity, stat)) return this.#update(known, stat);
    this.#known.delete(known.key);
    return null;
  }

  #learn(relative: Buffer, stat: BigIntStats, fullPath = this.#fullPath(relative)): Located {
    const identity = identityOf(stat);
    const handle = encodeHandle(this.volumeId, identity, relative);
    const key = keyOf(handle);
    let known = this.#known.get(key);
    // Two paths may share a handle, if their names' hashes agree and they are links to one inode: the newest counts.
    if (known === undefined || !known.path.equals(relative)) {
      known = { handle, key, path: relative, fullPath, identity, located: null, turn: -1 };
      this.#known.set(key, known);
    }
    return this.#update(known, stat);
  }

  /** Attributes are good for the rest of this turn of the event loop: many calls of one segment share a directory. */
  #update(known: KnownFile, stat: BigIntStats): Located {
    const { handle, key, path } = known;
    const located = { handle, key, path, attributes: attributesOf(stat) };
    known.located = located;
    known.turn = this.#turn;
    if (!this.#turnEnds) {
      this.#turnEnds = true;
      setImmediate(() => {
        this.#turn++;
        this.#turnEnds = false;
      });
    }
    return located;
  }

  /** Walks down to the file of a handle that is not in memory, by the hashes of the names in it. */
  #search(handle: Uint8Array): Located | null {
    const decoded = decodeHandle(handle);
    if (decoded === null || decoded.hints === null) return null;
    let candidates: Buffer[] = [EMPTY];
    for (const hint of decoded.hints) {
      candidates = candidates.flatMap((relative) => this.#childrenWithHint(relative, hint));
      if (candidates.length > MAX_CANDIDATES) candidates.length = MAX_CANDIDATES;
    }
    for (const relative of candidates) {
      const stat = lstat(this.#fullPath(relative));
      if (stat !== undefined && isSameFile(decoded.identity, stat)) return this.#learn(relative, stat);
    }
    return null;
  }

  #childrenWithHint(directory: Buffer, hint: number): Buffer[] {
    const fullPath = this.#fullPath(directory);
    const stat = lstat(fullPath);
    if (!stat?.isDirectory()) return [];
    return this.#listings
      .get(this.#learn(directory, stat).key, fullPath, stat.mtimeNs, false)
      .namesWithHint(hint)
      .map((name) => childPath(directory, name));
  }

  #fullPath(relative: Buffer): Buffer {
    return relative.length === 0 ? this.#cacheDir : Buffer.concat([this.#cacheDir, SLASH, relative]);
  }

  #filerPath(relative: Buffer): Buffer {
    return Buffer.concat([this.#filerDir, SLASH, relative]);
  }
}

/** Undefined: nothing has that name, or what should be a directory on the way is none. */
function lstat(path: Buffer): BigIntStats | undefined {
  try {
    return fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    throw error;
  }
}

function keyOf(handle: Uint8Array): string {
  return Buffer.from(handle.buffer, handle.byteOffset, handle.length).toString('latin1');
}

function childPath(directory: Buffer, name: Buffer): Buffer {
  return directory.length === 0 ? name : Buffer.concat([directory, SLASH, name]);
}

function isSameFile(identity: FileIdentity, stat: BigIntStats): boolean {
  return stat.ino === identity.inode && identityOf(stat).birth === identity.birth;
}

function directoryTimeNs(attributes: Attributes): bigint {
  return BigInt(attributes.mtime.seconds) * 1_000_000_000n + BigInt(attributes.mtime.nanoseconds);
}

function realFolder(folder: string): string {
  let real: string;
  try {
    real = fs.realpathSync(folder);
  } catch (cause) {
    throw new Error(`${folder}: the folder is not there or cannot be read`, { cause });
  }
  if (!fs.statSync(real).isDirectory()) throw new Error(`${folder} is no folder`);
  return real;
}

function isWithin(outer: string, inner: string): boolean {
  const relative = path.relative(outer, inner);
  return relative === '' || (!relative.startsWith(`..${path.sep}`) && relative !== '..');
}
