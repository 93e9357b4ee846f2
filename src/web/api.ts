import type { Cache, CacheHistory, ErrorGroup, Job, JobFile } from '../model/job.js';
import type { Node } from '../model/node.js';
import type { Delivery } from '../model/webhook.js';
import type { FileState } from '../model/words.js';
import { reportOutage } from './connection.js';
import { eventReader, type ServerEvent } from './event-stream.js';
import { authorization, hasToken, type Me, signOut } from './session.js';

/** Everything the dashboard asks of the service. */

const ANSWER_MS = 30_000;
/** The service says something every 15 s. */
const SILENCE_MS = 40_000;
/** A filter that finds little may need many pages to fill one. */
const PAGES_AT_ONCE = 10;
const NOT_REACHABLE = 'The service cannot be reached.';

/** What was asked for is not to be had; the message is for the person who asked. */
export class ServiceError extends Error {}

/** The service has answered, and refuses. The message is its `detail`. */
export class Refusal extends ServiceError {
  readonly status: number;
  readonly code: string;
  readonly retryAfterMs: number;

  constructor(status: number, code: string, detail: string, retryAfterMs: number) {
    super(detail);
    this.status = status;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The service does not answer, or cannot now; the page asks whether it is back. */
export class Unreachable extends ServiceError {}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

export interface JobQuery {
  kind?: string | undefined;
  state?: readonly string[] | undefined;
  cache?: string | undefined;
  node?: string | undefined;
  label?: string | undefined;
}

interface Options {
  query?: object;
  body?: object;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

export function getMe(): Promise<Me> {
  return json('GET', '/v1/me');
}

/** A page as full as the filter allows, unless that takes too long: then it has a cursor, and fewer jobs. */
export async function listJobs(
  query: JobQuery,
  from: string | null,
  size: number,
  signal: AbortSignal,
): Promise<Page<Job>> {
  const items: Job[] = [];
  let cursor = from;
  for (let pages = 0; pages < PAGES_AT_ONCE; pages++) {
    const limit = size - items.length;
    const page = await json<Page<Job>>('GET', '/v1/jobs', { query: { ...query, cursor, limit }, signal });
    items.push(...page.items);
    cursor = page.nextCursor;
    if (cursor === null || items.length === size) break;
  }
  return { items, nextCursor: cursor };
}

export function getJob(id: string, signal: AbortSignal): Promise<Job> {
  return json('GET', jobPath(id), { signal });
}

export function listFiles(
  id: string,
  query: { state?: FileState | undefined; code?: string | undefined },
  cursor: string | null,
  limit: number,
  signal: AbortSignal,
): Promise<Page<JobFile>> {
  return json('GET', `${jobPath(id)}/files`, { query: { ...query, cursor, limit }, signal });
}

export async function listErrors(id: string, signal: AbortSignal): Promise<ErrorGroup[]> {
  return (await json<{ items: ErrorGroup[] }>('GET', `${jobPath(id)}/errors`, { signal })).items;
}

export function cancelJob(id: string): Promise<Job> {
  return json('POST', `${jobPath(id)}/cancel`);
}

export function retryJob(id: string): Promise<Job> {
  return json('POST', `${jobPath(id)}/retry`);
}

export async function listDeliveries(id: string, signal: AbortSignal): Promise<Delivery[]> {
  return (await json<{ items: Delivery[] }>('GET', `${jobPath(id)}/deliveries`, { signal })).items;
}

export function resendDelivery(id: string, deliveryId: string): Promise<Delivery> {
  return json('POST', `${jobPath(id)}/deliveries/${encodeURIComponent(deliveryId)}/resend`);
}

export async function listCaches(signal: AbortSignal): Promise<Cache[]> {
  return (await json<{ items: Cache[] }>('GET', '/v1/caches', { signal })).items;
}

export function getCacheHistory(name: string, signal: AbortSignal): Promise<CacheHistory> {
  return json('GET', `${cachePath(name)}/history`, { signal });
}

export function pauseCache(name: string, reason: string): Promise<Cache> {
  return json('POST', `${cachePath(name)}/pause`, { body: { reason } });
}

export function resumeCache(name: string): Promise<Cache> {
  return json('POST', `${cachePath(name)}/resume`);
}

/** @param limits null: back to the configuration */
export function limitCache(name: string, limits: Cache['limits'] | null): Promise<Cache> {
  return json('PATCH', cachePath(name), { body: { limits } });
}

export function listNodes(cursor: string | null, limit: number, signal: AbortSignal): Promise<Page<Node>> {
  return json('GET', '/v1/nodes', { query: { cursor, limit }, signal });
}

export function pauseNode(name: string, reason: string): Promise<Node> {
  return json('POST', `${nodePath(name)}/pause`, { body: { reason } });
}

export function resumeNode(name: string): Promise<Node> {
  return json('POST', `${nodePath(name)}/resume`);
}

/** Saves the report of a job, as a link would; a link cannot send a token. */
export async function downloadReport(id: string, format: string, scope: string): Promise<void> {
  const path = `${jobPath(id)}/report${queryText({ format, scope })}`;
  const link = document.createElement('a');
  link.download = `${id}-${scope}.${format}`;
  if (!hasToken()) {
    link.href = path;
    link.click();
    return;
  }
  // Its end may be far: no deadline but that of the service.
  const answer = await send('GET', path, {});
  const address = URL.createObjectURL(await answer.blob());
  link.href = address;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/**
 * Listens to Server-Sent Events until the stream ends. A browser's EventSource cannot send a token.
 * @returns false if there is nothing more to come (204)
 */
export async function listen(
  path: string,
  options: {
    query?: object;
    lastEventId: string | undefined;
    signal: AbortSignal;
    onEvent: (event: ServerEvent) => void;
  },
): Promise<boolean> {
  const silence = new AbortController();
  const signal = AbortSignal.any([options.signal, silence.signal]);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stillThere = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  stillThere();
  try {
    const known = options.lastEventId;
    const headers = { accept: 'text/event-stream', ...(known !== undefined && { 'last-event-id': known }) };
    const answer = await send('GET', `${path}${queryText(options.query ?? {})}`, { headers }, signal);
    if (answer.status === 204 || answer.body === null) return false;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const read = eventReader(options.onEvent);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      stillThere();
      read(value);
    }
  } catch (error) {
    if (options.signal.aborted || error instanceof ServiceError) throw error;
    // It broke off, or fell silent: who connects anew learns why.
    return true;
  } finally {
    clearTimeout(timer);
  }
}

async function json<T>(
  method: string,
  path: string,
  { query = {}, signal, ...options }: Options = {},
): Promise<T> {
  const deadline = AbortSignal.timeout(ANSWER_MS);
  const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
  const answer = await send(method, `${path}${queryText(query)}`, options, either, signal);
  return (await answer.json()) as T;
}

/** @param given who aborts it wants no answer; any other abort is a service that does not answer */
async function send(
  method: string,
  path: string,
  { body, headers }: Pick<Options, 'body' | 'headers'>,
  signal?: AbortSignal,
  given: AbortSignal | undefined = signal,
): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers: {
        ...authorization(),
        ...headers,
        ...(body && { 'content-type': 'application/json' }),
      },
      ...(body && { body: JSON.stringify(body) }),
      ...(signal && { signal }),
      cache: 'no-store',
      credentials: 'omit',
    });
  } catch (error) {
    if (given?.aborted) throw error;
    reportOutage(NOT_REACHABLE);
    throw new Unreachable(NOT_REACHABLE);
  }
  if (answer.ok) return answer;
  const refusal = await refusalOf(answer);
  // Whoever has not said yet who it is has done nothing wrong.
  if (refusal.status === 401) signOut(hasToken() ? refusal.message : '');
  if (![502, 503, 504].includes(refusal.status)) throw refusal;
  reportOutage(refusal.message);
  throw new Unreachable(refusal.message);
}

async function refusalOf(answer: Response): Promise<Refusal> {
  const seconds = Number(answer.headers.get('retry-after') ?? 5);
  // What stands between may answer with something else than a problem.
  const problem = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string };
  const detail = problem.detail ?? `The service answered with status ${answer.status}.`;
  return new Refusal(answer.status, problem.code ?? '', detail, seconds * 1000);
}

function jobPath(id: string): string {
  return `/v1/jobs/${encodeURIComponent(id)}`;
}

function cachePath(name: string): string {
  return `/v1/caches/${encodeURIComponent(name)}`;
}

function nodePath(name: string): string {
  return `/v1/nodes/${encodeURIComponent(name)}`;
}

function queryText(query: object): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat())
      if (one !== undefined && one !== null) parameters.append(name, String(one));
  }
  const text = parameters.toString();
  return text === '' ? '' : `?${text}`;
}
