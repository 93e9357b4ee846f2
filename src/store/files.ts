import { BrokerError, type FileErrorCode } from '../model/errors.js';
import type { JobFile } from '../model/job.js';
import { pathText } from '../model/pathname.js';
import type { FileState } from '../model/words.js';
import { CHUNK_FILES, decodePaths } from './chunk-codec.js';
import type { Commands } from './commands.js';
import { decodeDetails, type FileDetail } from './detail-codec.js';
import { decodeEntry } from './entry.js';
import { ALREADY_CLEAN_BYTE, STATE_BYTES, stateOfByte } from './file-states.js';
import type { Page } from './types.js';
import { unseenErrors, WAITED_FIELDS, waitedOf } from './waiting.js';

/** State bytes read at a time. */
const SLICE_FILES = CHUNK_FILES * 64;
/** Per call of `list`, after which a cursor is returned though the page is not full. */
const MAX_STATES_SCANNED = SLICE_FILES * 64;
const MAX_CHUNKS_READ = 128;
const CHUNKS_PER_READ = 8;

/** A chunk as it is stored. */
export interface StoredChunk {
  chunk: number;
  /** As `encodeEntry` made them. */
  entries: Buffer[];
  /** The path, or the source, as text; '' for an offset without a file. */
  pathOf(offset: number): string;
  /** By position in the chunk; only where the detail belongs to the file's state. */
  details: Map<number, FileDetail>;
}

/** The files of a job as they stand now. */
export class Files {
  readonly #commands: Commands;

  constructor(commands: Commands) {
    this.#commands = commands;
  }

  async states(id: string, from: number, count: number): Promise<Buffer> {
    return this.#commands.redis.getrangeBuffer(this.#commands.keys.states(id), from, from + count - 1);
  }

  async entries(id: string, chunk: number): Promise<Buffer[]> {
    const blob = await this.#commands.redis.hgetBuffer(this.#commands.keys.chunks(id), String(chunk));
    return blob ? decodePaths(blob) : [];
  }

  /** @param states the state bytes of each chunk, which decide about details that came twice */
  async read(
    id: string,
    chunks: readonly number[],
    states: (chunk: number) => Buffer,
  ): Promise<StoredChunk[]> {
    if (chunks.length === 0) return [];
    const { redis, keys } = this.#commands;
    const [blobs, heads] = await Promise.all([
      redis.hmgetBuffer(keys.chunks(id), ...chunks.map(String)),
      // Most have their details packed, or in a single batch.
      redis.hmgetBuffer(keys.details(id), ...chunks.flatMap((c) => [`${c}`, `${c}:n`, `${c}.1`])),
    ]);
    return Promise.all(
      chunks.map(async (chunk, i) => {
        const blob = blobs[i];
        const entries = blob ? decodePaths(blob) : [];
        const pathOf = (offset: number): string => {
          const entry = entries[offset];
          return entry ? pathText(decodeEntry(entry).path) : '';
        };
        const [packed, count, first] = heads.slice(i * 3, i * 3 + 3);
        const batches = [packed, first];
        const more = Number(count?.toString() ?? 0);
        if (more > 1) {
          const fields = Array.from({ length: more - 1 }, (_, n) => `${chunk}.${n + 2}`);
          batches.push(...(await redis.hmgetBuffer(keys.details(id), ...fields)));
        }
        const details = new Map<number, FileDetail>();
        const bytes = states(chunk);
        for (const batch of batches) {
          if (!batch) continue;
          for (const detail of decodeDetails(batch, pathOf)) {
            if (detail.stateByte === bytes[detail.offset] && !details.has(detail.offset))
              details.set(detail.offset, detail);
          }
        }
        return { chunk, entries, pathOf, details };
      }),
    );
  }

  /** Every file that has succeeded so far, in the order of submission. */
  async *succeeded(id: string): AsyncGenerator<{ index: number; entry: Buffer }, void, undefined> {
    const { redis, keys } = this.#commands;
    const wanted = wantedBytes({ states: ['succeeded'] });
    const total = await redis.strlen(keys.states(id));
    for (let from = 0; from < total; from += SLICE_FILES) {
      const states = await this.states(id, from, SLICE_FILES);
      for (const chunk of chunksWith(states, from, from, wanted)) {
        const first = chunk * CHUNK_FILES;
        for (const [offset, entry] of (await this.entries(id, chunk)).entries()) {
          if (wanted[states[first + offset - from] as number] === 1) yield { index: first + offset, entry };
        }
      }
    }
  }

