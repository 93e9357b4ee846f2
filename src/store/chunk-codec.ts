import { constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import { ByteReader, ByteWriter } from './bytes.js';

/** Files per chunk. A file's chunk is its index / 512: this number is in the stored data and cannot change. */
export const CHUNK_FILES = 512;

/** No blob that we wrote is larger: 512 paths of 64 KiB. */
const MAX_INFLATED_BYTES = 40 * 1024 * 1024;

/**
 * The paths of one chunk in one blob. Each path is the number of bytes it shares with the one before, the length of
 * the rest, the rest; then all of it deflated. Sharing prefixes first makes deflate's input some five times smaller,
 * and its time with it. Lengths, not separators, because a name may hold any byte but NUL and slash.
 */
export function encodePaths(paths: readonly Uint8Array[]): Buffer {
  const writer = new ByteWriter();
  writer.varint(paths.length);
  let previous: Uint8Array = new Uint8Array(0);
  for (const path of paths) {
    const shared = sharedLength(previous, path);
    writer.varint(shared);
    writer.string(path.subarray(shared));
    previous = path;
  }
  return deflateRawSync(writer.view(), { level: 6, memLevel: 9, strategy: constants.Z_DEFAULT_STRATEGY });
}

/** @throws {Error} for bytes that encodePaths did not write */
export function decodePaths(blob: Buffer): Buffer[] {
  const reader = new ByteReader(inflateRawSync(blob, { maxOutputLength: MAX_INFLATED_BYTES }));
  const count = reader.varint();
  if (count > CHUNK_FILES) throw new RangeError(`a chunk cannot have ${count} paths`);
  const paths: Buffer[] = [];
  let previous: Buffer = Buffer.alloc(0);
  for (let i = 0; i < count; i++) {
    const shared = reader.varint();
    if (shared > previous.length) throw new RangeError('a path shares more than there is');
    const rest = reader.string();
    const path = Buffer.allocUnsafe(shared + rest.length);
    previous.copy(path, 0, 0, shared);
    rest.copy(path, shared);
    paths.push(path);
    previous = path;
  }
  return paths;
}

function sharedLength(a: Uint8Array, b: Uint8Array): number {
  const end = Math.min(a.length, b.length);
  let i = 0;
  while (i < end && a[i] === b[i]) i++;
  return i;
}
