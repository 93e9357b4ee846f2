import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { FileError } from '../model/errors.js';
import { EVIDENCE, type Evidence, FILE_OUTCOMES, type FileOutcome } from '../model/words.js';
import { ByteReader, ByteWriter } from './bytes.js';
import { CHUNK_FILES } from './chunk-codec.js';

/** What is kept of one file beyond its path and state byte. */
export interface FileDetail {
  /** Position in its chunk. */
  offset: number;
  /** The state byte this belongs to: where the file's byte differs, the detail lost a race and is not shown. */
  stateByte: number;
  outcome: FileOutcome | null;
  evidence: Evidence | null;
  attempts: number;
  /** Bytes. */
  size: number | null;
  mtimeMs: number | null;
  durationMs: number | null;
  firstError: FileError | null;
  lastError: FileError | null;
}

const FORMAT = 1;
const MAX_INFLATED_BYTES = 64 * 1024 * 1024;
/** Stands for the file's own path in a message, so that 512 times "… /the/path …" is one message. No path has NUL. */
const PATH_MARK = '\0';

/**
 * Column by column, because like numbers deflate well beside each other. Milliseconds are rounded to whole ones.
 * @param pathOf the path of an offset, as text
 */
export function encodeDetails(details: readonly FileDetail[], pathOf: (offset: number) => string): Buffer {
  const writer = new ByteWriter();
  const errors: string[] = [];
  const numbers = new Map<string, number>();
  const errorNumber = (error: FileError | null, offset: number): number => {
    if (!error) return 0;
    const key = JSON.stringify([
      error.code,
      error.nfsStatus,
      error.phase,
      markPath(error.message, pathOf(offset)),
    ]);
    let number = numbers.get(key);
    if (number === undefined) {
      number = errors.push(key);
      numbers.set(key, number);
    }
    return number;
  };
  const firstErrors = details.map((detail) => errorNumber(detail.firstError, detail.offset));
  const lastErrors = details.map((detail) => errorNumber(detail.lastError, detail.offset));

  writer.byte(FORMAT);
  writer.varint(details.length);
  writer.string(Buffer.from(`[${errors.join(',')}]`));
  let previous = 0;
  for (const { offset } of details) {
    writer.signed(offset - previous);
    previous = offset;
  }
  for (const { stateByte } of details) writer.byte(stateByte);
  for (const { outcome, evidence } of details) {
    writer.byte((outcome ? FILE_OUTCOMES.indexOf(outcome) + 1 : 0) * 16 + wordNumber(evidence));
  }
  for (const { attempts } of details) writer.varint(attempts);
  for (const number of firstErrors) writer.varint(number);
  for (const number of lastErrors) writer.varint(number);
  for (const { size } of details) writer.varint(size === null ? 0 : size + 1);
  for (const { durationMs } of details) writer.varint(durationMs === null ? 0 : Math.round(durationMs) + 1);
  let previousMtime = 0;
  for (const { mtimeMs } of details) {
    writer.byte(mtimeMs === null ? 0 : 1);
    if (mtimeMs === null) continue;
    const mtime = Math.round(mtimeMs);
    writer.signed(mtime - previousMtime);
    previousMtime = mtime;
  }
  return deflateRawSync(writer.view(), { level: 6, memLevel: 9 });
}

/** @throws {Error} for bytes that encodeDetails did not write */
export function decodeDetails(blob: Buffer, pathOf: (offset: number) => string): FileDetail[] {
  const reader = new ByteReader(inflateRawSync(blob, { maxOutputLength: MAX_INFLATED_BYTES }));
  const format = reader.byte();
  if (format !== FORMAT) throw new RangeError(`details of format ${format} are not known`);
  const count = reader.varint();
  if (count > CHUNK_FILES) throw new RangeError(`a chunk cannot have ${count} details`);
  const errors = JSON.parse(reader.string().toString()) as StoredError[];
  const errorOf = (number: number, offset: number): FileError | null => {
    const error = errors[number - 1];
    if (!error) return null;
    const [code, nfsStatus, phase, message] = error;
    return { code, nfsStatus, phase, message: message.replaceAll(PATH_MARK, () => pathOf(offset)) };
  };
  const column = <T>(read: () => T): T[] => Array.from({ length: count }, read);

  let previous = 0;
  const offsets = column(() => {
    previous += reader.signed();
    return previous;
  });
  const stateBytes = column(() => reader.byte());
  const words = column(() => reader.byte());
  const attempts = column(() => reader.varint());
  const firstErrors = column(() => reader.varint());
  const lastErrors = column(() => reader.varint());
  const sizes = column(() => reader.varint());
  const durations = column(() => reader.varint());
  let mtime = 0;
  const mtimes = column(() => {
    if (reader.byte() === 0) return null;
    mtime += reader.signed();
    return mtime;
  });
  return offsets.map((offset, i) => {
    const word = words[i] as number;
    const size = sizes[i] as number;
    const duration = durations[i] as number;
    return {
      offset,
      stateByte: stateBytes[i] as number,
      outcome: FILE_OUTCOMES[(word >> 4) - 1] ?? null,
      evidence: EVIDENCE[(word & 15) - 1] ?? null,
      attempts: attempts[i] as number,
      size: size === 0 ? null : size - 1,
      mtimeMs: mtimes[i] as number | null,
      durationMs: duration === 0 ? null : duration - 1,
      firstError: errorOf(firstErrors[i] as number, offset),
      lastError: errorOf(lastErrors[i] as number, offset),
    };
  });
}

type StoredError = [FileError['code'], number | null, FileError['phase'], string];

function wordNumber(evidence: Evidence | null): number {
  return evidence ? EVIDENCE.indexOf(evidence) + 1 : 0;
}

/** Short paths would match by chance inside words; there is nothing to gain with them either. */
function markPath(message: string, path: string): string {
  const clean = message.replaceAll(PATH_MARK, '�');
  return path.length > 3 ? clean.replaceAll(path, PATH_MARK) : clean;
}
