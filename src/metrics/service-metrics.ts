import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { GaugeReader } from '../store/gauges.js';
import { REQUEST_SECONDS } from './names.js';
import { NodeMetrics } from './node-metrics.js';
import { CacheMetrics, StoreMetrics } from './store-metrics.js';
import { WebhookMetrics } from './webhook-metrics.js';
import { WorkMetrics } from './work-metrics.js';

export interface MetricsOptions {
  version: string;
  role: string;
  /** Closed by its owner. */
  reader: GaugeReader;
  /** Also what the store knows of each cache and node, and of webhooks. */
  caches: boolean;
  /** Also what this process's worker does. */
  work: boolean;
  /** Memory, CPU, event loop and garbage collection of this process. */
  process: boolean;
}

/** A scrape waits no longer for the store. */
const STORE_DEADLINE_MS = 2500;

/** Everything this process shows to Prometheus, in a registry of its own. */
export class ServiceMetrics {
  /** Of the text. */
  readonly contentType: string = Registry.PROMETHEUS_CONTENT_TYPE;
  readonly work: WorkMetrics | null;
  readonly #registry = new Registry();
  readonly #reader: GaugeReader;
  readonly #store: StoreMetrics;
  readonly #caches: CacheMetrics | null;
  readonly #nodes: NodeMetrics | null;
  readonly #webhooks: WebhookMetrics | null;
  readonly #requests: Histogram<'method' | 'route' | 'status'>;
  readonly #scrapeFailures: Counter;
  #collecting: Promise<string> | null = null;

  constructor({ version, role, reader, caches, work, process }: MetricsOptions) {
    const registers = [this.#registry];
    this.#reader = reader;
    this.#store = new StoreMetrics(this.#registry);
    this.#caches = caches ? new CacheMetrics(this.#registry) : null;
    this.#nodes = caches ? new NodeMetrics(this.#registry) : null;
    this.#webhooks = caches ? new WebhookMetrics(this.#registry) : null;
    this.work = work ? new WorkMetrics(this.#registry) : null;
    this.#requests = new Histogram({
      name: 'writeback_http_request_duration_seconds',
      help: 'Time of HTTP requests, waiting on purpose included, by the pattern of their path.',
      labelNames: ['method', 'route', 'status'],
      buckets: REQUEST_SECONDS,
      registers,
    });
    this.#scrapeFailures = new Counter({
      name: 'writeback_scrape_store_failures_total',
      help: 'Scrapes for which the store did not answer in time: its metrics are absent then.',
      registers,
    });
    new Gauge({
      name: 'writeback_build_info',
      help: 'Always 1.',
      labelNames: ['version', 'role'],
      registers,
    }).set({ version, role }, 1);
    if (process) collectDefaultMetrics({ register: this.#registry });
  }

  /** @param route a pattern such as `/v1/jobs/:id`: there are few of these */
  requestAnswered(method: string, route: string, status: number, durationMs: number): void {
    this.#requests.observe({ method, route, status }, durationMs / 1000);
  }

  /** The metrics in Prometheus' text format. Scrapes at the same time share one. */
  text(): Promise<string> {
    this.#collecting ??= this.#collect().finally(() => {
      this.#collecting = null;
    });
    return this.#collecting;
  }

  async #collect(): Promise<string> {
    this.work?.collect();
    const [store, caches, nodes, webhooks] = await Promise.all([
      inTime(this.#reader.store()),
      this.#caches && inTime(this.#reader.caches()),
      this.#nodes && inTime(this.#reader.nodes()),
      this.#webhooks && inTime(this.#reader.webhooks()),
    ]);
    const isMissing = this.#caches !== null && [caches, nodes, webhooks].includes(null);
    if (store === null || isMissing) this.#scrapeFailures.inc();
    this.#store.show(store ?? { ok: false, roundTripMs: null, warnings: 0 });
    this.#caches?.show(caches);
    this.#nodes?.show(nodes);
    this.#webhooks?.show(webhooks);
    return this.#registry.metrics();
  }
}

/** Null if it fails or takes too long. */
async function inTime<T>(work: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), STORE_DEADLINE_MS);
  });
  const result = await Promise.race([work.catch(() => null), late]);
  clearTimeout(timer);
  return result;
}
