/** Must be the same as in sampleRates of scripts/job-prelude.ts. */
const MEMORY_MS = 10_000;

export interface RateSample {
  /** Exponentially weighted rate per second at the time of the sample, started at 0. */
  perSecond: number;
  sampledAt: number;
  /** What had been done by then. */
  doneThen: number;
  doneNow: number;
  startedAt: number;
  now: number;
}

/**
 * Rate per second over some ten seconds, as of now: the sample is carried on to `now`, so that a rate sinks when nothing
 * happens although nobody writes. The estimate began at 0, which the last division makes good. Null: nothing done yet.
 */
export function currentRate(sample: RateSample): number | null {
  if (sample.doneNow === 0) return null;
  const elapsedMs = Math.max(1, sample.now - sample.sampledAt);
  const keep = Math.exp(-elapsedMs / MEMORY_MS);
  const since = ((sample.doneNow - sample.doneThen) / elapsedMs) * 1000;
  const estimate = sample.perSecond * keep + since * (1 - keep);
  const seen = 1 - Math.exp(-Math.max(1, sample.now - sample.startedAt) / MEMORY_MS);
  return significant(estimate / seen);
}

/** Over the whole run, for a job that has ended. */
export function averageRate(done: number, startedAt: number, finishedAt: number): number | null {
  if (done === 0) return null;
  return significant((done / Math.max(1, finishedAt - startedAt)) * 1000);
}

function significant(value: number): number {
  return Number(value.toPrecision(4));
}
