import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { type AgentOptions, Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { createSecureContext } from 'node:tls';
import { z } from 'zod';
import { printable } from '../model/text.js';
import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';

/**
 * The HTTP side of every client command. It is node:http and not fetch because the service may refuse a long list
 * while it is still being sent, and the refusal, not the broken upload, is what the user must see.
 */

/** A page of a listing is by far the largest answer. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const REQUEST_TIMEOUT_MS = 30_000;

/** No answer: nobody there, or the connection broke or stayed silent. */
export class ServiceUnreachable extends CliError {
  /** The request may have reached the service. */
  readonly arrived: boolean;

  /** @param arrived the request may have reached the service; what became of it is not known */
  constructor(url: string, what: string, arrived: boolean, cause: unknown) {
    const advice = arrived
      ? 'It may have taken the request all the same: see "writeback jobs" before you try again.'
      : 'Is it running? Start one with "writeback serve", or say where it is with --url or WRITEBACK_URL.';
    super(`No answer from the service at ${url}: ${what}. ${advice}`, EXIT.unavailable, { cause });
    this.name = 'ServiceUnreachable';
    this.arrived = arrived;
  }
}

/** The service answered with an error (problem+json, RFC 9457, or whatever a proxy in between says). */
export class ServiceProblem extends CliError {
  readonly status: number;
  /** One of API_ERROR_CODES, or null if it was not the service that answered. */
  readonly code: string | null;
  readonly retryAfterMs: number | null;

  constructor(status: number, code: string | null, sentence: string, retryAfterMs: number | null) {
    super(sentence, isPassing(status) ? EXIT.unavailable : EXIT.error);
    this.name = 'ServiceProblem';
    this.status = status;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Statuses of a service that is busy, restarting or behind a proxy that cannot reach it: the same may work later. */
function isPassing(status: number): boolean {
  return status === 429 || status === 502 || status === 503 || status === 504;
}

/** True for what a client that has the time tries again. */
export function isTransient(error: unknown): error is ServiceUnreachable | ServiceProblem {
  return error instanceof ServiceUnreachable || (error instanceof ServiceProblem && isPassing(error.status));
}

export interface Answer {
  status: number;
  etag: string | null;
  /** The decoded JSON, or null if there was no body. */
  body: unknown;
}

/** A body that is read while it is sent. */
export interface Content {
  type: string;
  bytes: number;
  /** Begins anew at each call. */
  chunks(): AsyncIterable<Uint8Array>;
}

export interface RequestOptions {
  headers?: Record<string, string>;
  json?: unknown;
  content?: Content;
  /** No byte taken of the body and none given of the answer for this long ends the request. */
  timeoutMs?: number;
}

/** Who we say we are, and whom we believe to be the service. */
export interface ServiceCredentials {
  token: string | null;
  /** PEM, instead of the authorities that Node knows. */
  authorities: string | null;
  /** Of our own, in PEM. */
  certificate: { cert: string; key: string } | null;
}

const NO_CREDENTIALS: ServiceCredentials = { token: null, authorities: null, certificate: null };

export class ServiceClient {
  /** Without user and password: for messages. */
  readonly url: string;
  readonly #base: URL;
  readonly #signal: AbortSignal;
  readonly #userAgent: string;
  readonly #authorization: Record<string, string>;
  readonly #agent: HttpAgent | HttpsAgent;

  /** @throws {CliError} usage, if it is no http or https URL */
  constructor(
    url: string,
    version: string,
    signal: AbortSignal,
    { token, authorities, certificate }: ServiceCredentials = NO_CREDENTIALS,
  ) {
    const base = URL.canParse(url) ? new URL(url) : null;
    if (!base || !/^https?:$/.test(base.protocol)) {
      throw new CliError(`"${url}" is not a URL of the service, such as http://127.0.0.1:8080.`, EXIT.usage);
    }
    this.#base = base;
    this.url = `${base.protocol}//${base.host}${base.pathname.replace(/\/$/, '')}`;
    this.#signal = signal;
    this.#userAgent = `writeback-cli/${version}`;
    this.#authorization = token === null ? {} : { authorization: `Bearer ${token}` };
    const agent = { keepAlive: true, maxSockets: 16 };
    const tls = { ...(authorities !== null && { ca: authorities }), ...certificate };
    this.#agent = base.protocol === 'https:' ? httpsAgent({ ...agent, ...tls }) : new HttpAgent(agent);
  }

  /**
   * @param path below the base URL, with its query
   * @throws {ServiceUnreachable} {ServiceProblem}
   */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    const content = options.content ?? (options.json === undefined ? null : jsonContent(options.json));
    const headers = { ...options.headers };
    if (content) {
      headers['content-type'] = content.type;
      headers['content-length'] = String(content.bytes);
    }
    const timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS;
    const request = this.#open(method, path, headers);
    const timer = setTimeout(
      () => request.destroy(new Error(`nothing came within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    try {
      const answer = this.#answerTo(request);
      // It is awaited below; a refusal while the body is being sent must not count as unhandled until then.
      answer.catch(() => {});
      if (content) await send(request, content, answer, () => timer.refresh());
      else request.end();
      return await answer;
    } catch (error) {
      // The service may close an idle connection in the very moment we use it again.
      if (method === 'GET' && request.reusedSocket && error instanceof ServiceUnreachable) {
        return this.request(method, path, options);
      }
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #open(method: string, path: string, headers: Record<string, string>): ClientRequest {
    const url = new URL(this.#base);
    const [pathname, query] = splitQuery(path);
    url.pathname = url.pathname.replace(/\/$/, '') + pathname;
    url.search = query;
    const open = url.protocol === 'https:' ? httpsRequest : httpRequest;
    return open(url, {
      method,
      agent: this.#agent,
      signal: this.#signal,
      headers: {
        accept: 'application/json',
        'user-agent': this.#userAgent,
        ...this.#authorization,
        ...headers,
      },
    });
  }

  async #answerTo(request: ClientRequest): Promise<Answer> {
    let answer: Answer;
    let retryAfterMs: number | null;
    try {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        request.once('response', resolve);
        request.on('error', reject);
      });
      const text = await textOf(response);
      retryAfterMs = retryAfter(response.headers['retry-after']);
      answer = {
        status: response.statusCode ?? 0,
        etag: response.headers.etag ?? null,
        body: jsonOf(text, response.headers['content-type'] ?? ''),
      };
    } catch (error) {
      if (this.#signal.aborted) throw this.#signal.reason;
      const arrived = request.method !== 'GET' && !NEVER_ARRIVED.has(errorCode(error));
      throw new ServiceUnreachable(this.url, networkText(error), arrived, error);
    }
    if (answer.status >= 300 && answer.status !== 304) {
      // What is still being sent, nobody reads.
      if (!request.writableFinished) request.destroy();
      throw problemOf(this.url, answer, retryAfterMs);
    }
    return answer;
  }
}

function jsonContent(value: unknown): Content {
  const bytes = Buffer.from(JSON.stringify(value));
  return {
    type: 'application/json',
    bytes: bytes.length,
    async *chunks() {
      yield bytes;
    },
  };
}

/** Sends the body, no faster than it is taken. Ends early, without an error, once there is an answer. */
async function send(
  request: ClientRequest,
  content: Content,
  answer: Promise<Answer>,
  onTaken: () => void,
): Promise<void> {
  let answered = false;
  const end = answer.then(
    () => {
      answered = true;
    },
    () => {
      answered = true;
    },
  );
  try {
    for await (const chunk of content.chunks()) {
      if (answered) return;
      if (!request.write(chunk)) {
        await Promise.race([new Promise((resolve) => request.once('drain', resolve)), end]);
      }
      onTaken();
    }
    request.end();
  } catch (error) {
    request.destroy();
    throw error;
  }
}

/** @throws {CliError} if the answer has not the shape that this version of the client knows */
export function parseBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new CliError(
    `The service's answer is not understood (${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}). Are client and service of different versions?`,
  );
}

const problemSchema = z.object({
  title: z.string().optional(),
  detail: z.string().optional(),
  code: z.string().optional(),
  pointer: z.string().optional(),
  requestId: z.string().optional(),
  errors: z.array(z.object({ pointer: z.string().optional(), detail: z.string().optional() })).optional(),
});

function problemOf(url: string, answer: Answer, retryAfterMs: number | null): ServiceProblem {
  const parsed = problemSchema.safeParse(answer.body);
  if (!parsed.success) {
    // Something else listens there, or a proxy answers in place of the service.
    const sentence = `${url} answered with status ${answer.status} and not as the service does. Check --url or WRITEBACK_URL.`;
    return new ServiceProblem(answer.status, null, sentence, retryAfterMs);
  }
  const problem = parsed.data;
  const parts = [
    sentence(problem.detail ?? problem.title ?? `The service answered with status ${answer.status}`),
  ];
  const details = problem.errors ?? [];
  for (const { pointer, detail } of details.slice(0, 5)) {
    if (detail && !parts[0]?.includes(detail))
      parts.push(sentence(pointer ? `${pointer}: ${detail}` : detail));
  }
  if (retryAfterMs !== null) parts.push(`Try again in ${Math.ceil(retryAfterMs / 1000)} s.`);
  const tags = [problem.code, problem.pointer ? `at ${problem.pointer}` : '', requestTag(problem.requestId)];
  const tag = tags.filter(Boolean).join(', ');
  return new ServiceProblem(
    answer.status,
    problem.code ?? null,
    printable(parts.join(' ') + (tag === '' ? '' : ` (${tag})`)),
    retryAfterMs,
  );
}

function requestTag(requestId: string | undefined): string {
  return requestId === undefined ? '' : `request ${requestId}`;
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

async function textOf(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function jsonOf(text: string, contentType: string): unknown {
  if (text === '' || !/\bjson\b/.test(contentType)) return text === '' ? null : text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function retryAfter(header: string | undefined): number | null {
  if (header === undefined) return null;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}

function splitQuery(path: string): [string, string] {
  const at = path.indexOf('?');
  return at < 0 ? [path, ''] : [path.slice(0, at), path.slice(at)];
}

const NETWORK_TEXT: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'it closed the connection',
  EPIPE: 'it closed the connection',
  ENOTFOUND: 'the name does not resolve',
  EAI_AGAIN: 'the name does not resolve at the moment',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the network',
  ETIMEDOUT: 'the connection timed out',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'it wants a certificate of yours (--cert-file and --key-file)',
  // What TLS 1.2 says for the same.
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: 'TLS was refused; it may want a certificate of yours (--cert-file)',
  ...Object.fromEntries(
    [
      'DEPTH_ZERO_SELF_SIGNED_CERT',
      'SELF_SIGNED_CERT_IN_CHAIN',
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    ].map((code) => [code, 'no authority that is known here has signed its certificate (--ca-file)']),
  ),
};

const NEVER_ARRIVED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);

/** @throws {CliError} usage, if the files of `tls` cannot be used */
function httpsAgent(options: AgentOptions): HttpsAgent {
  try {
    createSecureContext(options);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(
      `--ca-file, --cert-file and --key-file cannot be used together for TLS (${why}).`,
      EXIT.usage,
      { cause: error },
    );
  }
  return new HttpsAgent(options);
}

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function networkText(error: unknown): string {
  const code = errorCode(error);
  const known = NETWORK_TEXT[code];
  if (known) return known;
  return error instanceof Error && error.message !== '' ? error.message : code || 'the connection failed';
}
