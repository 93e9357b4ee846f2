import {
  type Fattr,
  type FileBrief,
  type FileHandle,
  MAX_LINK_BYTES,
  MAX_NAME_BYTES,
  NFS_PROGRAM,
  NFS_V3,
  NFS3_COOKIEVERFSIZE,
  NFS3_FHSIZE,
  NFS3_OK,
  NFSPROC3_ACCESS,
  NFSPROC3_COMMIT,
  NFSPROC3_FSINFO,
  NFSPROC3_GETATTR,
  NFSPROC3_LOOKUP,
  NFSPROC3_NULL,
  NFSPROC3_READDIR,
  NFSPROC3_READDIRPLUS,
  NFSPROC3_READLINK,
  readFattr,
  readPostOpAttr,
  readPostOpBrief,
  readWccData,
  skipPostOpAttr,
} from './nfs3.js';
import type { Procedure } from './rpc.js';
import { XdrError, type XdrReader } from './xdr.js';

/** The calls of NFS version 3 that a write-back needs (RFC 1813 §3.3), with what is kept of their results. */

/** nfsstat3 is a number, also one that RFC 1813 does not know; it is never thrown. */
interface Status {
  status: number;
}

function nfsProcedure<Args, Result>(
  number: number,
  name: string,
  encode: Procedure<Args, Result>['encode'],
  decode: Procedure<Args, Result>['decode'],
): Procedure<Args, Result> {
  return { program: NFS_PROGRAM, version: NFS_V3, number, name: `NFS3 ${name}`, encode, decode };
}

export const NULL = nfsProcedure<null, null>(
  NFSPROC3_NULL,
  'NULL',
  () => {},
  (reader) => {
    reader.finish();
    return null;
  },
);

export interface HandleArgs {
  handle: FileHandle;
}

export interface GetattrResult extends Status {
  attributes: Fattr | null;
}

export const GETATTR = nfsProcedure<HandleArgs, GetattrResult>(
  NFSPROC3_GETATTR,
  'GETATTR',
  (writer, { handle }) => writer.opaque(handle),
  (reader) => {
    const status = reader.uint32();
    const attributes = status === NFS3_OK ? readFattr(reader) : null;
    reader.finish();
    return { status, attributes };
  },
);

export interface LookupArgs {
  dir: FileHandle;
  name: Uint8Array;
}

export interface LookupResult extends Status {
  handle: FileHandle | null;
  attributes: FileBrief | null;
}

export const LOOKUP = nfsProcedure<LookupArgs, LookupResult>(
  NFSPROC3_LOOKUP,
  'LOOKUP',
  (writer, { dir, name }) => {
    writer.opaque(dir);
    writer.opaque(name);
  },
  (reader) => {
    const status = reader.uint32();
    let handle: FileHandle | null = null;
    let attributes: FileBrief | null = null;
    if (status === NFS3_OK) {
      handle = readHandle(reader);
      attributes = readPostOpBrief(reader);
    }
    skipPostOpAttr(reader);
    reader.finish();
    return { status, handle, attributes };
  },
);

export interface AccessArgs {
  handle: FileHandle;
  /** ACCESS3_* bits that are asked for. */
  access: number;
}

export interface AccessResult extends Status {
  attributes: Fattr | null;
  /** The bits that were granted; 0 unless `status` is 0. */
  access: number;
}

export const ACCESS = nfsProcedure<AccessArgs, AccessResult>(
  NFSPROC3_ACCESS,
  'ACCESS',
  (writer, { handle, access }) => {
    writer.opaque(handle);
    writer.uint32(access);
  },
  (reader) => {
    const status = reader.uint32();
    const attributes = readPostOpAttr(reader);
    const access = status === NFS3_OK ? reader.uint32() : 0;
    reader.finish();
    return { status, attributes, access };
  },
);

export interface ReadlinkResult extends Status {
  attributes: Fattr | null;
  /** The link's text as bytes. */
  target: Buffer | null;
}

export const READLINK = nfsProcedure<HandleArgs, ReadlinkResult>(
  NFSPROC3_READLINK,
  'READLINK',
  (writer, { handle }) => writer.opaque(handle),
  (reader) => {
    const status = reader.uint32();
    const attributes = readPostOpAttr(reader);
    const target = status === NFS3_OK ? reader.opaque(MAX_LINK_BYTES) : null;
    reader.finish();
    return { status, attributes, target };
  },
);

/** Where in a directory to go on: what the server gave with the last page. */
export interface DirectoryCursor {
  cookieHigh: number;
  cookieLow: number;
  verifier: Buffer;
}

export const START_OF_DIRECTORY: DirectoryCursor = {
  cookieHigh: 0,
  cookieLow: 0,
  verifier: Buffer.alloc(NFS3_COOKIEVERFSIZE),
};

export interface DirectoryEntry {
  name: Buffer;
  /** 64 bits, in decimal. */
  fileid: string;
  /** Null where the server gave none: a LOOKUP is needed. READDIR never gives any. */
  handle: FileHandle | null;
  /** Null where the server gave none: a GETATTR is needed. READDIR never gives any. */
  attributes: FileBrief | null;
}

