import type { BigIntStats } from 'node:fs';

/**
 * File handles (RFC 1813 §2.3.3: opaque, at most 64 bytes) that are found again after a restart without a table
 * on disk: besides the inode, a handle holds 16 bits of the hash of each name on the way to the file, enough to
 * walk down to it. The inode and its time of birth then prove that it is the same file.
 *
 *     0  uint8   layout: 1
 *     1  uint8   number of names on the way
 *     2  uint16  0
 *     4  uint32  volume
 *     8  uint64  inode
 *    16  uint32  hash of the time of birth: a new file with a freed inode is another file
 *    20  uint16  one per name, topmost directory first
 *
 * A file that is renamed gets another handle; its old one is stale. More than 22 directories deep, a handle is
 * known only to the process that gave it out.
 */

const LAYOUT = 1;
const HEADER_BYTES = 20;
const MAX_HANDLE_BYTES = 64;
const MAX_NAMES = (MAX_HANDLE_BYTES - HEADER_BYTES) / 2;

export interface FileIdentity {
  inode: bigint;
  birth: number;
}

export function identityOf(stat: BigIntStats): FileIdentity {
  return { inode: stat.ino, birth: hash32(Number(stat.birthtimeNs & 0xffffffffn)) };
}

export function encodeHandle(volumeId: number, identity: FileIdentity, path: Buffer): Buffer {
  const names = path.length === 0 ? [] : splitPath(path);
  const hints = names.length <= MAX_NAMES ? names : [];
  const handle = Buffer.alloc(HEADER_BYTES + 2 * hints.length);
  handle[0] = LAYOUT;
  handle[1] = Math.min(names.length, 255);
  handle.writeUInt32BE(volumeId, 4);
  handle.writeBigUInt64BE(BigInt.asUintN(64, identity.inode), 8);
  handle.writeUInt32BE(identity.birth, 16);
  hints.forEach((name, i) => {
    handle.writeUInt16BE(nameHash(name) >>> 16, HEADER_BYTES + 2 * i);
  });
  return handle;
}

export interface DecodedHandle {
  identity: FileIdentity;
  /** The top 16 bits of nameHash of each name on the way, or null if the file lies too deep. */
  hints: number[] | null;
}

/** Null: no handle of this layout. */
export function decodeHandle(handle: Uint8Array): DecodedHandle | null {
  if (handle.length < HEADER_BYTES || handle.length > MAX_HANDLE_BYTES || handle[0] !== LAYOUT) return null;
  const bytes = Buffer.from(handle.buffer, handle.byteOffset, handle.length);
  const identity = { inode: bytes.readBigUInt64BE(8), birth: bytes.readUInt32BE(16) };
  const names = bytes[1] as number;
  if (names > MAX_NAMES) return bytes.length === HEADER_BYTES ? { identity, hints: null } : null;
  if (bytes.length !== HEADER_BYTES + 2 * names) return null;
  return {
    identity,
    hints: Array.from({ length: names }, (_, i) => bytes.readUInt16BE(HEADER_BYTES + 2 * i)),
  };
}

/** The volume that a handle (of any layout of this server) names, or null if it is none of ours. */
export function volumeIdOf(handle: Uint8Array): number | null {
  if (handle.length < 8 || handle.length > MAX_HANDLE_BYTES) return null;
  return Buffer.from(handle.buffer, handle.byteOffset, handle.length).readUInt32BE(4);
}

export function splitPath(path: Buffer): Buffer[] {
  const names: Buffer[] = [];
  let start = 0;
  for (let slash = path.indexOf(0x2f); slash >= 0; slash = path.indexOf(0x2f, start)) {
    names.push(path.subarray(start, slash));
    start = slash + 1;
  }
  names.push(path.subarray(start));
  return names;
}

/** 32 bits, evenly spread; part of handles and cookies, so never to be changed. FNV-1a and Murmur3's finish. */
export function nameHash(name: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ (name[i] as number), 0x01000193);
  return hash32(hash);
}

function hash32(value: number): number {
  let hash = value >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * What was learnt last, by key, in bounded memory: two generations, of which the older is dropped as a whole when
 * the younger is full. Between `capacity` and twice that many stay known.
 */
export class RecentMap<V> {
  #young = new Map<string, V>();
  #old = new Map<string, V>();
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get(key: string): V | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  set(key: string, value: V): void {
    if (this.#young.size >= this.#capacity && !this.#young.has(key)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }

  delete(key: string): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }
}
