import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import type { WebhookDestination } from '../model/webhook.js';
import type { PublicAddresses } from './public-addresses.js';
import { signature } from './signature.js';

/** An answer is only its status; whoever sends more than this is not listened to. */
const LONGEST_ANSWER_BYTES = 64 * 1024;
const LONGEST_RETRY_AFTER_SECONDS = 86_400;

export interface CallOptions {
  addresses: PublicAddresses;
  timeoutMs: number;
  userAgent: string;
  /** Ends the call early. */
  signal: AbortSignal;
}

export interface CallResult {
  /** Null: there was no answer. */
  status: number | null;
  /** Why it counts as failed, for people; null: answered with 2xx. */
  error: string | null;
  /** What the answer asks for before the next call. */
  retryAfterMs: number | null;
  /** The receiver wants nothing more of this (410). */
  gone: boolean;
}

/**
 * One call of a webhook: a signed POST to a checked address of the host, never following a redirect. Never rejects.
 * @param id `webhook-id`
 */
export async function callWebhook(
  { url, keys }: WebhookDestination,
  id: string,
  body: string,
  { addresses, timeoutMs, userAgent, signal }: CallOptions,
): Promise<CallResult> {
  const timestamp = Math.floor(Date.now() / 1000);
  const deadline = AbortSignal.timeout(timeoutMs);
  const until = AbortSignal.any([deadline, signal]);
  try {
    const checked = await within(until, addresses.of(url.hostname));
    const answer = await post(url, body, {
      headers: {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'user-agent': userAgent,
        'webhook-id': id,
        'webhook-timestamp': timestamp,
        'webhook-signature': signature(id, timestamp, body, keys),
      },
      // A connection of its own, to what was checked: the name is not looked up again.
      agent: false,
      lookup: lookupOf(checked),
      signal: until,
    });
    return resultOf(answer);
  } catch (error) {
    return {
      status: null,
      error: sentenceOf(error, deadline.aborted, timeoutMs),
      retryAfterMs: null,
      gone: false,
    };
  }
}

function post(url: URL, body: string, options: RequestOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(
      url,
      { ...options, method: 'POST' },
      (answer) => {
        let bytes = 0;
        answer.on('data', (part: Buffer) => {
          bytes += part.length;
          if (bytes > LONGEST_ANSWER_BYTES) answer.destroy();
        });
        answer.on('error', () => {});
        // Also one that breaks off or goes on too long has said its status.
        answer.on('close', () => {
          request.destroy();
          resolve(answer);
        });
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

function lookupOf(addresses: { address: string; family: number }[]): LookupFunction {
  return (_name, { all }, callback) => {
    const [first] = addresses;
    if (all) callback(null, addresses);
    else callback(null, first?.address ?? '', first?.family);
  };
}

function resultOf({ statusCode: status = 0, headers }: IncomingMessage): CallResult {
  if (status >= 200 && status < 300) return { status, error: null, retryAfterMs: null, gone: false };
  const why =
    status >= 300 && status < 400
      ? 'Redirects are not followed; configure the new address.'
      : status === 410
        ? 'The receiver wants no more of it.'
        : 'Only 2xx counts as delivered.';
  return {
    status,
    error: `The answer was ${status}. ${why}`,
    retryAfterMs: retryAfterMs(headers['retry-after']),
    gone: status === 410,
  };
}

/** Seconds, or a date (RFC 9110 §10.2.3). */
function retryAfterMs(field: string | undefined): number | null {
  if (field === undefined) return null;
  const ms = /^\d{1,9}$/.test(field) ? Number(field) * 1000 : Date.parse(field) - Date.now();
  return Number.isNaN(ms) || ms <= 0 ? null : Math.min(ms, LONGEST_RETRY_AFTER_SECONDS * 1000);
}

async function within<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

function sentenceOf(error: unknown, late: boolean, timeoutMs: number): string {
  if (late) return `There was no answer within ${timeoutMs / 1000} s.`;
  if (!(error instanceof Error)) return 'The call failed.';
  // Of several addresses that were tried, the last.
  const cause = error instanceof AggregateError ? error.errors.at(-1) : error;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  return code === '' ? error.message : `No connection, or one that broke (${code}).`;
}
