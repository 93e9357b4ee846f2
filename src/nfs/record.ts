import type { XdrWriter } from './xdr.js';

/**
 * Record marking (RFC 5531 §11): over TCP a message is one record, sent as fragments, each after a word whose
 * top bit says "last fragment" and whose other bits are the fragment's length.
 */

const LAST_FRAGMENT = 0x8000_0000;

/** The stream cannot be a sequence of records, or exceeds a cap; nothing after this point can be trusted. */
export class RecordError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'RecordError';
  }
}

/** Leaves room for the record mark; give what it returns to {@link endRecord} when the record is written. */
export function beginRecord(writer: XdrWriter): number {
  writer.uint32(0);
  return writer.length;
}

/** Writes the mark of the record that started at `start`, as one last fragment. */
export function endRecord(writer: XdrWriter, start: number): void {
  writer.patchUint32(start - 4, (LAST_FRAGMENT | (writer.length - start)) >>> 0);
}

export interface RecordLimits {
  /** Largest record, over all its fragments. */
  maxRecordBytes: number;
  /** Most fragments of one record, empty ones included. */
  maxFragments: number;
}

export const DEFAULT_RECORD_LIMITS: RecordLimits = { maxRecordBytes: 1 << 20, maxFragments: 1024 };

/**
 * Finds the records in a TCP stream, however it was cut. A record that lies whole in one chunk is given in
 * place; what has to be put together grows with the bytes that arrived, never with what a mark promises.
 */
export class RecordReader {
  readonly #onRecord: (bytes: Uint8Array, start: number, end: number) => void;
  readonly #limits: RecordLimits;
  /** The record being put together, in `[0, #assembledLength)`. */
  #assembled: Buffer = Buffer.alloc(0);
  #assembledLength = 0;
  #fragments = 0;
  /** The mark that is being read: value so far, and how many of its four bytes are there. */
  #mark = 0;
  #markBytes = 0;
  #lastFragment = false;
  #fragmentLeft = 0;
  #stopped = false;

  /**
   * @param onRecord gets each record as `bytes[start, end)`, without marks. The bytes are valid during the call
   *   only. It must not call {@link push}; {@link stop} is allowed.
   */
  constructor(
    onRecord: (bytes: Uint8Array, start: number, end: number) => void,
    limits: RecordLimits = DEFAULT_RECORD_LIMITS,
  ) {
    this.#onRecord = onRecord;
    this.#limits = limits;
  }

  /** True in the middle of a record: bytes of it have come, more must follow. */
  get partial(): boolean {
    return this.#markBytes > 0 || this.#fragments > 0;
  }

  /** No further record is delivered, not even from the chunk that is being read. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * Takes the next bytes of the stream.
   * @throws {RecordError} for a record over the caps
   */
  push(chunk: Uint8Array, start = 0, end: number = chunk.length): void {
    let at = start;
    while (at < end && !this.#stopped) {
      if (this.#fragmentLeft === 0) {
        at = this.#readMark(chunk, at, end);
        continue;
      }
      const take = Math.min(this.#fragmentLeft, end - at);
      if (this.#lastFragment && take === this.#fragmentLeft && this.#assembledLength === 0) {
        this.#resetRecord();
        this.#onRecord(chunk, at, at + take);
      } else {
        this.#assemble(chunk, at, at + take);
        this.#fragmentLeft -= take;
        if (this.#fragmentLeft === 0 && this.#lastFragment) this.#deliverAssembled();
      }
      at += take;
    }
  }

  #readMark(chunk: Uint8Array, start: number, end: number): number {
    let at = start;
    while (this.#markBytes < 4 && at < end) {
      this.#mark = ((this.#mark << 8) | (chunk[at] as number)) >>> 0;
      this.#markBytes++;
      at++;
    }
    if (this.#markBytes < 4) return at;
    this.#lastFragment = this.#mark >= LAST_FRAGMENT;
    this.#fragmentLeft = this.#mark & 0x7fff_ffff;
    this.#mark = 0;
    this.#markBytes = 0;
    this.#fragments++;
    if (this.#fragments > this.#limits.maxFragments) {
      throw new RecordError(`a record of more than ${this.#limits.maxFragments} fragments`);
    }
    const size = this.#assembledLength + this.#fragmentLeft;
    if (size > this.#limits.maxRecordBytes) {
      throw new RecordError(
        `a record of at least ${size} bytes, at most ${this.#limits.maxRecordBytes} allowed`,
      );
    }
    if (this.#fragmentLeft === 0 && this.#lastFragment) this.#deliverAssembled();
    return at;
  }

  #assemble(chunk: Uint8Array, start: number, end: number): void {
    const needed = this.#assembledLength + end - start;
    if (needed > this.#assembled.length) {
      const larger = Buffer.alloc(Math.min(Math.max(needed, needed * 2, 4096), this.#limits.maxRecordBytes));
      larger.set(this.#assembled.subarray(0, this.#assembledLength));
      this.#assembled = larger;
    }
    this.#assembled.set(chunk.subarray(start, end), this.#assembledLength);
    this.#assembledLength = needed;
  }

  #deliverAssembled(): void {
    const length = this.#assembledLength;
    this.#resetRecord();
    this.#onRecord(this.#assembled, 0, length);
  }

  #resetRecord(): void {
    this.#assembledLength = 0;
    this.#fragments = 0;
    this.#fragmentLeft = 0;
    this.#lastFragment = false;
  }
}
