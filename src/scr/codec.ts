import { crc32 } from 'node:zlib';
import { pathBytes, pathText } from '../model/pathname.js';
import type { Tree } from './tree.js';

/**
 * A transfer file on disk, as the SCR library's key-value trees are written. All integers are big-endian:
 *
 *   uint32 magic, uint16 type, uint16 version, uint64 size of the whole, uint32 flags,
 *   the tree: uint32 count, then for each element its key, a NUL, and its own tree,
 *   uint32 CRC-32 (zlib) of everything before it, if flag bit 0 is set
 */
const MAGIC = 0x951fc3f5;
const TYPE_TREE = 1;
const VERSION = 1;
const FLAG_CRC32 = 1;
const HEADER_BYTES = 20;
const CRC_BYTES = 4;
/** The least that an element takes: an empty key with its NUL, and the count 0. */
const ELEMENT_BYTES = 5;
/** Five are in use; deeper ones are kept as they are. */
const MAX_DEPTH = 64;

/** More than three hundred thousand files. What is larger is no transfer file. */
export const MAX_FILE_BYTES = 64 * 1024 * 1024;

/** The bytes are no whole and valid transfer file. The message says what is wrong, and where. */
export class CorruptTransferFile extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CorruptTransferFile';
  }
}

/**
 * Bytes of a transfer file → its tree, keys in the order of the file.
 * @throws {CorruptTransferFile} unless every byte is as it must be
 */
export function decodeTree(bytes: Buffer): Tree {
  const size = fileSize(bytes);
  if (size !== bytes.length) {
    throw new CorruptTransferFile(`its header gives it ${size} bytes, it has ${bytes.length}`);
  }
  const flags = bytes.readUInt32BE(16);
  if ((flags & ~FLAG_CRC32) !== 0) throw new CorruptTransferFile(`its flags are 0x${flags.toString(16)}`);
  let end = bytes.length;
  if (flags & FLAG_CRC32) {
    end -= CRC_BYTES;
    if (end < HEADER_BYTES) throw new CorruptTransferFile('it ends within its checksum');
    if (crc32(bytes.subarray(0, end)) !== bytes.readUInt32BE(end)) {
      throw new CorruptTransferFile('its CRC-32 does not match its content');
    }
  }
  const reader = new TreeReader(bytes, end);
  const tree = reader.tree(0) ?? new Map();
  if (reader.position !== end) {
    throw new CorruptTransferFile(`its tree ends at byte ${reader.position}, not ${end}`);
  }
  return tree;
}

/**
 * The size that a transfer file has by its header.
 * @throws {CorruptTransferFile} if there is no such header
 */
export function fileSize(bytes: Buffer): number {
  if (bytes.length < HEADER_BYTES) throw new CorruptTransferFile('it is shorter than a header');
  const magic = bytes.readUInt32BE(0);
  if (magic !== MAGIC) {
    throw new CorruptTransferFile(
      `it begins with 0x${magic.toString(16).padStart(8, '0')}, not 0x${MAGIC.toString(16)}`,
    );
  }
  const type = bytes.readUInt16BE(4);
  const version = bytes.readUInt16BE(6);
  if (type !== TYPE_TREE || version !== VERSION) {
    throw new CorruptTransferFile(`it has type ${type} and version ${version}, not 1 and 1`);
  }
  return bytes.readUInt32BE(8) * 2 ** 32 + bytes.readUInt32BE(12);
}

/**
 * A tree → the bytes of a transfer file, with a CRC-32, in the order of the keys.
 * @throws {RangeError} if a key holds a NUL, or the whole would be larger than `MAX_FILE_BYTES`
 */
export function encodeTree(tree: Tree): Buffer {
  const writer = new TreeWriter();
  writer.tree(tree);
  return writer.finish();
}

class TreeReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  position = HEADER_BYTES;

  constructor(bytes: Buffer, end: number) {
    this.#bytes = bytes;
    this.#end = end;
  }

  tree(depth: number): Tree | null {
    if (depth > MAX_DEPTH) throw new CorruptTransferFile(`its tree is more than ${MAX_DEPTH} levels deep`);
    const countAt = this.position;
    if (countAt + 4 > this.#end) throw new CorruptTransferFile(`it ends within a count, at byte ${countAt}`);
    const count = this.#bytes.readUInt32BE(countAt);
    this.position += 4;
    if (count === 0) return null;
    if (count > (this.#end - this.position) / ELEMENT_BYTES) {
      throw new CorruptTransferFile(`byte ${countAt} announces ${count} elements, more than fit behind it`);
    }
    const tree: Tree = new Map();
    for (let i = 0; i < count; i++) {
      const keyAt = this.position;
      const key = this.#key();
      if (tree.has(key)) throw new CorruptTransferFile(`the key at byte ${keyAt} stands twice in its tree`);
      tree.set(key, this.tree(depth + 1));
    }
    return tree;
  }

  #key(): string {
    const nul = this.#bytes.indexOf(0, this.position);
    if (nul < 0 || nul >= this.#end) {
      throw new CorruptTransferFile(`the key at byte ${this.position} has no end`);
    }
    const key = pathText(this.#bytes.subarray(this.position, nul));
    this.position = nul + 1;
    return key;
  }
}

class TreeWriter {
  #bytes = Buffer.allocUnsafe(4096);
  #length = HEADER_BYTES;

  tree(tree: Tree | null): void {
    this.#reserve(4);
    this.#length = this.#bytes.writeUInt32BE(tree?.size ?? 0, this.#length);
    for (const [key, below] of tree ?? []) {
      this.#key(key);
      this.tree(below);
    }
  }

  finish(): Buffer {
    this.#reserve(CRC_BYTES);
    const size = this.#length + CRC_BYTES;
    if (size > MAX_FILE_BYTES) {
      throw new RangeError(`the transfer file would have ${size} bytes, more than ${MAX_FILE_BYTES}`);
    }
    const bytes = this.#bytes.subarray(0, size);
    bytes.writeUInt32BE(MAGIC, 0);
    bytes.writeUInt16BE(TYPE_TREE, 4);
    bytes.writeUInt16BE(VERSION, 6);
    bytes.writeUInt32BE(0, 8);
    bytes.writeUInt32BE(size, 12);
    bytes.writeUInt32BE(FLAG_CRC32, 16);
    bytes.writeUInt32BE(crc32(bytes.subarray(0, this.#length)), this.#length);
    return bytes;
  }

  #key(key: string): void {
    if (key.includes('\0')) throw new RangeError(`the key ${JSON.stringify(key)} holds a NUL`);
    // A UTF-16 code unit never takes more than three bytes.
    this.#reserve(key.length * 3 + 1);
    if (key.isWellFormed()) this.#length += this.#bytes.write(key, this.#length);
    else this.#length += pathBytes(key).copy(this.#bytes, this.#length);
    this.#bytes[this.#length++] = 0;
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + count));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}
