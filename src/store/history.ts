import type { CacheHistory } from '../model/job.js';

/** What a cache did minute by minute, as `remember` of scripts/job-prelude.ts keeps it in a ring of 60 fields. */

const MINUTE_MS = 60_000;
const MINUTES = 60;

/** The fields of a cache's hash that hold its last hour. */
export const HISTORY_FIELDS: readonly string[] = Array.from({ length: MINUTES }, (_, i) => `minute:${i}`);

/** @param values of HISTORY_FIELDS: `<minute> <succeeded> <failed> <bytes>`, the minute counted from 1970 */
export function cacheHistory(values: readonly (string | null | undefined)[], now: number): CacheHistory {
  const current = Math.floor(now / MINUTE_MS);
  const items = Array.from({ length: MINUTES }, (_, i) => {
    const minute = current - MINUTES + 1 + i;
    const [kept, succeeded = 0, failed = 0, bytes = 0] = (values[minute % MINUTES] ?? '')
      .split(' ')
      .map(Number);
    const at = new Date(minute * MINUTE_MS).toISOString();
    return kept === minute
      ? { at, filesSucceeded: succeeded, filesFailed: failed, bytes }
      : { at, filesSucceeded: 0, filesFailed: 0, bytes: 0 };
  });
  return { items, ...ratesOfLastMinute(items, now) };
}

/** As if what ended in the minute before had ended evenly over it. */
function ratesOfLastMinute(items: CacheHistory['items'], now: number) {
  const [before, running] = items.slice(-2) as [CacheHistory['items'][number], CacheHistory['items'][number]];
  const share = 1 - (now % MINUTE_MS) / MINUTE_MS;
  const perSecond = (of: (item: typeof running) => number): number =>
    Number(((of(running) + of(before) * share) / (MINUTE_MS / 1000)).toPrecision(4));
  return {
    filesPerSecond: perSecond((item) => item.filesSucceeded + item.filesFailed),
    bytesPerSecond: perSecond((item) => item.bytes),
  };
}