  async list(
    id: string,
    filter: { states?: FileState[]; code?: FileErrorCode },
    cursor: string | null,
    limit: number,
  ): Promise<Page<JobFile>> {
    const start = cursor === null ? 0 : indexOfCursor(cursor);
    const wanted = wantedBytes(filter);
    const { redis, keys } = this.#commands;
    const [total, waited] = await Promise.all([
      redis.strlen(keys.states(id)),
      redis.hmget(keys.job(id), ...WAITED_FIELDS),
    ]);
    const items: JobFile[] = [];
    const perRead = Math.min(CHUNKS_PER_READ, 1 + Math.ceil(limit / CHUNK_FILES));
    let chunksRead = 0;
    let at = start;
    while (at < total) {
      if (at - start >= MAX_STATES_SCANNED) return { items, nextCursor: cursorOfIndex(at) };
      const sliceStart = at - (at % CHUNK_FILES);
      const states = await this.states(id, sliceStart, SLICE_FILES);
      const bytesOf = (chunk: number): Buffer => {
        const offset = chunk * CHUNK_FILES - sliceStart;
        return states.subarray(offset, offset + CHUNK_FILES);
      };
      const chunks = chunksWith(states, sliceStart, at, wanted);
      for (let i = 0; i < chunks.length; i += perRead) {
        for (const stored of await this.read(id, chunks.slice(i, i + perRead), bytesOf)) {
          const bytes = bytesOf(stored.chunk);
          const first = stored.chunk * CHUNK_FILES;
          for (let offset = Math.max(0, at - first); offset < bytes.length; offset++) {
            if (wanted[bytes[offset] as number] === 0) continue;
            const file = fileOf(stored, offset, bytes[offset] as number, waited);
            if (!file || (filter.code && file.lastError?.code !== filter.code)) continue;
            if (items.length === limit) return { items, nextCursor: cursorOfIndex(first + offset) };
            items.push(file);
          }
          chunksRead += 1;
          if (chunksRead >= MAX_CHUNKS_READ) {
            const next = first + CHUNK_FILES;
            return { items, nextCursor: next < total ? cursorOfIndex(next) : null };
          }
        }
      }
      at = sliceStart + SLICE_FILES;
    }
    return { items, nextCursor: null };
  }
}

/** Table by state byte: is it asked for? */
function wantedBytes(filter: { states?: FileState[]; code?: FileErrorCode }): Uint8Array {
  const wanted = new Uint8Array(256);
  const states: readonly FileState[] = filter.states ?? (Object.keys(STATE_BYTES) as FileState[]);
  for (const state of states) {
    wanted[STATE_BYTES[state].charCodeAt(0)] = 1;
    if (state === 'succeeded') wanted[ALREADY_CLEAN_BYTE.charCodeAt(0)] = 1;
  }
  return wanted;
}

function chunksWith(states: Buffer, sliceStart: number, from: number, wanted: Uint8Array): number[] {
  const chunks: number[] = [];
  for (let i = from - sliceStart; i < states.length; i++) {
    if (wanted[states[i] as number] === 0) continue;
    const chunk = Math.floor((sliceStart + i) / CHUNK_FILES);
    chunks.push(chunk);
    i = (chunk + 1) * CHUNK_FILES - sliceStart - 1;
  }
  return chunks;
}

/** Undefined for an index that no file has. */
function fileOf(
  stored: StoredChunk,
  offset: number,
  byte: number,
  waited: WaitedValues,
): JobFile | undefined {
  const state = stateOfByte(byte);
  const entry = stored.entries[offset];
  if (!state || !entry) return undefined;
  const { path, destination, size } = decodeEntry(entry);
  const detail = stored.details.get(offset);
  // Files that ended while no worker had them have no detail record.
  const kind = destination === null ? 'flush' : 'transfer';
  const unseen = detail ? null : unseenErrors(state, kind, waitedOf(waited, kind));
  return {
    index: stored.chunk * CHUNK_FILES + offset,
    path: pathText(path),
    destination: destination && pathText(destination),
    state,
    outcome: detail?.outcome ?? (byte === ALREADY_CLEAN_BYTE.charCodeAt(0) ? 'already_clean' : null),
    evidence: detail?.evidence ?? null,
    attempts: detail?.attempts ?? 0,
    size: detail?.size ?? size,
    mtime: detail?.mtimeMs == null ? null : timeOf(detail.mtimeMs),
    durationMs: detail?.durationMs ?? null,
    firstError: detail?.firstError ?? unseen?.first ?? null,
    lastError: detail?.lastError ?? unseen?.last ?? null,
  };
}

/** Of `WAITED_FIELDS`. */
type WaitedValues = readonly (string | null)[];

/** A server may tell any 64-bit time; Date knows fewer. */
function timeOf(ms: number): string | null {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999 || date.getUTCFullYear() < 0
    ? null
    : date.toISOString();
}

function cursorOfIndex(index: number): string {
  return Buffer.from(`f${index}`).toString('base64url');
}

function indexOfCursor(cursor: string): number {
  const match = /^f(\d{1,12})$/.exec(Buffer.from(cursor, 'base64url').toString());
  if (!match) throw new BrokerError('VALIDATION', 'The cursor is not one that this service gave.');
  return Number(match[1]);
}
