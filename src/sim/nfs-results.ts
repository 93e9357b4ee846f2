import { FATTR3_BYTES } from '../nfs/nfs3.js';
import type { XdrWriter } from '../nfs/xdr.js';
import type { Attributes, Timestamp } from './volume.js';

/** The parts of RFC 1813 results that many procedures share. */

export function writeFattr(results: XdrWriter, attributes: Attributes): void {
  results.uint32(attributes.type);
  results.uint32(attributes.mode);
  results.uint32(attributes.nlink);
  results.uint32(attributes.uid);
  results.uint32(attributes.gid);
  results.uint64Number(attributes.size);
  results.uint64Number(attributes.used);
  results.uint32(attributes.rdev.major);
  results.uint32(attributes.rdev.minor);
  results.uint64(attributes.fsid.high, attributes.fsid.low);
  results.uint64(attributes.fileid.high, attributes.fileid.low);
  writeTime(results, attributes.atime);
  writeTime(results, attributes.mtime);
  writeTime(results, attributes.ctime);
}

export function writePostOpAttr(results: XdrWriter, attributes: Attributes | null): void {
  results.bool(attributes !== null);
  if (attributes !== null) writeFattr(results, attributes);
}

/** wcc_data. COMMIT changes no attribute, so what they were before is what they are. */
export function writeWccData(results: XdrWriter, attributes: Attributes | null): void {
  results.bool(attributes !== null);
  if (attributes !== null) {
    results.uint64Number(attributes.size);
    writeTime(results, attributes.mtime);
    writeTime(results, attributes.ctime);
  }
  writePostOpAttr(results, attributes);
}

/** post_op_fh3, always there. */
export function writePostOpHandle(results: XdrWriter, handle: Buffer): void {
  results.bool(true);
  results.opaque(handle);
}

export const POST_OP_ATTR_BYTES = 4 + FATTR3_BYTES;

export function paddedBytes(length: number): number {
  return (length + 3) & ~3;
}

function writeTime(results: XdrWriter, time: Timestamp): void {
  results.uint32(time.seconds);
  results.uint32(time.nanoseconds);
}
