import { Counter, Gauge, type Registry } from 'prom-client';
import { JOB_STATES } from '../model/words.js';
import { FILE_ENDINGS } from '../store/counters.js';
import type { CacheGauges, StoreGauges } from '../store/gauges.js';
import { cacheLabel } from './names.js';

/** How well the store is, as every process sees it. */
export class StoreMetrics {
  readonly #up: Gauge;
  readonly #roundTrip: Gauge;
  readonly #warnings: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#up = new Gauge({
      name: 'writeback_store_up',
      help: '1 if Redis answers and takes writes, else 0.',
      registers,
    });
    this.#roundTrip = new Gauge({
      name: 'writeback_store_round_trip_seconds',
      help: 'Time of one PING of Redis at this scrape; absent without an answer.',
      registers,
    });
    this.#warnings = new Gauge({
      name: 'writeback_store_warnings',
      help: 'Settings of Redis that make accepted jobs less durable than they should be; /readyz names them.',
      registers,
    });
  }

  show({ ok, roundTripMs, warnings }: StoreGauges): void {
    this.#up.set(ok ? 1 : 0);
    this.#warnings.set(warnings);
    if (roundTripMs === null) this.#roundTrip.remove();
    else this.#roundTrip.set(roundTripMs / 1000);
  }
}

type Single = Exclude<keyof CacheGauges, 'cache' | 'jobs' | 'files'>;

const GAUGES: Record<Single, [name: string, help: string]> = {
  filesPending: ['files_pending', 'Files of accepted jobs that no worker has taken.'],
  filesActive: ['files_active', 'Files in the hands of workers.'],
  jobsActive: ['jobs_active', 'Jobs that have not ended.'],
  nextJobAgeMs: ['queue_age_seconds', 'Age of the job whose chunk is next in the queue; 0: nothing waits.'],
  slotsLeased: ['slots_leased', 'Slots that workers hold: flushes that may be outstanding now.'],
  slotsLimit: ['slots_limit', 'Flushes that may be outstanding over all workers (limits.inFlight).'],
  workers: ['workers', 'Running workers that serve the cache; with none, its jobs wait.'],
  up: ['up', '1: the cache answers; 0: it does not. Absent until something was asked of it.'],
  held: ['held', '1 while the queue is held because the cache does not answer.'],
  paused: ['paused', '1 while the cache is paused by an operator.'],
  dialectProven: ['dialect_proven', '1 once the cache has shown the hpc-cache dialect.'],
};

/** What the store knows of each cache, over all processes. Shown by the API role, so that workers need not ask. */
export class CacheMetrics {
  readonly #gauges: Record<Single, Gauge<'cache'>>;
  readonly #jobs: Counter<'cache' | 'kind' | 'state'>;
  readonly #files: Counter<'cache' | 'outcome'>;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#gauges = Object.fromEntries(
      Object.entries(GAUGES).map(([key, [name, help]]) => [
        key,
        new Gauge({ name: `writeback_cache_${name}`, help, labelNames: ['cache'] as const, registers }),
      ]),
    ) as Record<Single, Gauge<'cache'>>;
    this.#jobs = new Counter({
      name: 'writeback_jobs_total',
      help: 'Jobs that came into a state, over all processes and their restarts.',
      labelNames: ['cache', 'kind', 'state'],
      registers,
    });
    this.#files = new Counter({
      name: 'writeback_files_total',
      help: 'Files that ended, each once, over all processes and their restarts.',
      labelNames: ['cache', 'outcome'],
      registers,
    });
  }

  /** Null: they could not be read; then there are none, which is not the same as zero. */
  show(caches: readonly CacheGauges[] | null): void {
    for (const metric of [...Object.values(this.#gauges), this.#jobs, this.#files]) metric.reset();
    for (const gauges of caches ?? []) {
      const cache = cacheLabel(gauges.cache);
      for (const key of Object.keys(GAUGES) as Single[]) {
        const value = gauges[key];
        if (value === null) continue;
        this.#gauges[key].set({ cache }, key === 'nextJobAgeMs' ? Number(value) / 1000 : Number(value));
      }
      for (const state of JOB_STATES) this.#jobs.inc({ cache, kind: 'flush', state }, gauges.jobs[state]);
      for (const outcome of FILE_ENDINGS) this.#files.inc({ cache, outcome }, gauges.files[outcome]);
    }
  }
}
