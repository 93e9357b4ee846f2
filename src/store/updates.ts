import type { FileErrorCode } from '../model/errors.js';
import type { FileResult } from '../model/file-result.js';
import { CHUNK_FILES } from './chunk-codec.js';
import type { FileDetail } from './detail-codec.js';
import { stateByte } from './file-states.js';

/** The form in which scripts/job-prelude.ts takes results: `struct` format `>HBBHd`. */
const BYTES_PER_UPDATE = 14;
const SAMPLES_PER_CODE = 5;
/** Some 70,000 years: what the packed form can hold with a sign, twice over. */
const LAST_TIME_MS = 2 ** 51;
/** In place of the number of a code: a success whose evidence is only `accepted`. */
const UNPROVEN = 255;

export interface PackedResults {
  updates: Buffer;
  details: FileDetail[];
  /** What the newest fault was, or ''. */
  sentence: string;
  /** Names of the codes that `updates` numbers, separated by spaces. */
  codes: string;
  /** Number of the update (from 1) and sample as JSON, alternating. */
  samples: (string | number)[];
}

/** @throws {RangeError} for a result that is not of this chunk */
export function packResults(chunk: number, results: readonly FileResult[]): PackedResults {
  const updates = Buffer.alloc(results.length * BYTES_PER_UPDATE);
  const codes = new Map<FileErrorCode, { number: number; samples: number }>();
  const details: FileDetail[] = [];
  const samples: (string | number)[] = [];
  let sentence = '';
  results.forEach((result, i) => {
    const offset = result.index - chunk * CHUNK_FILES;
    if (!(offset >= 0 && offset < CHUNK_FILES))
      throw new RangeError(`file ${result.index} is not in chunk ${chunk}`);
    const error = result.state === 'succeeded' ? null : result.lastError;
    let code = error ? codes.get(error.code) : undefined;
    if (error && !code) {
      code = { number: codes.size + 1, samples: 0 };
      codes.set(error.code, code);
    }
    if (error && code && code.samples < SAMPLES_PER_CODE) {
      code.samples += 1;
      samples.push(i + 1, JSON.stringify({ path: result.path, message: error.message }));
    }
    if (error && result.state !== 'canceled') sentence = error.message;
    const byte = stateByte(result.state, result.outcome);
    const at = i * BYTES_PER_UPDATE;
    updates.writeUInt16BE(offset, at);
    updates.writeUInt8(byte, at + 2);
    updates.writeUInt8(code?.number ?? (result.evidence === 'accepted' ? UNPROVEN : 0), at + 3);
    updates.writeUInt16BE(Math.min(faultsOf(result), 0xffff), at + 4);
    const size = countable(result.size);
    updates.writeDoubleBE(size ?? -1, at + 6);
    details.push({
      offset,
      stateByte: byte,
      outcome: result.outcome,
      evidence: result.evidence,
      attempts: countable(result.attempts) ?? 0,
      size,
      mtimeMs: result.mtimeMs !== null && Math.abs(result.mtimeMs) <= LAST_TIME_MS ? result.mtimeMs : null,
      durationMs: countable(Math.round(result.durationMs)),
      firstError: result.firstError,
      lastError: result.lastError,
    });
  });
  return { updates, details, sentence, codes: [...codes.keys()].join(' '), samples };
}

/** Sizes and times come from a server that may send any 64 bits; what cannot be counted is not known. */
function countable(value: number | null): number | null {
  return value !== null && Number.isSafeInteger(value) && value >= 0 && value < Number.MAX_SAFE_INTEGER
    ? value
    : null;
}

/** Attempts that failed. A file that failed before any flush was begun is one fault; a canceled one is none. */
function faultsOf(result: FileResult): number {
  if (result.state === 'canceled' || result.state === 'skipped') return 0;
  if (result.state === 'succeeded') return Math.max(result.attempts - 1, result.firstError ? 1 : 0);
  return Math.max(result.attempts, 1);
}

/** @returns the path of the file at a position of the chunk */
export function pathsOf(chunk: number, results: readonly FileResult[]): (offset: number) => string {
  const paths = new Map(results.map(({ index, path }) => [index - chunk * CHUNK_FILES, path]));
  return (offset) => paths.get(offset) ?? '';
}
