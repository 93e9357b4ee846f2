import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { CopyError, copyErrorOf } from './copy-error.js';
import { loadLibc } from './libc.js';
import type { Throttle } from './throttle.js';

/**
 * How much may be written before an fsync begins. Without limits fsync runs beside the writing, in large steps, so
 * that the disk always has work; with a limit small steps keep the load even and the progress true.
 */
const SYNC_BYTES = 32 * 1024 * 1024;
const SYNC_INTERVAL_MS = 500;
const SYNC_INTERVAL_LIMITED_MS = 100;
/** Written but not yet durable at most, or a fast source would fill the page cache and stall everything else. */
const UNSYNCED_BYTES = 4 * SYNC_BYTES;

export interface PumpRange {
  /** First byte, and the one after the last. Numbers are exact up to 2^53. */
  from: number;
  to: number;
  /** CRC-32 of the source before `from`; null: none is wanted. */
  crc: number | null;
  /** Called when all bytes are written, before the last fsync: what it does to the file is durable with them. */
  seal: () => Promise<void>;
}

export interface Pumped {
  /** All bytes before it are written and fsync'd. Less than `to` only if the signal was aborted. */
  durable: number;
  /** CRC-32 of the source up to `durable`. */
  crc: number | null;
}

/**
 * Copies a range from one open file to the same place of another, in bursts. Copying, fsync and (where the bytes
 * are looked at) reading the next buffer overlap. When `signal` is aborted the burst under way is finished and made
 * durable.
 * @param onDurable hears of every fsync: all bytes before this position are durable
 * @throws {CopyError} SOURCE_SHORT if the source ends before `to`, and what POSIX says
 */
export async function pump(
  source: FileHandle,
  destination: FileHandle,
  range: PumpRange,
  bufferBytes: number,
  throttle: Throttle,
  signal: AbortSignal,
  onDurable: (position: number) => void,
): Promise<Pumped> {
  const syncer = new Syncer(destination, range.from, onDurable);
  const job: Job = { source, destination, to: range.to, bufferBytes, throttle, signal, syncer };
  try {
    const position = range.crc === null ? await moveInKernel(job, range.from) : range.from;
    const pumped = await moveThroughMemory(job, position, range.crc);
    const isWhole = pumped.durable === range.to;
    if (isWhole) await range.seal();
    await syncer.finish(pumped.durable, isWhole);
    return pumped;
  } catch (error) {
    // The file is about to be closed: nothing may be under way on it.
    await syncer.idle();
    throw error;
  }
}

interface Job {
  source: FileHandle;
  destination: FileHandle;
  to: number;
  bufferBytes: number;
  throttle: Throttle;
  signal: AbortSignal;
  syncer: Syncer;
}

/** Resolves to the position that was reached: the end, or where the kernel would not go on. */
async function moveInKernel(job: Job, from: number): Promise<number> {
  const { source, destination, to, bufferBytes, throttle, signal, syncer } = job;
  const kernel = from < to ? await loadLibc() : null;
  let position = from;
  if (kernel === null || !kernel.seek(destination.fd, position)) return position;
  while (position < to) {
    const burst = await throttle.nextBurst(Math.min(bufferBytes, to - position), signal);
    if (burst === 0) break;
    const moved = await kernel.move(destination.fd, source.fd, position, burst);
    if (moved < 0) break;
    if (moved === 0) throw endsEarly(position);
    position += moved;
    await syncer.wrote(position, throttle.limited);
  }
  return position;
}

async function moveThroughMemory(job: Job, from: number, crcBefore: number | null): Promise<Pumped> {
  const { source, destination, to, bufferBytes, throttle, signal, syncer } = job;
  let position = from;
  let crc = crcBefore;
  if (position >= to || signal.aborted) return { durable: position, crc };
  let [buffer, spare] = buffers(bufferBytes, to - position);
  let ahead = readAhead(source, buffer, position, to);
  try {
    while (position < to && !signal.aborted) {
      const length = await ahead;
      if (length === 0) throw endsEarly(position);
      const filled = buffer;
      [buffer, spare] = [spare, buffer];
      ahead = readAhead(source, buffer, position + length, to);
      for (let start = 0; start < length; ) {
        const burst = await throttle.nextBurst(length - start, signal);
        if (burst === 0) break;
        await writeAt(destination, filled.subarray(start, start + burst), position);
        if (crc !== null) crc = crc32(filled.subarray(start, start + burst), crc);
        start += burst;
        position += burst;
        await syncer.wrote(position, throttle.limited);
      }
    }
  } finally {
    await ahead.catch(() => undefined);
  }
  return { durable: position, crc };
}

function endsEarly(position: number): CopyError {
  return new CopyError('SOURCE_SHORT', `the source ends at byte ${position}`);
}

