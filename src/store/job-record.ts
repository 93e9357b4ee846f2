import type { Credential } from '../model/cache.js';
import type { FileErrorCode } from '../model/errors.js';
import type { Job, JobWarning } from '../model/job.js';
import { type JobOwner, LOCAL_PRINCIPAL, NO_QUOTAS } from '../model/principal.js';
import { type JobWebhook, shownWebhook } from '../model/webhook.js';
import { isTerminalJobState, type JobState } from '../model/words.js';
import { averageRate, currentRate } from './rates.js';
import {
  type FlushTarget,
  type JobOrigin,
  type Revision,
  type TransferTarget,
  UNKNOWN_ORIGIN,
} from './types.js';
import { heldSince, holdCode, lastSeen, WAITED_FIELDS, waitedOf } from './waiting.js';

/** The hash of a job as Redis gives it: the scripts write it. */
export type JobRow = Record<string, string>;

/** What of a job never changes. Kept as JSON in the field `meta`. */
export type JobMeta = (FlushTarget | TransferTarget) & {
  principal: string;
  /** Under which NFS calls are made for it; null: that of the cache. */
  identity: Credential | null;
  origin: JobOrigin;
  labels: Record<string, string>;
  webhook?: JobWebhook | undefined;
  parentJobId: string | null;
};

/** What a job shows of its cache or node. */
export interface CacheShown {
  rev: string;
  paused: boolean;
  pausedReason: string | null;
  hold: { code: FileErrorCode; since: number; until: number; detail: string } | null;
  /** Whether a worker, or an agent of the node, is there for it. */
  served: boolean;
  /** When one last was. */
  servedAt: number | null;
}

/** The fields that `cacheShown` reads, in its order. */
export const CACHE_SHOWN_FIELDS = [
  'rev',
  'paused',
  'pausedReason',
  'holdSince',
  'holdUntil',
  'holdCode',
  'holdDetail',
  'served',
  'servedAt',
] as const;

/** What a job shows of its cache or node, from the fields above in their order. */
export function cacheShown(values: readonly (string | null)[]): CacheShown {
  const [rev, paused, pausedReason, holdSince, holdUntil, code, detail, served, servedAt] = values;
  return {
    rev: rev ?? '0',
    paused: paused === '1',
    pausedReason: pausedReason || null,
    hold:
      holdSince && holdUntil
        ? { code: holdCode(code), since: Number(holdSince), until: Number(holdUntil), detail: detail ?? '' }
        : null,
    served: served === '1',
    servedAt: servedAt ? Number(servedAt) : null,
  };
}

/** A job of a version that knew no principals is the local one's. */
export function parseMeta(json: string): JobMeta {
  const stored = JSON.parse(json) as JobMeta;
  return {
    ...stored,
    principal: stored.principal ?? LOCAL_PRINCIPAL.name,
    identity: stored.identity ?? null,
    origin: stored.origin ?? UNKNOWN_ORIGIN,
  };
}

/** Whoever had the job made, as it was then. */
export function formerOwner(row: JobRow): JobOwner {
  const { principal: name, identity } = jobMeta(row);
  return { name, identity, quotas: NO_QUOTAS };
}

/** The limits of a transfer are those of now. */
export function jobMeta(row: JobRow): JobMeta {
  const meta = parseMeta(row.meta ?? '{}');
  if (meta.kind !== 'transfer') return meta;
  const limits = { bytesPerSecond: limit(row.limitBps), cpuPercent: limit(row.limitCpu) };
  return { ...meta, options: { ...meta.options, limits } };
}

export function jobState(row: JobRow): JobState {
  return row.state as JobState;
}

/** Nothing of the cache shows in a job that has ended. */
export function jobRevision(row: JobRow, cacheRev: string): Revision {
  const state = jobState(row);
  return { state, revision: isTerminalJobState(state) ? `${row.rev}` : `${row.rev}.${cacheRev}` };
}

/** The job as the API shows it; `cache` is what its queue shows, and `now` in Date.now() milliseconds decides what is over. */
export function jobFromRow(row: JobRow, cache: CacheShown, now: number = Date.now()): Job & Revision {
  const meta = jobMeta(row);
  const state = jobState(row);
  const ended = isTerminalJobState(state);
  const paused = !ended && cache.paused;
  return {
    id: row.id ?? '',
    kind: meta.kind,
    principal: meta.principal,
    paused,
    pausedReason: paused ? cache.pausedReason : null,
    statusDetail: statusDetail(row, meta, state, cache, now),
    warnings: warnings(row),
    cache: meta.kind === 'flush' ? meta.cache : null,
    export: meta.kind === 'flush' ? meta.export : null,
    node: meta.kind === 'transfer' ? meta.node : null,
    labels: meta.labels,
    options: meta.options,
    webhook: meta.webhook ? shownWebhook(meta.webhook) : null,
    parentJobId: meta.parentJobId,
    createdAt: time(row.createdAt) ?? '',
    startedAt: time(row.startedAt),
    finishedAt: time(row.finishedAt),
    deadlineAt: time(row.deadlineAt) ?? '',
    goneAt: time(row.goneAt),
    progress: progress(row, meta, state, now),
    ...jobRevision(row, cache.rev),
  };
}

