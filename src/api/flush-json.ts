import { BrokerError } from '../model/errors.js';
import type { ListReader } from './flush-lists.js';
import { JsonPathError, jsonPath } from './json-path.js';

export interface FlushJsonOptions {
  maxPathBytes: number;
  /** Bytes of everything but `files`. */
  maxRestBytes: number;
}

/** What may come next; the object's members one after another, the elements of `files` one after another. */
type State =
  | 'start'
  | 'key-or-end'
  | 'key'
  | 'colon'
  | 'value'
  | 'rest'
  | 'item-or-end'
  | 'item'
  | 'item-end'
  | 'member-end'
  | 'done';

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Every byte of a path may be written as an escape of six. */
const ESCAPED_BYTES = 6;
const MAX_KEY_BYTES = 256;
const MAX_DEPTH = 32;

/**
 * Reads the JSON object of a flush request as it arrives: the strings of `files` come out as paths, one by one, and
 * all other members are parsed at their end. `JSON.parse` of a whole body would stop the process for as long as a
 * sender likes (16 MiB of `{},` take a second and 500 MB), before anything of it could be refused.
 */
export class FlushJsonReader implements ListReader {
  /** Elements of `files` that came out. */
  paths = 0;

  readonly #options: FlushJsonOptions;
  readonly #members = new Map<string, unknown>();
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true });
  #state: State = 'start';
  #key = '';
  /** A string that goes on in the next chunk, from its quote on. */
  #held: Uint8Array | null = null;
  /** Offset in the body of the first byte at hand. */
  #base = 0;
  #rest: Uint8Array[] = [];
  #restBytes = 0;
  #restStart = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;

  constructor(options: FlushJsonOptions) {
    this.#options = options;
  }

  get where(): string {
    return `/files/${this.paths - 1}`;
  }

  /** @throws {BrokerError} MALFORMED, VALIDATION, PATH_TOO_LONG, BODY_TOO_LARGE */
  *push(chunk: Uint8Array): Generator<Uint8Array, void, undefined> {
    const data = this.#held === null ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = null;
    let i = 0;
    for (;;) {
      if (this.#state === 'rest') i = this.#takeRest(data, i);
      while (i < data.length && isSpace(data[i] as number)) i++;
      if (i >= data.length) break;
      const byte = data[i] as number;
      if ((this.#state === 'item' || this.#state === 'item-or-end') && byte !== CLOSE_ARRAY) {
        if (byte !== QUOTE) throw this.#notAString();
        const end = endOfString(data, i);
        if (end < 0) {
          if (data.length - i > this.#options.maxPathBytes * ESCAPED_BYTES + 1) throw this.#tooLong();
          break;
        }
        const path = this.#path(data.subarray(i + 1, end), i);
        i = end + 1;
        this.#state = 'item-end';
        this.paths++;
        yield path;
      } else if ((this.#state === 'key' || this.#state === 'key-or-end') && byte !== CLOSE_OBJECT) {
        if (byte !== QUOTE) throw this.#unexpected(byte, i, 'the name of a member in quotes');
        const end = endOfString(data, i);
        if (end < 0 ? data.length - i > MAX_KEY_BYTES : end - i > MAX_KEY_BYTES) {
          throw this.#malformed('the name of a member is too long', i);
        }
        if (end < 0) break;
        this.#takeKey(data.subarray(i, end + 1), i);
        i = end + 1;
      } else {
        i = this.#takePunctuation(byte, i);
      }
    }
    if (i < data.length) this.#held = data.subarray(i);
    this.#base += i;
  }

  // biome-ignore lint/correctness/useYield: a list reader ends with what it held back; here nothing can be
  *end(): Generator<Uint8Array, void, undefined> {
    if (this.#state === 'done') return;
    if (this.#state === 'start') throw this.#malformed('there is nothing in it', 0);
    throw this.#malformed('it ends too early', this.#held?.length ?? 0);
  }

  /** All members but `files`, after the end. */
  rest(): Record<string, unknown> {
    return Object.fromEntries(this.#members);
  }

  #takePunctuation(byte: number, i: number): number {
    switch (this.#state) {
      case 'start':
        if (byte !== OPEN_OBJECT) throw this.#unexpected(byte, i, 'an object: "{"');
        this.#state = 'key-or-end';
        return i + 1;
      case 'colon':
        if (byte !== COLON) throw this.#unexpected(byte, i, '":"');
        this.#state = 'value';
        return i + 1;
      case 'value':
        if (this.#key === 'files' && byte === OPEN_ARRAY) {
          this.#state = 'item-or-end';
          return i + 1;
        }
        this.#state = 'rest';
        this.#restStart = this.#base + i;
        return i;
      case 'item-end':
        if (byte === COMMA) this.#state = 'item';
        else if (byte === CLOSE_ARRAY) this.#state = 'member-end';
        else throw this.#unexpected(byte, i, '"," or "]"');
        return i + 1;
      case 'item-or-end':
        this.#state = 'member-end';
        return i + 1;
      case 'member-end':
        if (byte === COMMA) this.#state = 'key';
        else if (byte === CLOSE_OBJECT) this.#state = 'done';
        else throw this.#unexpected(byte, i, '"," or "}"');
        return i + 1;
      case 'key-or-end':
        this.#state = 'done';
        return i + 1;
      case 'done':
        throw this.#unexpected(byte, i, 'the end');
      default:
        throw this.#unexpected(byte, i, this.#state === 'item' ? 'a string' : 'the name of a member');
    }
  }

  #path(content: Uint8Array, i: number): Uint8Array {
    try {
      return jsonPath(content);
    } catch (error) {
      if (!(error instanceof JsonPathError)) throw error;
      const pointer = `/files/${this.paths}`;
      throw new BrokerError('MALFORMED', `The path at byte ${this.#base + i} of the body ${error.message}.`, {
        pointer,
      });
    }
  }

  #takeKey(token: Uint8Array, i: number): void {
    let key: string;
    try {
      key = JSON.parse(this.#utf8.decode(token)) as string;
    } catch {
      throw this.#malformed('the name of a member is not a valid string', i);
    }
    if (this.#members.has(key) || (key === 'files' && this.paths > 0)) {
      throw this.#malformed(`the member ${JSON.stringify(key)} stands in it twice`, i);
    }
    this.#key = key;
    this.#state = 'colon';
  }

  /** Bytes of a value up to the comma or brace behind it; returns where that is. */
  #takeRest(data: Uint8Array, from: number): number {
    let i = from;
    let ended = false;
    for (; i < data.length; i++) {
      const byte = data[i] as number;
      if (this.#escaped) this.#escaped = false;
      else if (this.#inString) {
        if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
      } else if (byte === QUOTE) this.#inString = true;
      else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
        if (++this.#depth > MAX_DEPTH) throw this.#malformed(`it is nested more than ${MAX_DEPTH} deep`, i);
      } else if (this.#depth === 0 && (byte === COMMA || byte === CLOSE_OBJECT)) {
        ended = true;
        break;
      } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) {
        if (--this.#depth < 0) throw this.#unexpected(byte, i, 'a value');
      }
    }
    this.#restBytes += i - from;
    if (this.#restBytes > this.#options.maxRestBytes) {
      throw new BrokerError(
        'BODY_TOO_LARGE',
        `Everything but "files" may have ${this.#options.maxRestBytes} bytes together; this body has more.`,
        { pointer: `/${this.#key}` },
      );
    }
    // Copied: a subarray would keep its whole chunk in memory.
    this.#rest.push(Uint8Array.prototype.slice.call(data, from, i));
    if (this.#rest.length >= 64) this.#rest = [Buffer.concat(this.#rest)];
    if (ended) this.#endRest();
    return i;
  }

  #endRest(): void {
    const bytes = Buffer.concat(this.#rest);
    this.#rest = [];
    this.#state = 'member-end';
    try {
      this.#members.set(this.#key, JSON.parse(this.#utf8.decode(bytes)));
    } catch (error) {
      const reason = error instanceof SyntaxError ? error.message : 'it is not UTF-8';
      throw new BrokerError(
        'MALFORMED',
        `The body is not JSON: the value of ${JSON.stringify(this.#key)}, which begins at byte ${this.#restStart}, cannot be read: ${reason}.`,
        { pointer: `/${this.#key.replaceAll('~', '~0').replaceAll('/', '~1')}` },
      );
    }
  }

  #notAString(): BrokerError {
    return new BrokerError('VALIDATION', `Element ${this.paths} of "files" is not a string.`, {
      pointer: `/files/${this.paths}`,
    });
  }

  #tooLong(): BrokerError {
    return new BrokerError(
      'PATH_TOO_LONG',
      `Element ${this.paths} of "files" has more than ${this.#options.maxPathBytes} bytes.`,
      { pointer: `/files/${this.paths}` },
    );
  }

  #unexpected(byte: number, i: number, expected: string): BrokerError {
    const shown =
      byte > 0x20 && byte < 0x7f ? JSON.stringify(String.fromCharCode(byte)) : `byte 0x${byte.toString(16)}`;
    return this.#malformed(`${shown} stands where ${expected} is expected`, i);
  }

  #malformed(reason: string, i: number): BrokerError {
    return new BrokerError(
      'MALFORMED',
      `The body is not a JSON object: ${reason}, at byte ${this.#base + i}.`,
    );
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** Index of the closing quote of the string that opens at `start`, or -1 if it is not at hand yet. */
function endOfString(data: Uint8Array, start: number): number {
  for (let quote = data.indexOf(QUOTE, start + 1); quote >= 0; quote = data.indexOf(QUOTE, quote + 1)) {
    let i = quote - 1;
    while (data[i] === BACKSLASH) i--;
    if ((quote - i) % 2 === 1) return quote;
  }
  return -1;
}
