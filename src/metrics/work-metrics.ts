import { Counter, Gauge, type Registry } from 'prom-client';
import type { FileErrorCode } from '../model/errors.js';
import type { FileResult } from '../model/file-result.js';
import type { CacheLoad, ItemEnd, WorkObserver } from '../worker/observer.js';
import { cacheLabel, FLUSH_SECONDS, RPC_SECONDS } from './names.js';
import { type Series, Tally, TallyHistogram } from './tally.js';

/** How the files of one kind ended. */
interface FileKind {
  state: FileResult['state'];
  outcome: FileResult['outcome'];
  evidence: FileResult['evidence'];
  files: Tally<'cache' | 'state' | 'outcome' | 'evidence'>;
  /** Null unless they succeeded. */
  seconds: Series | null;
}

/** What is counted of one cache for every call and every file. */
interface CacheTallies {
  /** A handful: looked through in the order they first came. */
  kinds: FileKind[];
  calls: Map<string, Series>;
}

/** What a worker does, as it does it; these begin at zero with the process. */
export class WorkMetrics implements WorkObserver {
  /** Asked at each scrape. */
  loads: () => CacheLoad[] = () => [];

  readonly #files: Counter<'cache' | 'state' | 'outcome' | 'evidence'>;
  readonly #fileErrors: Counter<'cache' | 'code'>;
  readonly #flushSeconds: TallyHistogram;
  readonly #rpcSeconds: TallyHistogram;
  readonly #retries: Counter<'cache' | 'code'>;
  readonly #items: Counter<'cache' | 'end'>;
  readonly #seconds = new Map<string, Series>();
  readonly #tallies = new Map<string | null, CacheTallies>();
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
    this.#flushSeconds = new TallyHistogram({
      name: 'writeback_flush_duration_seconds',
      help: 'Time of a file that succeeded, from its taking up to its end, without the wait for a slot.',
      buckets: FLUSH_SECONDS,
      registry,
    });
    this.#rpcSeconds = new TallyHistogram({
      name: 'writeback_rpc_duration_seconds',
      help: 'Time from the newest sending of an NFS call to its reply.',
      buckets: RPC_SECONDS,
      registry,
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

  fileEnded(cache: string | null, result: FileResult): void {
    const { state, outcome, evidence, lastError } = result;
    const { kinds } = this.#of(cache);
    let kind = kinds.find((known) => {
      return known.state === state && known.outcome === outcome && known.evidence === evidence;
    });
    if (kind === undefined) {
      kind = this.#fileKind(cacheLabel(cache), result);
      kinds.push(kind);
    }
    kind.files.add();
    kind.seconds?.observe(result.durationMs / 1000);
    if (state !== 'succeeded' && lastError !== null) {
      this.#fileErrors.inc({ cache: cacheLabel(cache), code: lastError.code });
    }
  }

  itemLeft(cache: string | null, end: ItemEnd): void {
    this.#items.inc({ cache: cacheLabel(cache), end });
  }

  replied(cache: string | null, procedure: string, roundTripMs: number): void {
    const { calls } = this.#of(cache);
    let series = calls.get(procedure);
    if (series === undefined) {
      series = this.#rpcSeconds.series({ cache: cacheLabel(cache), procedure });
      calls.set(procedure, series);
    }
    series.observe(roundTripMs / 1000);
  }

  retried(cache: string | null, code: FileErrorCode): void {
    this.#retries.inc({ cache: cacheLabel(cache), code });
  }

  /** Brings the gauges and counters up to date. */
  collect(): void {
    for (const { kinds } of this.#tallies.values()) for (const { files } of kinds) files.settle();
    const gauges = Object.entries(this.#loadGauges) as [Exclude<keyof CacheLoad, 'cache'>, Gauge<'cache'>][];
    for (const [, gauge] of gauges) gauge.reset();
    for (const load of this.loads()) {
      for (const [key, gauge] of gauges) gauge.inc({ cache: cacheLabel(load.cache) }, load[key]);
    }
  }

  #of(cache: string | null): CacheTallies {
    let tallies = this.#tallies.get(cache);
    if (tallies === undefined) {
      tallies = { kinds: [], calls: new Map() };
      this.#tallies.set(cache, tallies);
    }
    return tallies;
  }

  #fileKind(cache: string, { state, outcome, evidence }: FileResult): FileKind {
    const labels = { cache, state, outcome: outcome ?? 'none', evidence: evidence ?? 'none' };
    return {
      state,
      outcome,
      evidence,
      files: new Tally(this.#files, labels),
      seconds: state === 'succeeded' && outcome !== null ? this.#secondsOf(cache, outcome) : null,
    };
  }

  /** Kinds that differ in their evidence share a series. */
  #secondsOf(cache: string, outcome: string): Series {
    const key = `${cache} ${outcome}`;
    let series = this.#seconds.get(key);
    if (series === undefined) {
      series = this.#flushSeconds.series({ cache, outcome });
      this.#seconds.set(key, series);
    }
    return series;
  }
}
