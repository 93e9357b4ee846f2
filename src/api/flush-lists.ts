import { BrokerError } from '../model/errors.js';
import { type ListDelimiter, PathList } from '../model/path-list.js';
import { pathText } from '../model/pathname.js';
import type { FileReader } from './intake-files.js';
import { JsonPathError, jsonPath, textPath } from './json-path.js';

/** One of the forms in which the paths of a request arrive. */
export interface ListReader extends FileReader<Uint8Array> {
  /** Where the path that came out last stands: a JSON pointer, or `line 17`. */
  readonly where: string;
}

export interface ListWarning {
  code: string;
  message: string;
  count: number;
}

const NUL = 0x00;
const QUOTE = 0x22;
/** `{"path": …}` around a path of which every byte is written as an escape of six. */
const ESCAPED_BYTES = 6;
const ENVELOPE_BYTES = 1024;

/** `text/plain`: one path per line, or between NULs. */
export class TextListReader implements ListReader {
  readonly #list: PathList;
  readonly #delimiter: ListDelimiter;

  constructor(delimiter: ListDelimiter, maxPathBytes: number) {
    this.#delimiter = delimiter;
    this.#list = new PathList({
      delimiter,
      maxPathBytes,
      onTooLong: (line, start) => {
        const hint =
          delimiter === 'newline' && start.includes(NUL)
            ? ' It has NULs in it: a list made by "find -print0" needs ?delimiter=nul.'
            : '';
        throw pathTooLong(line, maxPathBytes, start, hint);
      },
    });
  }

  get where(): string {
    return `line ${this.#list.line}`;
  }

  push(chunk: Uint8Array): Iterable<Uint8Array> {
    return this.#list.push(chunk);
  }

  end(): Iterable<Uint8Array> {
    return this.#list.end();
  }

  warnings(): ListWarning[] {
    const { blank, carriageReturns, byteOrderMark } = this.#list;
    const warnings: ListWarning[] = [];
    const lines = this.#delimiter === 'nul' ? 'entries' : 'lines';
    if (blank > 0) {
      warnings.push({
        code: 'BLANK_LINES',
        message: `Empty ${lines} of the list were ignored.`,
        count: blank,
      });
    }
    if (carriageReturns > 0) {
      warnings.push({
        code: 'CARRIAGE_RETURNS',
        message: 'Lines ended in CR LF; the CR was not taken as part of the path.',
        count: carriageReturns,
      });
    }
    if (byteOrderMark) {
      warnings.push({
        code: 'BYTE_ORDER_MARK',
        message: 'The list began with a byte order mark, which was not taken as part of the path.',
        count: 1,
      });
    }
    return warnings;
  }
}

/** `application/x-ndjson`: a JSON string, or an object with `path`, per line. */
export class NdjsonListReader implements ListReader {
  readonly #lines: PathList;
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true });
  #blank = 0;

  constructor(maxPathBytes: number) {
    this.#lines = new PathList({
      delimiter: 'newline',
      maxPathBytes: maxPathBytes * ESCAPED_BYTES + ENVELOPE_BYTES,
      onTooLong: (line, start) => {
        throw pathTooLong(line, maxPathBytes, start, '');
      },
    });
  }

  get where(): string {
    return `line ${this.#lines.line}`;
  }

  *push(chunk: Uint8Array): Generator<Uint8Array, void, undefined> {
    for (const line of this.#lines.push(chunk)) yield* this.#read(line);
  }

  *end(): Generator<Uint8Array, void, undefined> {
    for (const line of this.#lines.end()) yield* this.#read(line);
  }

  warnings(): ListWarning[] {
    const count = this.#lines.blank + this.#blank;
    return count === 0
      ? []
      : [{ code: 'BLANK_LINES', message: 'Empty lines of the list were ignored.', count }];
  }

  *#read(line: Uint8Array): Generator<Uint8Array, void, undefined> {
    try {
      const last = line.length - 1;
      const plain = last > 0 && line[0] === QUOTE && line[last] === QUOTE && line.indexOf(QUOTE, 1) === last;
      if (plain) {
        yield jsonPath(line.subarray(1, last));
        return;
      }
      const text = this.#decode(line);
      if (text.trim() === '') {
        this.#blank++;
        return;
      }
      yield textPath(pathOf(parse(text)));
    } catch (error) {
      if (!(error instanceof JsonPathError)) throw error;
      throw new BrokerError('MALFORMED', `Line ${this.#lines.line} ${error.message}.`, {
        pointer: this.where,
      });
    }
  }

  #decode(line: Uint8Array): string {
    try {
      return this.#utf8.decode(line);
    } catch {
      throw new JsonPathError(
        'is not UTF-8; write a byte of another encoding as an escape "\\udc80" to "\\udcff"',
      );
    }
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new JsonPathError(`is not JSON: ${error instanceof Error ? error.message : error}`);
  }
}

function pathOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'object' && value !== null && 'path' in value && typeof value.path === 'string') {
    const other = Object.keys(value).find((key) => key !== 'path');
    if (other === undefined) return value.path;
    throw new JsonPathError(`has a member ${JSON.stringify(other.slice(0, 40))}; only "path" is known`);
  }
  throw new JsonPathError('is neither a JSON string nor an object with a "path"');
}

function pathTooLong(line: number, maxPathBytes: number, start: Uint8Array, hint: string): BrokerError {
  return new BrokerError(
    'PATH_TOO_LONG',
    `The path in line ${line} has more than ${maxPathBytes} bytes; it begins with ${JSON.stringify(pathText(start))}.${hint}`,
    { pointer: `line ${line}` },
  );
}