function progress(row: JobRow, meta: JobMeta, state: JobState, now: number): Job['progress'] {
  const filesTotal = number(row.filesTotal);
  const filesPending = number(row.filesPending);
  const filesActive = number(row.filesActive);
  const filesSucceeded = number(row.filesSucceeded);
  const filesFailed = number(row.filesFailed);
  const bytesDone = number(row.bytesDone) + number(row.bytesMoving);
  const rate = (done: number, then: string | undefined, sample: string | undefined): number | null => {
    if (!row.startedAt) return null;
    const startedAt = number(row.startedAt);
    if (row.finishedAt) return averageRate(done, startedAt, number(row.finishedAt));
    return currentRate({
      perSecond: number(sample),
      sampledAt: number(row.rateAt),
      doneThen: number(then),
      doneNow: done,
      startedAt,
      now,
    });
  };
  const filesPerSecond = rate(filesSucceeded + filesFailed, row.rateFiles, row.fps);
  const left = filesPending + filesActive;
  const final = row.final === '1';
  const bytesPerSecond = rate(bytesDone, row.rateBytes, row.bps);
  const sized = meta.kind === 'transfer' && final && number(row.unsized) === 0;
  const bytesTotal = sized ? number(row.bytesKnown) : null;
  return {
    filesTotal,
    filesTotalFinal: final,
    filesPending,
    filesActive,
    filesSucceeded,
    filesAlreadyClean: number(row.filesAlreadyClean),
    filesFailed,
    filesSkipped: number(row.filesSkipped),
    filesCanceled: number(row.filesCanceled),
    filesExpired: number(row.filesExpired),
    bytesTotal,
    bytesDone,
    filesPerSecond,
    bytesPerSecond,
    etaSeconds: isTerminalJobState(state)
      ? 0
      : !final || state === 'canceling'
        ? null
        : bytesTotal === null
          ? secondsFor(left, filesPerSecond)
          : secondsFor(Math.max(0, bytesTotal - bytesDone), bytesPerSecond),
    faults: number(row.faults),
    updatedAt: time(row.updatedAt) ?? '',
  };
}

function secondsFor(left: number, perSecond: number | null): number | null {
  return perSecond === null || perSecond <= 0 ? null : Math.ceil(left / perSecond);
}

function statusDetail(
  row: JobRow,
  meta: JobMeta,
  state: JobState,
  cache: CacheShown,
  now: number,
): string | null {
  const fault = row.detail || null;
  switch (state) {
    case 'succeeded':
      return null;
    case 'partial':
    case 'failed':
      return fault;
    case 'canceled':
      return `Canceled; ${files(number(row.filesCanceled) + number(row.filesExpired))} not done.`;
    case 'expired':
      return `The deadline passed; ${files(number(row.filesExpired) + number(row.filesCanceled))} not done${waitedText(row, meta)}.`;
    case 'canceling':
      return `Canceling; ${files(number(row.filesActive))} still in the hands of workers.`;
  }
  if (cache.paused) {
    const name = meta.kind === 'transfer' ? `Node ${meta.node}` : `Cache ${meta.cache}`;
    return `${name} is paused${cache.pausedReason ? `: ${cache.pausedReason}` : '.'}`;
  }
  const ownState = row.waitsForRoom ? waitsForRoom(meta, row.queuedFilesMost) : fault;
  if (meta.kind === 'transfer') return cache.served ? ownState : noAgent(meta.node, cache.servedAt);
  if (!cache.served) return noWorker(meta, cache.servedAt);
  if (cache.hold) {
    const seconds = Math.ceil((cache.hold.until - now) / 1000);
    const again = seconds > 0 ? `is tried again in ${seconds} s` : 'is being tried again';
    return `Cache ${meta.cache} ${heldSince(cache.hold.code, cache.hold.since, cache.hold.detail)}; its queue holds and ${again}.`;
  }
  return ownState;
}

function waitsForRoom({ principal }: JobMeta, queuedFilesMost: string | undefined): string {
  return `The principal ${JSON.stringify(principal)} has ${number(queuedFilesMost)} files waiting, as many as it may; what else the directories hold is added when some are done.`;
}

function waitedText(row: JobRow, { kind }: JobMeta): string {
  const waited = waitedOf(
    WAITED_FIELDS.map((field) => row[field]),
    kind,
  );
  return waited === null ? '' : `: ${waited.why}`;
}

function noAgent(node: string, seenAt: number | null): string {
  return `No agent of node ${node} is connected (${lastSeen(seenAt)}); the job waits for one: writeback serve --role agent --node ${node}`;
}

function noWorker({ cache, adHocCache }: FlushTarget, seenAt: number | null): string {
  const configured = adHocCache === null ? ', with this cache in its configuration' : '';
  return `No running worker serves cache ${cache} (${lastSeen(seenAt)}); the job waits for one: writeback serve --role worker${configured}`;
}

function warnings(row: JobRow): JobWarning[] {
  return Object.keys(row)
    .filter((field) => field.startsWith('w:'))
    .map((field) => field.slice(2))
    .sort()
    .map((code) => ({
      code,
      message: row[`w:${code}`] ?? '',
      count: row[`wc:${code}`] === undefined ? null : number(row[`wc:${code}`]),
    }));
}

function files(count: number): string {
  return count === 1 ? '1 file is' : `${count} files are`;
}

function limit(text: string | undefined): number | null {
  return text ? Number(text) : null;
}

function number(text: string | undefined): number {
  return text ? Number(text) : 0;
}

function time(ms: string | undefined): string | null {
  return ms ? new Date(Number(ms)).toISOString() : null;
}
