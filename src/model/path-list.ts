import { BrokerError } from './errors.js';
import { pathText } from './pathname.js';

/** How the paths of a list are told apart: by LF (a CR before it is dropped), or by NUL as `find -print0` writes. */
export const LIST_DELIMITERS = ['newline', 'nul'] as const;
export type ListDelimiter = (typeof LIST_DELIMITERS)[number];

export interface PathListOptions {
  delimiter: ListDelimiter;
  /** A path may have this many bytes. No more than this is ever held back between two chunks. */
  maxPathBytes: number;
  /**
   * Called for a path that is too long, with its line (from 1) and its first bytes; it is then left out of the
   * list and counted in `tooLong`. Without it such a path throws.
   */
  onTooLong?: (line: number, start: Uint8Array) => void;
}

const LF = 0x0a;
const CR = 0x0d;
const NUL = 0x00;
/** What of a too long path is shown. */
const SHOWN_BYTES = 80;

/**
 * Splits a list of paths that arrives in chunks of bytes. Incremental and without input or output of its own:
 * `for (const path of list.push(chunk)) …`, and once at the end `for (const path of list.end()) …`.
 *
 * A path that came out may share memory with its chunk: copy it if the chunk's memory is used again.
 */
export class PathList {
  /** Line (or NUL-ended entry) of the path that came out last, from 1; blank ones count too. */
  line = 0;
  /** Paths that came out. */
  paths = 0;
  /** Empty lines, or lines of a CR alone: skipped. */
  blank = 0;
  /** Lines that ended in CR LF: a file whose name really ends in CR needs the NUL delimiter. */
  carriageReturns = 0;
  tooLong = 0;
  /** The list began with a UTF-8 byte order mark, which is not part of the first path. */
  byteOrderMark = false;

  readonly #delimiter: number;
  readonly #maxPathBytes: number;
  /** One more for the CR, which is only known to be one when the LF is there. */
  readonly #maxLineBytes: number;
  readonly #onTooLong: PathListOptions['onTooLong'];
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  /** The line being read is too long already; `#held` keeps only what will be shown of it. */
  #overflowed = false;

  constructor(options: PathListOptions) {
    this.#delimiter = options.delimiter === 'nul' ? NUL : LF;
    this.#maxPathBytes = options.maxPathBytes;
    this.#maxLineBytes =
      options.maxPathBytes + (options.delimiter === 'nul' ? 0 : 1 + BYTE_ORDER_MARK.length);
    this.#onTooLong = options.onTooLong;
  }

  /**
   * The paths that end in this chunk; what is left over waits for the next. Must be read to its end.
   * @throws {BrokerError} PATH_TOO_LONG, unless there is an `onTooLong`
   */
  *push(chunk: Uint8Array): Generator<Uint8Array, void, undefined> {
    let start = 0;
    for (;;) {
      // A gigabyte of empty lines is a megabyte of gzip: they must cost next to nothing.
      while (this.#heldBytes === 0 && chunk[start] === this.#delimiter) {
        this.line++;
        this.blank++;
        start++;
      }
      const end = chunk.indexOf(this.#delimiter, start);
      if (end < 0) break;
      const path = this.#take(chunk.subarray(start, end));
      start = end + 1;
      if (path !== null) yield path;
    }
    if (start < chunk.length) this.#hold(chunk.subarray(start));
  }

  /** The last path, if the list did not end with the delimiter. @throws {BrokerError} PATH_TOO_LONG, as `push` */
  *end(): Generator<Uint8Array, void, undefined> {
    if (this.#heldBytes === 0) return;
    const path = this.#take(new Uint8Array(0));
    if (path !== null) yield path;
  }

  #take(tail: Uint8Array): Uint8Array | null {
    this.line++;
    let path = tail;
    if (this.#heldBytes > 0) {
      this.#hold(tail);
      path = this.#held.length === 1 ? (this.#held[0] as Uint8Array) : Buffer.concat(this.#held);
      this.#held = [];
      this.#heldBytes = 0;
    }
    if (this.#delimiter === LF) {
      if (this.line === 1 && startsWithByteOrderMark(path)) {
        this.byteOrderMark = true;
        path = path.subarray(BYTE_ORDER_MARK.length);
      }
    }
    const endsInCr = this.#delimiter === LF && path[path.length - 1] === CR && !this.#overflowed;
    if (endsInCr) path = path.subarray(0, path.length - 1);
    if (this.#overflowed || path.length > this.#maxPathBytes) {
      this.#overflowed = false;
      this.#refuse(path);
      return null;
    }
    if (endsInCr) this.carriageReturns++;
    if (path.length === 0) {
      this.blank++;
      return null;
    }
    this.paths++;
    return path;
  }

  /** Copies: the chunk's memory may be used again by its owner before the line ends. */
  #hold(part: Uint8Array): void {
    if (part.length === 0 || this.#overflowed) return;
    const room = this.#maxLineBytes - this.#heldBytes;
    if (part.length > room) this.#overflowed = true;
    const kept = Uint8Array.prototype.slice.call(part, 0, Math.max(0, Math.min(part.length, room)));
    this.#held.push(kept);
    this.#heldBytes += kept.length;
    // A line that trickles in byte by byte would otherwise cost an array element per byte.
    if (this.#held.length >= 64) this.#held = [Buffer.concat(this.#held)];
  }

  #refuse(path: Uint8Array): void {
    const start = path.subarray(0, SHOWN_BYTES);
    this.tooLong++;
    if (this.#onTooLong !== undefined) {
      this.#onTooLong(this.line, start);
      return;
    }
    throw new BrokerError(
      'PATH_TOO_LONG',
      `The path in line ${this.line} has more than ${this.#maxPathBytes} bytes; it begins with ${JSON.stringify(pathText(start))}.`,
      { pointer: `line ${this.line}` },
    );
  }
}

const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf] as const;

function startsWithByteOrderMark(bytes: Uint8Array): boolean {
  return BYTE_ORDER_MARK.every((byte, i) => bytes[i] === byte);
}
