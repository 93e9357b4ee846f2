import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { BrokerError } from '../model/errors.js';

export interface BodyLimits {
  /** Bytes after decompression. */
  maxBytes: number;
  /** Added to the refusal of a longer body: what to do instead. */
  tooLargeHint: string;
  /** A pause of the sender ends the upload. Time in which we do not read (back-pressure) does not count. */
  idleMs: number;
  totalMs: number;
}

const CHUNK_BYTES = 64 * 1024;
/** What is still taken from a sender whose request was refused, so that it can read the answer instead of a reset. */
const DISCARD_BYTES = 64 * 1024 * 1024;
const DISCARD_MS = 30_000;

/**
 * The body of a request in chunks of bytes, decompressed if it says `Content-Encoding: gzip`. Ends its own upload
 * only: whatever happens, the connection stays usable for the answer.
 *
 * @throws {BrokerError} UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE, REQUEST_TIMEOUT, MALFORMED (bad gzip; the sender left)
 */
export async function* bodyChunks(
  raw: IncomingMessage,
  limits: BodyLimits,
): AsyncGenerator<Uint8Array, void, undefined> {
  const gzip = isGzip(raw.headers['content-encoding']);
  const length = Number(raw.headers['content-length']);
  if (!gzip && length > limits.maxBytes) {
    discard(raw);
    throw tooLarge(limits);
  }
  // Never iterated itself: leaving the loop early would destroy it, and with it the connection of the answer.
  const stream = gzip ? createGunzip({ chunkSize: CHUNK_BYTES }) : new PassThrough();
  const stopClocks = startClocks(raw, limits, (error) => stream.destroy(error));
  const onGone = () => {
    if (!raw.complete && !raw.readableEnded)
      stream.destroy(new BrokerError('MALFORMED', 'The upload broke off before its end.'));
  };
  let received = 0;
  // Compressed nothing is nothing, however much of it comes.
  const onReceived = (chunk: Buffer) => {
    received += chunk.length;
    if (received > limits.maxBytes) stream.destroy(tooLarge(limits));
  };
  raw.once('close', onGone);
  raw.once('error', onGone);
  raw.on('data', onReceived);
  raw.pipe(stream);
  let bytes = 0;
  let whole = false;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > limits.maxBytes) throw tooLarge(limits);
      yield chunk;
    }
    whole = true;
  } catch (error) {
    if (error instanceof BrokerError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new BrokerError(
      'MALFORMED',
      `The body is not valid gzip after ${bytes} bytes of content: ${reason}.`,
    );
  } finally {
    stopClocks();
    raw.off('close', onGone);
    raw.off('error', onGone);
    raw.off('data', onReceived);
    raw.unpipe(stream);
    stream.destroy();
    // Also after the end: bytes behind the end of the gzip stream would keep the connection from its next request.
    if (!whole || !raw.readableEnded) discard(raw);
  }
}

function isGzip(contentEncoding: string | undefined): boolean {
  const encoding = (contentEncoding ?? 'identity').trim().toLowerCase();
  if (encoding === 'gzip' || encoding === 'x-gzip') return true;
  if (encoding === 'identity' || encoding === '') return false;
  throw new BrokerError(
    'UNSUPPORTED_MEDIA_TYPE',
    `Content-Encoding ${JSON.stringify(encoding.slice(0, 80))} is not supported: send gzip, or no encoding.`,
  );
}

function tooLarge(limits: BodyLimits): BrokerError {
  return new BrokerError(
    'BODY_TOO_LARGE',
    `The body has more than ${limits.maxBytes} bytes (after decompression). ${limits.tooLargeHint}`,
  );
}

function startClocks(raw: IncomingMessage, limits: BodyLimits, expire: (error: BrokerError) => void) {
  const idle = setTimeout(() => {
    // Paused by our own back-pressure: the sender is not the one who is slow.
    if (raw.isPaused() || raw.readableLength > 0) idle.refresh();
    else
      expire(
        new BrokerError('REQUEST_TIMEOUT', `No byte of the body came for ${limits.idleMs / 1000} seconds.`),
      );
  }, limits.idleMs);
  const total = setTimeout(() => {
    expire(
      new BrokerError('REQUEST_TIMEOUT', `The body was not complete after ${limits.totalMs / 1000} seconds.`),
    );
  }, limits.totalMs);
  idle.unref();
  total.unref();
  const onData = () => idle.refresh();
  raw.on('data', onData);
  return () => {
    clearTimeout(idle);
    clearTimeout(total);
    raw.off('data', onData);
  };
}

/** Reads on without looking, within bounds; beyond them the connection is cut. */
export function discard(raw: IncomingMessage): void {
  if (raw.destroyed) return;
  let bytes = 0;
  const timer = setTimeout(() => raw.destroy(), DISCARD_MS);
  timer.unref();
  const stop = () => clearTimeout(timer);
  raw.once('end', stop);
  raw.once('close', stop);
  raw.on('error', () => {});
  raw.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > DISCARD_BYTES) raw.destroy();
  });
  raw.resume();
}

/** A whole small JSON body, or undefined if there is none. @throws {BrokerError} as `bodyChunks`, MALFORMED */
export async function readJson(raw: IncomingMessage, limits: BodyLimits): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bodyChunks(raw, limits)) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  if (text.trim() === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BrokerError(
      'MALFORMED',
      `The body is not JSON: ${error instanceof Error ? error.message : error}.`,
    );
  }
}
