import { uint64Text, XdrError, type XdrReader } from './xdr.js';

/** NFS version 3 (RFC 1813): numbers, tables, and the attributes that most results carry. */

export const NFS_PROGRAM = 100003;
export const NFS_V3 = 3;
export const NFS_PORT = 2049;

export const NFSPROC3_NULL = 0;
export const NFSPROC3_GETATTR = 1;
export const NFSPROC3_SETATTR = 2;
export const NFSPROC3_LOOKUP = 3;
export const NFSPROC3_ACCESS = 4;
export const NFSPROC3_READLINK = 5;
export const NFSPROC3_READ = 6;
export const NFSPROC3_WRITE = 7;
export const NFSPROC3_CREATE = 8;
export const NFSPROC3_MKDIR = 9;
export const NFSPROC3_SYMLINK = 10;
export const NFSPROC3_MKNOD = 11;
export const NFSPROC3_REMOVE = 12;
export const NFSPROC3_RMDIR = 13;
export const NFSPROC3_RENAME = 14;
export const NFSPROC3_LINK = 15;
export const NFSPROC3_READDIR = 16;
export const NFSPROC3_READDIRPLUS = 17;
export const NFSPROC3_FSSTAT = 18;
export const NFSPROC3_FSINFO = 19;
export const NFSPROC3_PATHCONF = 20;
export const NFSPROC3_COMMIT = 21;

export const NFS3_FHSIZE = 64;
export const NFS3_COOKIEVERFSIZE = 8;
export const NFS3_WRITEVERFSIZE = 8;
/** Our caps where RFC 1813 sets none: a name, and the text of a symbolic link. */
export const MAX_NAME_BYTES = 4096;
export const MAX_LINK_BYTES = 65536;

/** nfsstat3, and 10002 NOT_SYNC in its second meaning: an HPC Cache that is still flushing. */
export const NFS3_OK = 0;
export const NFS3ERR_PERM = 1;
export const NFS3ERR_NOENT = 2;
export const NFS3ERR_IO = 5;
export const NFS3ERR_NXIO = 6;
export const NFS3ERR_ACCES = 13;
export const NFS3ERR_EXIST = 17;
export const NFS3ERR_XDEV = 18;
export const NFS3ERR_NODEV = 19;
export const NFS3ERR_NOTDIR = 20;
export const NFS3ERR_ISDIR = 21;
export const NFS3ERR_INVAL = 22;
export const NFS3ERR_FBIG = 27;
export const NFS3ERR_NOSPC = 28;
export const NFS3ERR_ROFS = 30;
export const NFS3ERR_MLINK = 31;
export const NFS3ERR_NAMETOOLONG = 63;
export const NFS3ERR_NOTEMPTY = 66;
export const NFS3ERR_DQUOT = 69;
export const NFS3ERR_STALE = 70;
export const NFS3ERR_REMOTE = 71;
export const NFS3ERR_BADHANDLE = 10001;
export const NFS3ERR_NOT_SYNC = 10002;
export const NFS3ERR_BAD_COOKIE = 10003;
export const NFS3ERR_NOTSUPP = 10004;
export const NFS3ERR_TOOSMALL = 10005;
export const NFS3ERR_SERVERFAULT = 10006;
export const NFS3ERR_BADTYPE = 10007;
export const NFS3ERR_JUKEBOX = 10008;

/** nfsstat3 → name; a status that is not here is kept as its number. */
export const NFSSTAT3: Readonly<Record<number, string>> = byNumber({
  NFS3_OK,
  NFS3ERR_PERM,
  NFS3ERR_NOENT,
  NFS3ERR_IO,
  NFS3ERR_NXIO,
  NFS3ERR_ACCES,
  NFS3ERR_EXIST,
  NFS3ERR_XDEV,
  NFS3ERR_NODEV,
  NFS3ERR_NOTDIR,
  NFS3ERR_ISDIR,
  NFS3ERR_INVAL,
  NFS3ERR_FBIG,
  NFS3ERR_NOSPC,
  NFS3ERR_ROFS,
  NFS3ERR_MLINK,
  NFS3ERR_NAMETOOLONG,
  NFS3ERR_NOTEMPTY,
  NFS3ERR_DQUOT,
  NFS3ERR_STALE,
  NFS3ERR_REMOTE,
  NFS3ERR_BADHANDLE,
  NFS3ERR_NOT_SYNC,
  NFS3ERR_BAD_COOKIE,
  NFS3ERR_NOTSUPP,
  NFS3ERR_TOOSMALL,
  NFS3ERR_SERVERFAULT,
  NFS3ERR_BADTYPE,
  NFS3ERR_JUKEBOX,
});

function byNumber(numbers: Readonly<Record<string, number>>): Record<number, string> {
  return Object.fromEntries(Object.entries(numbers).map(([name, number]) => [number, name]));
}