/** CRC-32 of the first `length` bytes of an open file. Resolves to null if `signal` was aborted. */
export async function checksum(
  file: FileHandle,
  length: number,
  bufferBytes: number,
  throttle: Throttle,
  signal: AbortSignal,
): Promise<number | null> {
  return checksumOf(file, length, bufferBytes, (_bytes) => throttle.cpuReady(signal), signal);
}

/**
 * As `checksum`, of what storage has: the file is made durable first, and read from there rather than from the page
 * cache, as far as the kernel does that. It is read over the same way as it was written, so all limits hold.
 */
export async function storedChecksum(
  file: FileHandle,
  length: number,
  bufferBytes: number,
  throttle: Throttle,
  signal: AbortSignal,
): Promise<number | null> {
  await file.sync();
  await (await loadLibc())?.dropCache(file.fd);
  const ready = async (bytes: number): Promise<void> => {
    for (let left = bytes; left > 0 && !signal.aborted; ) left -= await throttle.nextBurst(left, signal);
  };
  return checksumOf(file, length, bufferBytes, ready, signal);
}

async function checksumOf(
  file: FileHandle,
  length: number,
  bufferBytes: number,
  ready: (bytes: number) => Promise<void>,
  signal: AbortSignal,
): Promise<number | null> {
  let crc = 0;
  let [buffer, spare] = buffers(bufferBytes, length);
  let ahead = readAhead(file, buffer, 0, length);
  for (let position = 0; position < length; ) {
    const count = await ahead;
    if (count === 0) throw endsEarly(position);
    const filled = buffer;
    [buffer, spare] = [spare, buffer];
    position += count;
    ahead = readAhead(file, buffer, position, length);
    crc = crc32(filled.subarray(0, count), crc);
    await ready(count);
    if (signal.aborted) {
      await ahead;
      return null;
    }
  }
  return crc;
}

/** Keeps at most one fsync under way and knows what it made durable: what was written before it began. */
class Syncer {
  readonly #file: FileHandle;
  readonly #onDurable: (position: number) => void;
  #durable: number;
  #begunAtMs = performance.now();
  #running: Promise<void> | null = null;
  #failure: unknown = null;

  constructor(file: FileHandle, position: number, onDurable: (position: number) => void) {
    this.#file = file;
    this.#durable = position;
    this.#onDurable = onDurable;
  }

  async wrote(position: number, limited: boolean): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const intervalMs = limited ? SYNC_INTERVAL_LIMITED_MS : SYNC_INTERVAL_MS;
    const unsynced = position - this.#durable;
    const due = unsynced >= SYNC_BYTES || performance.now() - this.#begunAtMs >= intervalMs;
    if (this.#running === null && due) this.#begin(position);
    else if (unsynced >= UNSYNCED_BYTES) await this.#running;
  }

  /** @param always also if every byte is durable already */
  async finish(position: number, always: boolean): Promise<void> {
    await this.#running;
    if (this.#failure === null && (always || this.#durable < position)) {
      this.#begin(position);
      await this.#running;
    }
    if (this.#failure !== null) throw this.#failure;
  }

  async idle(): Promise<void> {
    await this.#running;
  }

  #begin(position: number): void {
    this.#begunAtMs = performance.now();
    this.#running = this.#file
      .sync()
      .then(() => {
        this.#durable = position;
        this.#onDurable(position);
      })
      // A failed fsync is told only once by the kernel: nothing after it counts as durable.
      .catch((error: unknown) => {
        this.#failure = copyErrorOf(error, 'fsync of the destination failed');
      })
      .finally(() => {
        this.#running = null;
      });
  }
}

function buffers(bufferBytes: number, length: number): [Buffer, Buffer] {
  const size = Math.max(1, Math.min(bufferBytes, length));
  // A small file is read at once: the second buffer is never used.
  const first = Buffer.allocUnsafeSlow(size);
  return [first, length > size ? Buffer.allocUnsafeSlow(size) : first];
}

/** As `readAt`. It runs beside other work: what went wrong is told to whoever awaits it, and not before. */
function readAhead(file: FileHandle, buffer: Buffer, position: number, end: number): Promise<number> {
  const reading = readAt(file, buffer, position, end);
  reading.catch(() => undefined);
  return reading;
}

/** Fills the buffer, or as much of it as lies before `end` and the end of the file. Resolves to the bytes read. */
async function readAt(file: FileHandle, buffer: Buffer, position: number, end: number): Promise<number> {
  const wanted = Math.min(buffer.length, end - position);
  let got = 0;
  while (got < wanted) {
    const at = position + got;
    const { bytesRead } = await file.read(buffer, got, wanted - got, at).catch((error: unknown) => {
      throw copyErrorOf(error, `reading at byte ${at} failed`);
    });
    if (bytesRead === 0) break;
    got += bytesRead;
  }
  return got;
}

/** Writes all of it, or rejects. */
export async function writeAt(file: FileHandle, data: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < data.length) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done);
    if (bytesWritten === 0) throw new CopyError('EIO', 'the destination takes no more bytes');
    done += bytesWritten;
  }
}
