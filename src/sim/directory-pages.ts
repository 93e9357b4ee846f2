import { NFS3_COOKIEVERFSIZE, NFS3_OK, NFS3ERR_BAD_COOKIE, NFS3ERR_TOOSMALL } from '../nfs/nfs3.js';
import type { XdrReader, XdrWriter } from '../nfs/xdr.js';
import { POST_OP_ATTR_BYTES, paddedBytes, writePostOpAttr, writePostOpHandle } from './nfs-results.js';
import { NfsStatusError } from './status.js';
import type { Located, Volume } from './volume.js';

/** READDIR and READDIRPLUS (RFC 1813 §3.3.16, §3.3.17): one page of a directory, from a cookie on. */

export interface PageArgs {
  cookie: number;
  cookieVerifier: Buffer;
  /** Most bytes of names, cookies and fileids; unlimited for READDIR. */
  dirBytes: number;
  /** Most bytes of the whole result. */
  maxBytes: number;
}

export function readReaddirArgs(args: XdrReader): PageArgs {
  const cookie = args.uint64();
  const cookieVerifier = args.fixedOpaque(NFS3_COOKIEVERFSIZE);
  return { cookie, cookieVerifier, dirBytes: Number.POSITIVE_INFINITY, maxBytes: args.uint32() };
}

export function readReaddirplusArgs(args: XdrReader): PageArgs {
  const cookie = args.uint64();
  const cookieVerifier = args.fixedOpaque(NFS3_COOKIEVERFSIZE);
  return { cookie, cookieVerifier, dirBytes: args.uint32(), maxBytes: args.uint32() };
}

/** A server may give less than was asked for; more in one turn would keep other clients waiting. */
const MAX_PAGE_BYTES = 128 << 10;
/** Attributes of the directory, verifier, the word that ends the list, end of directory. */
const FRAME_BYTES = POST_OP_ATTR_BYTES + NFS3_COOKIEVERFSIZE + 4 + 4;
/** Cookies come from names and never lose their meaning, so there is nothing for a verifier to say. */
const COOKIE_VERIFIER = Buffer.alloc(NFS3_COOKIEVERFSIZE);
const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');

export function readdir(volume: Volume, directory: Located, args: PageArgs, results: XdrWriter): void {
  writePage(volume, directory, args, results, false);
}

export function readdirplus(volume: Volume, directory: Located, args: PageArgs, results: XdrWriter): void {
  writePage(volume, directory, args, results, true);
}

function writePage(
  volume: Volume,
  directory: Located,
  args: PageArgs,
  results: XdrWriter,
  plus: boolean,
): void {
  if (args.cookie !== 0 && !args.cookieVerifier.equals(COOKIE_VERIFIER)) {
    throw new NfsStatusError(NFS3ERR_BAD_COOKIE);
  }
  results.uint32(NFS3_OK);
  writePostOpAttr(results, directory.attributes);
  results.raw(COOKIE_VERIFIER);
  let bytesLeft = Math.min(args.maxBytes, MAX_PAGE_BYTES) - FRAME_BYTES;
  let dirBytesLeft = args.dirBytes;
  let entries = 0;
  let complete = true;
  for (const { name, cookie, file } of locatedEntries(volume, directory, args.cookie)) {
    const dirBytes = 8 + 4 + paddedBytes(name.length) + 8;
    const plusBytes = POST_OP_ATTR_BYTES + 8 + paddedBytes(file.handle.length);
    bytesLeft -= 4 + dirBytes + (plus ? plusBytes : 0);
    dirBytesLeft -= dirBytes;
    if (bytesLeft < 0 || (dirBytesLeft < 0 && entries > 0)) {
      complete = false;
      break;
    }
    entries++;
    results.bool(true);
    results.uint64(file.attributes.fileid.high, file.attributes.fileid.low);
    results.opaque(name);
    results.uint64Number(cookie);
    if (!plus) continue;
    writePostOpAttr(results, file.attributes);
    writePostOpHandle(results, file.handle);
  }
  if (entries === 0 && !complete) throw new NfsStatusError(NFS3ERR_TOOSMALL);
  results.bool(false);
  results.bool(complete);
}

function* locatedEntries(
  volume: Volume,
  directory: Located,
  after: number,
): Generator<{ name: Buffer; cookie: number; file: Located }> {
  if (after < 1) yield { name: DOT, cookie: 1, file: directory };
  if (after < 2) yield { name: DOT_DOT, cookie: 2, file: volume.parent(directory) ?? directory };
  for (const { name, cookie } of volume.entries(directory, Math.max(after, 2))) {
    const file = volume.lookup(directory, name);
    // Null: it was removed since the names were read.
    if (file !== null) yield { name, cookie, file };
  }
}
