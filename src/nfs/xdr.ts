/**
 * XDR (RFC 4506) reading and writing over byte arrays. Big-endian, everything padded to four bytes.
 *
 * 64-bit numbers are handled as two 32-bit words or as a Number: BigInt costs about sixty times as much in
 * the loops that run once per file.
 */

/** What was read is not what the protocol says. `offset` counts from the start of the bytes given. */
export class XdrError extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(`${message} (at byte ${offset})`);
    this.name = 'XdrError';
    this.offset = offset;
  }
}

const TWO_32 = 0x1_0000_0000;

function padding(length: number): number {
  return (4 - (length & 3)) & 3;
}

/**
 * Reads from `bytes[start, end)`; every read is checked against `end` and throws {@link XdrError} beyond it.
 * What it returns is copied: the bytes may be overwritten afterwards.
 */
export class XdrReader {
  bytes: Uint8Array;
  view: DataView;
  offset: number;
  end: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = start;
    this.end = end;
  }

  /** Points the same reader at other bytes; free of allocation while `bytes` stays the same object. */
  reset(bytes: Uint8Array, start: number, end: number): void {
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    this.offset = start;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.offset;
  }

  uint32(): number {
    const at = this.offset;
    if (at + 4 > this.end) throw this.#short(4);
    this.offset = at + 4;
    return this.view.getUint32(at);
  }

  /** Only 0 and 1 are booleans (RFC 4506 §4.4); anything else means that the reader and the bytes disagree. */
  bool(): boolean {
    const value = this.uint32();
    if (value > 1) throw new XdrError(`${value} is no boolean`, this.offset - 4);
    return value === 1;
  }

  /** An unsigned hyper as a Number: exact up to 2^53, rounded above. */
  uint64(): number {
    const at = this.offset;
    if (at + 8 > this.end) throw this.#short(8);
    this.offset = at + 8;
    return this.view.getUint32(at) * TWO_32 + this.view.getUint32(at + 4);
  }

  /** An unsigned hyper in decimal, exact. */
  uint64Text(): string {
    const at = this.offset;
    if (at + 8 > this.end) throw this.#short(8);
    this.offset = at + 8;
    return uint64Text(this.view.getUint32(at), this.view.getUint32(at + 4));
  }

  /** Moves over `length` bytes, without padding. */
  skip(length: number): void {
    if (this.offset + length > this.end) throw this.#short(length);
    this.offset += length;
  }

  /** Fixed-length opaque: `length` bytes, and the padding after them. */
  fixedOpaque(length: number): Buffer {
    const at = this.offset;
    this.skip(length + padding(length));
    return this.#copy(at, length);
  }

  /** Variable-length opaque of at most `max` bytes. */
  opaque(max: number): Buffer {
    const length = this.opaqueLength(max);
    const at = this.offset;
    this.offset = at + length + padding(length);
    return this.#copy(at, length);
  }

  /** Moves over a variable-length opaque of at most `max` bytes. */
  skipOpaque(max: number): void {
    const length = this.opaqueLength(max);
    this.offset += length + padding(length);
  }

  /** Variable-length string of at most `max` bytes, as UTF-8; for what is shown, never for names of files. */
  text(max: number): string {
    return this.opaque(max).toString('utf8');
  }

  /**
   * The length word of a variable-length opaque; its bytes and padding, which follow, are known to be there.
   * The padding's content is not checked: RFC 4506 wants zeros, and not every server sends them.
   */
  opaqueLength(max: number): number {
    const length = this.uint32();
    if (length > max) throw new XdrError(`a length of ${length}, at most ${max} allowed`, this.offset - 4);
    if (this.offset + length + padding(length) > this.end) throw this.#short(length + padding(length));
    return length;
  }

  /** @throws {XdrError} if anything is left: a message that is longer than its definition was misread */
  finish(): void {
    if (this.offset !== this.end) {
      throw new XdrError(`${this.end - this.offset} bytes too many`, this.offset);
    }
  }

  #copy(at: number, length: number): Buffer {
    // Buffer.alloc, not allocUnsafe or subarray: a small one lies on the JavaScript heap, so that keeping a file
    // handle does not keep a shared 8 KiB slab or a whole record alive.
    const copy = Buffer.alloc(length);
    const bytes = this.bytes;
    if (length <= 32) for (let i = 0; i < length; i++) copy[i] = bytes[at + i] as number;
    else copy.set(bytes.subarray(at, at + length));
    return copy;
  }

  #short(wanted: number): XdrError {
    return new XdrError(`${wanted} bytes wanted, ${this.end - this.offset} left`, this.offset);
  }
}

/** Two words of an unsigned hyper → decimal text, exact. */
export function uint64Text(high: number, low: number): string {
  if (high === 0) return String(low);
  if (high < 0x20_0000) return String(high * TWO_32 + low);
  return String((BigInt(high) << 32n) | BigInt(low));
}

/** Writes into a buffer of its own that grows as needed. `bytes[0, length)` is what was written. */
export class XdrWriter {
  bytes: Buffer;
  length = 0;
  #view: DataView;

  constructor(capacity = 512) {
    this.bytes = Buffer.alloc(capacity);
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
  }

  /** Starts again at 0; the bytes written before will be overwritten. */
  clear(): void {
    this.length = 0;
  }

  /** A copy of what was written. */
  take(): Buffer {
    return Buffer.from(this.bytes.subarray(0, this.length));
  }

  uint32(value: number): void {
    const at = this.#extend(4);
    this.#view.setUint32(at, value);
  }

  bool(value: boolean): void {
    this.uint32(value ? 1 : 0);
  }

  /** An unsigned hyper from its two words. */
  uint64(high: number, low: number): void {
    const at = this.#extend(8);
    this.#view.setUint32(at, high);
    this.#view.setUint32(at + 4, low);
  }

  /** An unsigned hyper from a Number (a whole one, 0 to 2^53). */
  uint64Number(value: number): void {
    this.uint64(Math.floor(value / TWO_32), value % TWO_32);
  }

  /** Bytes as they are, without length or padding. */
  raw(source: Uint8Array): void {
    const at = this.#extend(source.length);
    this.bytes.set(source, at);
  }

  fixedOpaque(source: Uint8Array): void {
    this.raw(source);
    this.#pad(source.length);
  }

  opaque(source: Uint8Array): void {
    this.uint32(source.length);
    this.raw(source);
    this.#pad(source.length);
  }

  text(value: string): void {
    this.opaque(Buffer.from(value, 'utf8'));
  }

  /** Overwrites the word at `offset`, which was written before. */
  patchUint32(offset: number, value: number): void {
    if (offset < 0 || offset + 4 > this.length) throw new RangeError(`no word was written at ${offset}`);
    this.#view.setUint32(offset, value);
  }

  #pad(length: number): void {
    const pad = padding(length);
    if (pad === 0) return;
    const at = this.#extend(pad);
    for (let i = 0; i < pad; i++) this.bytes[at + i] = 0;
  }

  #extend(by: number): number {
    const at = this.length;
    if (at + by > this.bytes.length) this.#grow(at + by);
    this.length = at + by;
    return at;
  }

  #grow(needed: number): void {
    const larger = Buffer.alloc(Math.max(needed, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
    this.#view = new DataView(larger.buffer, larger.byteOffset, larger.byteLength);
  }
}
