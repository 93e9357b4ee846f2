import type { CacheConfig } from '../model/cache.js';
import type { Job, JobOptions, JobWarning } from '../model/job.js';
import { isTerminalJobState, type JobKind, type JobState } from '../model/words.js';
import { averageRate, currentRate } from './rates.js';
import type { Revision } from './types.js';

/** The hash of a job as Redis gives it: the scripts write it. */
export type JobRow = Record<string, string>;

/** What of a job never changes. Kept as JSON in the field `meta`. */
export interface JobMeta {
  kind: JobKind;
  cache: string;
  adHocCache: CacheConfig | null;
  export: string;
  labels: Record<string, string>;
  options: JobOptions;
  parentJobId: string | null;
}

/** What a job shows of its cache. */
export interface CacheShown {
  rev: string;
  paused: boolean;
  pausedReason: string | null;
  hold: { since: number; until: number; detail: string } | null;
}

/** The fields that `cacheShown` reads, in its order. */
export const CACHE_SHOWN_FIELDS = [
  'rev',
  'paused',
  'pausedReason',
  'holdSince',
  'holdUntil',
  'healthDetail',
] as const;

export function cacheShown(values: readonly (string | null)[]): CacheShown {
  const [rev, paused, pausedReason, holdSince, holdUntil, detail] = values;
  return {
    rev: rev ?? '0',
    paused: paused === '1',
    pausedReason: pausedReason || null,
    hold:
      holdSince && holdUntil
        ? { since: Number(holdSince), until: Number(holdUntil), detail: detail ?? '' }
        : null,
  };
}

export function jobMeta(row: JobRow): JobMeta {
  return JSON.parse(row.meta ?? '{}') as JobMeta;
}

export function jobState(row: JobRow): JobState {
  return row.state as JobState;
}

/** Nothing of the cache shows in a job that has ended. */
export function jobRevision(row: JobRow, cacheRev: string): Revision {
  const state = jobState(row);
  return { state, revision: isTerminalJobState(state) ? `${row.rev}` : `${row.rev}.${cacheRev}` };
}

export function jobFromRow(row: JobRow, cache: CacheShown, now: number = Date.now()): Job & Revision {
  const meta = jobMeta(row);
  const state = jobState(row);
  const ended = isTerminalJobState(state);
  const paused = !ended && cache.paused;
  return {
    id: row.id ?? '',
    kind: meta.kind,
    paused,
    pausedReason: paused ? cache.pausedReason : null,
    statusDetail: statusDetail(row, meta, state, cache, now),
    warnings: warnings(row),
    cache: meta.cache,
    export: meta.export,
    labels: meta.labels,
    options: meta.options,
    parentJobId: meta.parentJobId,
    createdAt: time(row.createdAt) ?? '',
    startedAt: time(row.startedAt),
    finishedAt: time(row.finishedAt),
    deadlineAt: time(row.deadlineAt) ?? '',
    goneAt: time(row.goneAt),
    progress: progress(row, state, now),
    ...jobRevision(row, cache.rev),
  };
}

function progress(row: JobRow, state: JobState, now: number): Job['progress'] {
  const filesTotal = number(row.filesTotal);
  const filesPending = number(row.filesPending);
  const filesActive = number(row.filesActive);
  const filesSucceeded = number(row.filesSucceeded);
  const filesFailed = number(row.filesFailed);
  const bytesDone = number(row.bytesDone);
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
  const estimable = final && filesPerSecond !== null && filesPerSecond > 0 && state !== 'canceling';
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
    bytesTotal: null,
    bytesDone,
    filesPerSecond,
    bytesPerSecond: rate(bytesDone, row.rateBytes, row.bps),
    etaSeconds: isTerminalJobState(state) ? 0 : estimable ? Math.ceil(left / filesPerSecond) : null,
    faults: number(row.faults),
    updatedAt: time(row.updatedAt) ?? '',
  };
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
      return `The deadline passed; ${files(number(row.filesExpired) + number(row.filesCanceled))} not done.`;
    case 'canceling':
      return `Canceling; ${files(number(row.filesActive))} still in the hands of workers.`;
  }
  if (cache.paused) {
    return `Cache ${meta.cache} is paused${cache.pausedReason ? `: ${cache.pausedReason}` : '.'}`;
  }
  if (cache.hold) {
    const seconds = Math.ceil((cache.hold.until - now) / 1000);
    const again = seconds > 0 ? `is tried again in ${seconds} s` : 'is being tried again';
    const reason = cache.hold.detail ? ` (${cache.hold.detail.replace(/[.\s]+$/, '')})` : '';
    return `Cache ${meta.cache} is unreachable since ${time(String(cache.hold.since))}${reason}; its queue holds and ${again}.`;
  }
  return fault;
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

function number(text: string | undefined): number {
  return text ? Number(text) : 0;
}

function time(ms: string | undefined): string | null {
  return ms ? new Date(Number(ms)).toISOString() : null;
}
