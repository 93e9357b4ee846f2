import { tidyPathBytes } from '../model/pathname.js';

/**
 * What a chunk keeps of one file: the path that a flush names, or source, destination and (if it was given) size of
 * a file of a transfer, with a NUL between, which no path has.
 */
export interface FileEntry {
  /** The path, or the source. Bytes without NUL. */
  path: Uint8Array;
  destination: Uint8Array | null;
  /** Bytes; null: not known beforehand. */
  size: number | null;
}

const NUL = Buffer.of(0);

export function encodeEntry({ path, destination, size }: FileEntry): Buffer {
  if (destination === null) return Buffer.from(path);
  const parts = [path, NUL, destination];
  if (size !== null) parts.push(NUL, Buffer.from(String(size)));
  return Buffer.concat(parts);
}

/** Bytes that are the same for entries which mean the same: however the path is spelled, whatever its size. */
export function identityOf({ path, destination }: Pick<FileEntry, 'path' | 'destination'>): Uint8Array {
  const tidy = tidyPathBytes(path);
  return destination === null ? tidy : Buffer.concat([tidy, NUL, tidyPathBytes(destination)]);
}

export function decodeEntry(bytes: Buffer): FileEntry & { path: Buffer; destination: Buffer | null } {
  const first = bytes.indexOf(0);
  if (first < 0) return { path: bytes, destination: null, size: null };
  const second = bytes.indexOf(0, first + 1);
  return {
    path: bytes.subarray(0, first),
    destination: bytes.subarray(first + 1, second < 0 ? undefined : second),
    size: second < 0 ? null : Number(bytes.toString('latin1', second + 1)),
  };
}
