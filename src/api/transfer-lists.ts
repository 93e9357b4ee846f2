import { BrokerError } from '../model/errors.js';
import type { ApiLimits } from '../model/limits.js';
import { PathList } from '../model/path-list.js';
import { liesWithin, pathBytes, tidyPathBytes } from '../model/pathname.js';
import { type TransferFile, transferFileSchema } from '../model/transfer-request.js';
import type { FileEntry } from '../store/entry.js';
import type { FileReader } from './intake-files.js';
import { ValidationError } from './problem.js';

/** Every byte of the two paths may be written as an escape of six. */
const ESCAPED_BYTES = 6;
const ENVELOPE_BYTES = 1024;

/** `application/x-ndjson` of a transfer: an object with `source`, `destination` and perhaps `size` per line. */
export class TransferListReader implements FileReader<FileEntry> {
  readonly #limits: ApiLimits;
  readonly #visit: ((file: FileEntry, where: string) => void) | undefined;
  readonly #lines: PathList;
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true });

  /** What `visit` throws refuses the file. */
  constructor(limits: ApiLimits, visit?: (file: FileEntry, where: string) => void) {
    this.#limits = limits;
    this.#visit = visit;
    this.#lines = new PathList({
      delimiter: 'newline',
      maxPathBytes: 2 * limits.pathBytes * ESCAPED_BYTES + ENVELOPE_BYTES,
      onTooLong: (line) => {
        throw new BrokerError('PATH_TOO_LONG', `Line ${line} is longer than two paths can be.`, {
          pointer: `line ${line}`,
        });
      },
    });
  }

  *push(chunk: Uint8Array): Generator<FileEntry, void, undefined> {
    for (const line of this.#lines.push(chunk)) yield* this.#read(line);
  }

  *end(): Generator<FileEntry, void, undefined> {
    for (const line of this.#lines.end()) yield* this.#read(line);
  }

  get blank(): number {
    return this.#lines.blank;
  }

  *#read(line: Uint8Array): Generator<FileEntry, void, undefined> {
    const where = `line ${this.#lines.line}`;
    let value: unknown;
    try {
      value = JSON.parse(this.#utf8.decode(line));
    } catch (error) {
      const reason = error instanceof SyntaxError ? error.message : 'it is not UTF-8';
      throw new BrokerError('MALFORMED', `Line ${this.#lines.line} is not JSON: ${reason}.`, {
        pointer: where,
      });
    }
    const parsed = transferFileSchema.safeParse(value);
    if (!parsed.success) {
      throw new ValidationError(
        parsed.error.issues.map(({ path, message }) => ({
          detail: `${path.join('.')} ${message}`.trim(),
          pointer: where,
        })),
      );
    }
    const entry = fileEntry(parsed.data, where, this.#limits);
    this.#visit?.(entry, where);
    yield entry;
  }
}

/** @throws {BrokerError} VALIDATION, PATH_TOO_LONG */
export function fileEntry(
  { source, destination, size }: TransferFile,
  where: string,
  limits: ApiLimits,
): FileEntry {
  return {
    path: absolutePath(source, where, 'source', limits),
    destination: absolutePath(destination, where, 'destination', limits),
    size: size ?? null,
  };
}

/** @throws {ValidationError} if the copies of a directory would be found by the walk through it */
export function refuseCopyIntoItself(source: Buffer, destination: Buffer, pointer: string): void {
  if (!liesWithin(tidyPathBytes(destination), tidyPathBytes(source))) return;
  throw new ValidationError([{ detail: 'destination is the source or lies within it', pointer }]);
}

/**
 * An absolute path as bytes. What lies outside the roots of the agent is for the agent to refuse: only it knows them.
 * @throws {BrokerError} VALIDATION, PATH_TOO_LONG
 */
export function absolutePath(text: string, where: string, member: string, limits: ApiLimits): Buffer {
  const pointer = where.startsWith('/') ? `${where}/${member}` : where;
  const wrong = (detail: string): ValidationError => new ValidationError([{ detail, pointer }]);
  let bytes: Buffer;
  try {
    bytes = pathBytes(text);
  } catch (error) {
    throw wrong(`${member} is no path: ${error instanceof Error ? error.message : error}`);
  }
  if (bytes.length > limits.pathBytes) {
    const sentence = `The ${member} at ${where} has ${bytes.length} bytes; ${limits.pathBytes} are allowed.`;
    throw new BrokerError('PATH_TOO_LONG', sentence, { pointer });
  }
  if (bytes.includes(0)) throw wrong(`${member} has a NUL in it, which no file name has`);
  if (!text.startsWith('/')) throw wrong(`${member} is not absolute: it begins with "/" on the node`);
  return bytes;
}