/** ftype3 */
export const NF3REG = 1;
export const NF3DIR = 2;
export const NF3BLK = 3;
export const NF3CHR = 4;
export const NF3LNK = 5;
export const NF3SOCK = 6;
export const NF3FIFO = 7;

/** ftype3 → what people call it */
export const FTYPE3: Readonly<Record<number, string>> = {
  1: 'regular file',
  2: 'directory',
  3: 'block device',
  4: 'character device',
  5: 'symbolic link',
  6: 'socket',
  7: 'FIFO',
};

/** ACCESS bits (RFC 1813 §3.3.4). */
export const ACCESS3_READ = 0x01;
export const ACCESS3_LOOKUP = 0x02;
export const ACCESS3_MODIFY = 0x04;
export const ACCESS3_EXTEND = 0x08;
export const ACCESS3_DELETE = 0x10;
export const ACCESS3_EXECUTE = 0x20;

/** An opaque name of a file that a server gave out: at most 64 bytes, never changed. */
export type FileHandle = Buffer;

/** What the hot path wants to know of a file. */
export interface FileBrief {
  /** ftype3 */
  type: number;
  /** Bytes, exact up to 2^53. */
  size: number;
  /** Milliseconds since the epoch, with a fraction. */
  mtimeMs: number;
  /** 64 bits, in decimal. */
  fileid: string;
}

/** fattr3 (RFC 1813 §2.6). Sizes in bytes, exact up to 2^53; times in milliseconds since the epoch. */
export interface Fattr extends FileBrief {
  /** Permission bits, without the file type. */
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  used: number;
  /** 64 bits, in decimal. */
  fsid: string;
  atimeMs: number;
  ctimeMs: number;
}

/** Bytes of an fattr3, and where in it the fields lie that {@link readPostOpBrief} takes. */
export const FATTR3_BYTES = 84;
const SIZE_AT = 20;
const FILEID_AT = 52;
const MTIME_AT = 68;
/** Bytes of a wcc_attr: size, mtime, ctime. */
const WCC_ATTR_BYTES = 24;

export function readFattr(reader: XdrReader): Fattr {
  const type = readType(reader);
  const mode = reader.uint32();
  const nlink = reader.uint32();
  const uid = reader.uint32();
  const gid = reader.uint32();
  const size = reader.uint64();
  const used = reader.uint64();
  reader.skip(8);
  const fsid = reader.uint64Text();
  const fileid = reader.uint64Text();
  const atimeMs = readTime(reader);
  const mtimeMs = readTime(reader);
  const ctimeMs = readTime(reader);
  return { type, mode, nlink, uid, gid, size, used, fsid, fileid, atimeMs, mtimeMs, ctimeMs };
}

/** post_op_attr: attributes, or null where the server did not give them. */
export function readPostOpAttr(reader: XdrReader): Fattr | null {
  return reader.bool() ? readFattr(reader) : null;
}

/** Moves over a post_op_attr. */
export function skipPostOpAttr(reader: XdrReader): void {
  if (reader.bool()) reader.skip(FATTR3_BYTES);
}

/** post_op_attr, of which only the brief is taken. */
export function readPostOpBrief(reader: XdrReader): FileBrief | null {
  if (!reader.bool()) return null;
  const at = reader.offset;
  reader.skip(FATTR3_BYTES);
  const view = reader.view;
  const type = view.getUint32(at);
  if (FTYPE3[type] === undefined) throw new XdrError(`file type ${type}`, at);
  return {
    type,
    size: view.getUint32(at + SIZE_AT) * 0x1_0000_0000 + view.getUint32(at + SIZE_AT + 4),
    mtimeMs: view.getUint32(at + MTIME_AT) * 1000 + view.getUint32(at + MTIME_AT + 4) / 1e6,
    fileid: uint64Text(view.getUint32(at + FILEID_AT), view.getUint32(at + FILEID_AT + 4)),
  };
}

/** wcc_data (RFC 1813 §2.6): the attributes before, which nobody here needs, are passed over. */
export function readWccData(reader: XdrReader): FileBrief | null {
  if (reader.bool()) reader.skip(WCC_ATTR_BYTES);
  return readPostOpBrief(reader);
}

function readType(reader: XdrReader): number {
  const type = reader.uint32();
  if (FTYPE3[type] === undefined) throw new XdrError(`file type ${type}`, reader.offset - 4);
  return type;
}

function readTime(reader: XdrReader): number {
  const seconds = reader.uint32();
  return seconds * 1000 + reader.uint32() / 1e6;
}

/** For messages: `NFS3ERR_NOENT (2)`, or `status 4711` for what RFC 1813 does not name. */
export function nfsStatusText(status: number): string {
  const name = NFSSTAT3[status];
  return name === undefined ? `status ${status}` : `${name} (${status})`;
}
