import { type BigIntStats, constants } from 'node:fs';
import { NF3BLK, NF3CHR, NF3DIR, NF3FIFO, NF3LNK, NF3REG, NF3SOCK } from '../nfs/nfs3.js';

/** What the simulated cache serves under one export: found by handle, and written back on request. */

/** A 64-bit number as two unsigned 32-bit words, as XDR carries it. */
export interface Words {
  high: number;
  low: number;
}

export interface Timestamp {
  seconds: number;
  nanoseconds: number;
}

/** fattr3 (RFC 1813 §2.5.6). Sizes in bytes. */
export interface Attributes {
  /** ftype3 */
  type: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  size: number;
  used: number;
  rdev: { major: number; minor: number };
  fsid: Words;
  fileid: Words;
  atime: Timestamp;
  mtime: Timestamp;
  ctime: Timestamp;
}

/** A file or directory that was there when it was looked at, in this turn of the event loop. */
export interface Located {
  readonly handle: Buffer;
  /** The handle as a map key. */
  readonly key: string;
  /** Relative to the export, without a leading slash; empty for the export's root. */
  readonly path: Buffer;
  readonly attributes: Attributes;
}

export interface DirectoryEntry {
  readonly name: Buffer;
  /** Above 2: the first two are left for "." and "..". */
  readonly cookie: number;
}

export interface Space {
  totalBytes: number;
  freeBytes: number;
  availableBytes: number;
  totalFiles: number;
  freeFiles: number;
}

/**
 * One export. Its methods throw what the file system threw, as errors with a `code` (`EACCES`, `EIO`, …).
 * Those without a promise are called many times a second and do no more than a few stat calls.
 */
export interface Volume {
  /** What MNT asks for, e.g. `/cache`. */
  readonly exportPath: string;
  /** Stands in every handle of this volume; the same after a restart. */
  readonly volumeId: number;
  root(): Located;
  /** Null: nothing in this volume has that handle any more (NFS3ERR_STALE). */
  find(handle: Uint8Array): Located | null;
  /** Null: no such name. `name` is one component, checked by the caller. */
  lookup(directory: Located, name: Buffer): Located | null;
  /** The root's parent is the root. */
  parent(directory: Located): Located | null;
  /** Entries with a cookie above `after`, in the order of their cookies, without "." and "..". */
  entries(directory: Located, after: number): Iterable<DirectoryEntry>;
  readlink(link: Located): Buffer;
  /** Fewer bytes than `count` only at the end of the file. */
  read(file: Located, offset: number, count: number): Promise<Buffer>;
  /** fsync of the cache's own copy: what COMMIT means in RFC 1813. */
  sync(file: Located): Promise<void>;
  isDirty(file: Located): boolean;
  /**
   * Brings the file as it is now to the filer: read at once, visible there (durably) not before `visible` resolves.
   * Resolves to the number of bytes moved.
   * @throws ChangedError when the file was written to while it was read; nothing becomes visible then
   */
  writeBack(file: Located, visible: Promise<void>): Promise<number>;
  space(): Space;
}

/** The file changed while it was being copied: the copy is of no use and was thrown away. */
export class ChangedError extends Error {
  constructor() {
    super('the file was written to while it was copied');
    this.name = 'ChangedError';
  }
}

export function words(value: bigint): Words {
  return { high: Number((value >> 32n) & 0xffffffffn), low: Number(value & 0xffffffffn) };
}

const TYPE_OF_FORMAT: ReadonlyMap<number, number> = new Map([
  [constants.S_IFREG, NF3REG],
  [constants.S_IFDIR, NF3DIR],
  [constants.S_IFBLK, NF3BLK],
  [constants.S_IFCHR, NF3CHR],
  [constants.S_IFLNK, NF3LNK],
  [constants.S_IFSOCK, NF3SOCK],
  [constants.S_IFIFO, NF3FIFO],
]);

export function attributesOf(stat: BigIntStats): Attributes {
  const mode = Number(stat.mode);
  return {
    type: TYPE_OF_FORMAT.get(mode & constants.S_IFMT) ?? NF3REG,
    mode: mode & 0o7777,
    nlink: Number(stat.nlink),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: Number(stat.size),
    used: Number(stat.blocks) * 512,
    rdev: { major: Number((stat.rdev >> 8n) & 0xfffn), minor: Number(stat.rdev & 0xffn) },
    fsid: words(stat.dev),
    fileid: words(stat.ino),
    atime: timestamp(stat.atimeNs),
    mtime: timestamp(stat.mtimeNs),
    ctime: timestamp(stat.ctimeNs),
  };
}

function timestamp(ns: bigint): Timestamp {
  return { seconds: Number(ns / 1_000_000_000n) >>> 0, nanoseconds: Number(ns % 1_000_000_000n) >>> 0 };
}