export interface DirectoryPage extends Status {
  /** Includes `.` and `..` where the server lists them. */
  entries: DirectoryEntry[];
  /** Where the next page starts; null at the end, or if `status` is not 0. */
  next: DirectoryCursor | null;
}

export interface ReaddirArgs {
  dir: FileHandle;
  cursor: DirectoryCursor;
  /** Most bytes of the result. */
  maxBytes: number;
}

export const READDIR = nfsProcedure<ReaddirArgs, DirectoryPage>(
  NFSPROC3_READDIR,
  'READDIR',
  (writer, { dir, cursor, maxBytes }) => {
    writer.opaque(dir);
    writer.uint64(cursor.cookieHigh, cursor.cookieLow);
    writer.fixedOpaque(cursor.verifier);
    writer.uint32(maxBytes);
  },
  (reader) => readPage(reader, false),
);

export const READDIRPLUS = nfsProcedure<ReaddirArgs, DirectoryPage>(
  NFSPROC3_READDIRPLUS,
  'READDIRPLUS',
  (writer, { dir, cursor, maxBytes }) => {
    writer.opaque(dir);
    writer.uint64(cursor.cookieHigh, cursor.cookieLow);
    writer.fixedOpaque(cursor.verifier);
    // dircount bounds names and cookies alone, maxcount the whole result; with handles and attributes an entry
    // takes about four to eight times its name, so both limits bite at about the same number of entries.
    writer.uint32(Math.max(512, maxBytes >>> 2));
    writer.uint32(maxBytes);
  },
  (reader) => readPage(reader, true),
);

function readPage(reader: XdrReader, plus: boolean): DirectoryPage {
  const status = reader.uint32();
  skipPostOpAttr(reader);
  if (status !== NFS3_OK) {
    reader.finish();
    return { status, entries: [], next: null };
  }
  const verifier = reader.fixedOpaque(NFS3_COOKIEVERFSIZE);
  const entries: DirectoryEntry[] = [];
  let cookieHigh = 0;
  let cookieLow = 0;
  while (reader.bool()) {
    const fileid = reader.uint64Text();
    const name = reader.opaque(MAX_NAME_BYTES);
    cookieHigh = reader.uint32();
    cookieLow = reader.uint32();
    const attributes = plus ? readPostOpBrief(reader) : null;
    const handle = plus && reader.bool() ? readHandle(reader) : null;
    entries.push({ name, fileid, handle, attributes });
  }
  const eof = reader.bool();
  reader.finish();
  // Without an entry there is no cookie to go on from: the caller would ask for the same page for ever.
  if (!eof && entries.length === 0)
    throw new XdrError('a page without entries before the end', reader.offset);
  return { status, entries, next: eof ? null : { cookieHigh, cookieLow, verifier } };
}

export interface FsinfoResult extends Status {
  attributes: Fattr | null;
  /** Null unless `status` is 0. Sizes in bytes. */
  limits: { dtpref: number; rtmax: number; wtmax: number; maxFileSize: number; properties: number } | null;
}

export const FSINFO = nfsProcedure<HandleArgs, FsinfoResult>(
  NFSPROC3_FSINFO,
  'FSINFO',
  (writer, { handle }) => writer.opaque(handle),
  (reader) => {
    const status = reader.uint32();
    const attributes = readPostOpAttr(reader);
    let limits: FsinfoResult['limits'] = null;
    if (status === NFS3_OK) {
      const rtmax = reader.uint32();
      reader.skip(8);
      const wtmax = reader.uint32();
      reader.skip(8);
      const dtpref = reader.uint32();
      const maxFileSize = reader.uint64();
      reader.skip(8);
      limits = { dtpref, rtmax, wtmax, maxFileSize, properties: reader.uint32() };
    }
    reader.finish();
    return { status, attributes, limits };
  },
);

export interface CommitArgs {
  handle: FileHandle;
  offsetHigh: number;
  offsetLow: number;
  count: number;
}

export interface CommitResult extends Status {
  /** The file after the call, where the server told. */
  attributes: FileBrief | null;
  /** The write verifier in hexadecimal; empty unless `status` is 0. */
  verifier: string;
}

export const COMMIT = nfsProcedure<CommitArgs, CommitResult>(
  NFSPROC3_COMMIT,
  'COMMIT',
  (writer, { handle, offsetHigh, offsetLow, count }) => {
    writer.opaque(handle);
    writer.uint64(offsetHigh, offsetLow);
    writer.uint32(count);
  },
  (reader) => {
    const status = reader.uint32();
    const attributes = readWccData(reader);
    const verifier = status === NFS3_OK ? readVerifier(reader) : '';
    reader.finish();
    return { status, attributes, verifier };
  },
);

/** The newest verifier and its text: a server sends the same one with every reply. */
let lastVerifier = { high: 0, low: 0, text: '0000000000000000' };

function readVerifier(reader: XdrReader): string {
  const high = reader.uint32();
  const low = reader.uint32();
  if (high !== lastVerifier.high || low !== lastVerifier.low) {
    lastVerifier = { high, low, text: hex32(high) + hex32(low) };
  }
  return lastVerifier.text;
}

function hex32(word: number): string {
  return word.toString(16).padStart(8, '0');
}

function readHandle(reader: XdrReader): FileHandle {
  return reader.opaque(NFS3_FHSIZE);
}
