import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { FileErrorCode } from '../model/errors.js';
import type { FileResult } from '../store/work.js';
import type { CacheLoad, ItemEnd, WorkObserver } from '../worker/observer.js';
import { cacheLabel, FLUSH_SECONDS, RPC_SECONDS } from './names.js';

/** What a worker does, as it does it; these begin at zero with the process. */
export class WorkMetrics implements WorkObserver {
  /** Asked at each scrape. */
  loads: () => CacheLoad[] = () => [];

  readonly #files: Counter<'cache' | 'state' | 'outcome' | 'evidence'>;
  readonly #fileErrors: Counter<'cache' | 'code'>;
  readonly #flushSeconds: Histogram<'cache' | 'outcome'>;
  readonly #rpcSeconds: Histogram<'cache' | 'procedure'>;
  readonly #retries: Counter<'cache' | 'code'>;
  readonly #items: Counter<'cache' | 'end'>;
  readonly #loadGauges: Record<Exclude<keyof CacheLoad, 'cache'>, Gauge<'cache'>>;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#files = new Counter({
      name: 'writeback_worker_files_total',
      help: 'Files that ended in the hands of this worker, with what an OK is worth.',
      labelNames: ['cache', 'state', 'outcome', 'evidence'],
      registers,
    });
    this.#fileErrors = new Counter({
      name: 'writeback_worker_file_errors_total',
      help: 'Files that did not succeed in the hands of this worker, by their last error.',
      labelNames: ['cache', 'code'],
      registers,
    });
    this.#flushSeconds = new Histogram({
      name: 'writeback_flush_duration_seconds',
      help: 'Time of a file that succeeded, from its taking up to its end, without the wait for a slot.',
      labelNames: ['cache', 'outcome'],
      buckets: FLUSH_SECONDS,
      registers,
    });
    this.#rpcSeconds = new Histogram({
      name: 'writeback_rpc_duration_seconds',
      help: 'Time from the newest sending of an NFS call to its reply.',
      labelNames: ['cache', 'procedure'],
      buckets: RPC_SECONDS,
      registers,
    });
    this.#retries = new Counter({
      name: 'writeback_retries_total',
      help: 'Faults that were met with another try, by error code.',
      labelNames: ['cache', 'code'],
      registers,
    });
    this.#items = new Counter({
      name: 'writeback_worker_chunks_total',
      help: 'Chunks and directories that left this worker: done, returned to the queue, held with the cache, failed.',
      labelNames: ['cache', 'end'],
      registers,
    });
    const gauge = (name: string, help: string) =>
      new Gauge({ name: `writeback_worker_${name}`, help, labelNames: ['cache'] as const, registers });
    this.#loadGauges = {
      itemsInHand: gauge('chunks_in_hand', 'Chunks and directories that this worker works on.'),
      sessions: gauge('sessions', 'Exports that this worker has open.'),
      connections: gauge('connections', 'Connections of this worker to NFS servers.'),
      outstanding: gauge('flushes_outstanding', 'Flushes of this worker that are outstanding on the cache.'),
      waiting: gauge(
        'files_waiting',
        'Files in this worker that could begin but wait for a slot or the rate.',
      ),
    };
  }

  fileEnded(cache: string | null, { state, outcome, evidence, lastError, durationMs }: FileResult): void {
    const label = cacheLabel(cache);
    this.#files.inc({ cache: label, state, outcome: outcome ?? 'none', evidence: evidence ?? 'none' });
    if (state !== 'succeeded') {
      if (lastError !== null) this.#fileErrors.inc({ cache: label, code: lastError.code });
    } else if (outcome !== null) {
      this.#flushSeconds.observe({ cache: label, outcome }, durationMs / 1000);
    }
  }

  itemLeft(cache: string | null, end: ItemEnd): void {
    this.#items.inc({ cache: cacheLabel(cache), end });
  }

  replied(cache: string | null, procedure: string, roundTripMs: number): void {
    this.#rpcSeconds.observe({ cache: cacheLabel(cache), procedure }, roundTripMs / 1000);
  }

  retried(cache: string | null, code: FileErrorCode): void {
    this.#retries.inc({ cache: cacheLabel(cache), code });
  }

  /** Brings the gauges up to date. */
  collect(): void {
    const gauges = Object.entries(this.#loadGauges) as [Exclude<keyof CacheLoad, 'cache'>, Gauge<'cache'>][];
    for (const [, gauge] of gauges) gauge.reset();
    for (const load of this.loads()) {
      for (const [key, gauge] of gauges) gauge.inc({ cache: cacheLabel(load.cache) }, load[key]);
    }
  }
}
