import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Server as TlsServer } from 'node:tls';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { Authenticator } from '../access/authenticator.js';
import { openTls, type TlsCertificates } from '../access/tls.js';
import { buildApp } from '../api/app.js';
import { type DashboardFile, readDashboard } from '../api/dashboard.js';
import { Targets } from '../api/target.js';
import type { Config } from '../config/schema.js';
import { listenForHealth, listenForScrapes } from '../metrics/listener.js';
import { ServiceMetrics } from '../metrics/service-metrics.js';
import type { Role } from '../model/words.js';
import type { RedisTarget } from '../store/connect.js';
import { type DeliveryStore, openDeliveryStore } from '../store/delivery-store.js';
import { type EmbeddedRedis, startEmbeddedRedis } from '../store/embedded-redis.js';
import { type GaugeReader, openGaugeReader } from '../store/gauges.js';
import type { StoreOptions } from '../store/settings.js';
import { untilRedisAnswers, withoutPassword } from '../store/startup.js';
import { openJobStore } from '../store/store.js';
import { Sweeper } from '../store/sweeper.js';
import type { JobStore } from '../store/types.js';
import { WorkStore } from '../store/work-store.js';
import { startTracing, type Tracing } from '../tracing.js';
import { Deliverer } from '../webhook/deliverer.js';
import { TransferAgent } from '../worker/transfer-agent.js';
import { FlushWorker } from '../worker/worker.js';
import { ClosingPhases } from './closing-phases.js';
import { listenError, requireCredentials, socketError, urlOf } from './listening.js';
import { type ConfigChanges, configChanges } from './reconfiguration.js';

export interface ServeSettings {
  role: Role;
  config: Config;
  version: string;
  hostName: string;
  processId: number;
  /** Folders where programs are, as in $PATH. */
  searchPath: string;
  log: Logger;
  /** Ends a start that waits for something. */
  signal: AbortSignal;
}

export interface Service {
  /** Where the API listens; null for a worker or an agent. */
  readonly url: string | null;
  /** Where the metrics are, for /metrics to be put behind it; null: nowhere. */
  readonly metricsUrl: string | null;
  /** The Redis it works with, as the end of a sentence. */
  readonly redis: string;
  /** Takes from a changed configuration what can be in force at once. */
  reconfigure(config: Config): ConfigChanges;
  /**
   * Ends it in order: refuses new work, lets flushes under way end within their grace time, gives the rest back to the
   * queue, answers what is being asked, closes the store, and last the private Redis. Never rejects.
   * @returns false if a phase did not end in its time
   */
  close(): Promise<boolean>;
}

/** Longest time of a phase of the end, the worker's aside, which has its grace time. */
const PHASE_MS = 5000;
/** What was traced last is sent. */
const TRACING_PHASE_MS = 6000;
/** A private Redis writes out what it has. */
const REDIS_PHASE_MS = 20_000;
/** How long handing back and closing take the worker at most, beyond its grace time. */
const WORKER_PHASE_MS = 10_000;

const WEBHOOK_GRACE_MS = 3000;

/** How long `close` takes at most. */
export function longestCloseMs(config: Config): number {
  return (
    config.worker.shutdownGraceSeconds * 1000 +
    2 * WORKER_PHASE_MS +
    4 * PHASE_MS +
    TRACING_PHASE_MS +
    REDIS_PHASE_MS
  );
}

/** Starts everything that a role needs. @throws {Error} whose message is for the operator; nothing is left running */
export async function startService(settings: ServeSettings): Promise<Service> {
  const service = new RunningService(settings);
  try {
    await service.start();
    return service;
  } catch (error) {
    await service.close();
    throw error;
  }
}

class RunningService implements Service {
  readonly #settings: ServeSettings;
  /** In force. */
  #config: Config;
  url: string | null = null;
  metricsUrl: string | null = null;
  redis = '';
  #shuttingDown = false;
  #closing: Promise<boolean> | null = null;
  #embedded: EmbeddedRedis | null = null;
  #jobStore: JobStore | null = null;
  #workStore: WorkStore | null = null;
  #sweeper: Sweeper | null = null;
  #worker: FlushWorker | null = null;
  #agent: TransferAgent | null = null;
  #gauges: GaugeReader | null = null;
  #metrics: ServiceMetrics | null = null;
  #scrapes: Server | null = null;
  #health: Server | null = null;
  #tracing: Tracing | null = null;
  #deliveryStore: DeliveryStore | null = null;
  #deliverer: Deliverer | null = null;
  #authenticator: Authenticator | null = null;
  #tls: TlsCertificates | null = null;
  #targets: Targets | null = null;
  #app: ReturnType<typeof buildApp> | null = null;

  constructor(settings: ServeSettings) {
    this.#settings = settings;
    this.#config = settings.config;
  }

  async start(): Promise<void> {
    const { role, config, log, signal } = this.#settings;
    await this.#startTracing();
    if (role === 'all' || role === 'api') await this.#openAccess();
    const redis = await this.#openRedis();
    const health = await untilRedisAnswers(redis, config.redis.startTimeoutSeconds * 1000, signal);
    for (const warning of health.warnings) log.warn({ redis: this.redis }, warning);

    const storeOptions = {
      redis,
      keyPrefix: config.redis.keyPrefix,
      onError: (error: unknown, doing: string) => log.warn({ err: error }, `store: ${doing}`),
    };
    this.#sweeper = new Sweeper({ ...storeOptions, goneMs: config.retention.goneSeconds * 1000 });
    this.#sweeper.start();
    this.#startMetrics(storeOptions);
    const openWork = (): WorkStore =>
      new WorkStore({ ...storeOptions, filesPerJob: config.limits.filesPerJob });
    if (role === 'agent') this.#startAgent(openWork());
    if (role === 'all' || role === 'worker') this.#startWorker(openWork());
    if (role === 'all' || role === 'api') {
      const { caches, retention } = config;
      const store = await openJobStore({
        ...storeOptions,
        caches,
        retentionMs: retention.jobSeconds * 1000,
        idempotencyMs: retention.idempotencySeconds * 1000,
      });
      await this.#startApi(store);
      this.#startDeliverer(storeOptions);
      this.metricsUrl = this.url;
    } else {
      await this.#startScrapes();
    }
    await this.#startHealth();
  }

  reconfigure(config: Config): ConfigChanges {
    const { log } = this.#settings;
    const changes = configChanges(this.#config, config);
    log.level = config.log.level;
    this.#targets?.reconfigure(config.caches, config.adHoc);
    this.#jobStore?.reconfigure(config.caches);
    this.#gauges?.reconfigure(config.caches);
    this.#worker?.reconfigure(config.caches);
    this.#authenticator?.reconfigure(config.access);
    this.#deliverer?.reconfigure(config.webhooks);
    // What needs a restart is told again until there was one.
    const { caches, adHoc, webhooks, log: logging, access } = config;
    const { principals, unknownPrincipals } = access;
    this.#config = {
      ...this.#config,
      caches,
      adHoc,
      webhooks,
      log: logging,
      access: { ...this.#config.access, principals, unknownPrincipals },
    };
    return changes;
  }

  close(): Promise<boolean> {
    this.#closing ??= this.#closeInPhases();
    return this.#closing;
  }

  /** First of all: a fault here is a fault of the configuration, for which nothing need be started. */
  async #openAccess(): Promise<void> {
    const { config, log } = this.#settings;
    const { http, access } = config;
    requireCredentials(config);
    const onError = (error: Error): void => {
      log.error(`${error.message}. What was read before stays in use.`);
    };
    this.#authenticator = await Authenticator.open({ access, onError });
    if (http.tls === null) return;
    const onRenewed = (): void =>
      log.info({ certFile: http.tls?.certFile }, 'the TLS certificate was read again');
    this.#tls = await openTls(http.tls, { onRenewed, onError });
  }

  async #openRedis(): Promise<RedisTarget> {
    const { config, searchPath, log } = this.#settings;
    const { url, cluster, fsync, serverPath, startTimeoutSeconds } = config.redis;
    if (url !== null) {
      this.redis = `Redis ${withoutPassword(url)}`;
      return { url, cluster };
    }
    this.#embedded = await startEmbeddedRedis({
      dataDir: config.dataDir,
      fsync,
      serverPath,
      searchPath,
      startTimeoutMs: startTimeoutSeconds * 1000,
      onCrash: (message) => log.error(message),
    });
    this.redis = `its own Redis in ${config.dataDir}`;
    log.info({ dataDir: config.dataDir, pid: this.#embedded.pid, fsync }, 'private Redis started');
    return { url: this.#embedded.url, cluster: false };
  }

  async #startTracing(): Promise<void> {
    const { config, log, ...settings } = this.#settings;
    const { endpoint, sampleRatio } = config.tracing;
    if (endpoint === null) return;
    this.#tracing = await startTracing({ ...settings, endpoint, sampleRatio });
    log.info({ endpoint: withoutPassword(endpoint), sampleRatio }, 'tracing');
  }

  #startWorker(store: WorkStore): void {
    const { config, hostName, processId, log } = this.#settings;
    const { worker } = config;
    this.#workStore = store;
    this.#worker = new FlushWorker({
      store,
      caches: config.caches,
      workerId: `${hostName}:${processId}:${randomUUID()}`,
      machineName: hostName,
      chunksPerCache: worker.chunksPerCache,
      lockMs: worker.lockSeconds * 1000,
      stalledCheckMs: worker.stalledCheckSeconds * 1000,
      maxStalls: worker.maxStalls,
      holdAfterMs: worker.holdAfterSeconds * 1000,
      idleSessionMs: worker.idleSessionSeconds * 1000,
      log,
      ...(this.#metrics?.work && { observer: this.#metrics.work }),
    });
  }

  #startAgent(store: WorkStore): void {
    const { config, hostName, log } = this.#settings;
    const { worker, agent } = config;
    this.#workStore = store;
    this.#agent = new TransferAgent({
      ...agent,
      store,
      node: agent.node ?? nodeOfHost(hostName),
      lockMs: worker.lockSeconds * 1000,
      stalledCheckMs: worker.stalledCheckSeconds * 1000,
      maxStalls: worker.maxStalls,
      log,
    });
  }

  /** In the processes that requests come to: they know the webhooks, and workers need no way to other hosts. */
  #startDeliverer(storeOptions: StoreOptions): void {
    const { config, version, log } = this.#settings;
    this.#deliveryStore = openDeliveryStore(storeOptions);
    this.#deliverer = new Deliverer({
      store: this.#deliveryStore,
      webhooks: config.webhooks,
      lockMs: config.worker.lockSeconds * 1000,
      stalledCheckMs: config.worker.stalledCheckSeconds * 1000,
      version,
      log,
    });
  }

  #startMetrics(storeOptions: StoreOptions): void {
    const { role, config, version } = this.#settings;
    this.#gauges = openGaugeReader({ ...storeOptions, caches: config.caches });
    this.#metrics = new ServiceMetrics({
      version,
      role,
      reader: this.#gauges,
      caches: role === 'all' || role === 'api',
      work: role === 'all' || role === 'worker',
      process: true,
    });
    if (this.#metrics.work) this.#metrics.work.loads = () => this.#worker?.loads() ?? [];
  }

  /** For a role without an API. Last of all: a process that answers works. */
  async #startScrapes(): Promise<void> {
    const { config, version } = this.#settings;
    const { metricsHost: host, metricsPort: port } = config.worker;
    if (port === null || this.#metrics === null) return;
    try {
      this.#scrapes = await listenForScrapes({ host, port, version, metrics: this.#metrics });
    } catch (error) {
      throw listenError(error, { host, port }, 'worker.metricsPort');
    }
    this.metricsUrl = urlOf(this.#scrapes.address() as AddressInfo, 'http');
  }

  /** Last of all, too. */
  async #startHealth(): Promise<void> {
    const { config, version } = this.#settings;
    const path = config.healthSocket;
    if (path === null) return;
    try {
      this.#health = await listenForHealth({ path, version });
    } catch (error) {
      throw socketError(error, path);
    }
  }

  async #startApi(store: JobStore): Promise<void> {
    const { config, version, log } = this.#settings;
    this.#jobStore = store;
    const { limits, caches, adHoc, http, access } = config;
    const authenticator = this.#authenticator;
    const targets = new Targets(caches, adHoc);
    this.#targets = targets;
    const app = buildApp({
      store,
      limits,
      targets,
      webhooks: () => this.#config.webhooks,
      log,
      version,
      shuttingDown: () => this.#shuttingDown,
      publicMetrics: access.publicMetrics,
      traced: this.#tracing !== null,
      answersAnyHost: access.insecureWithoutCredentials,
      ...(authenticator && { authenticate: (field) => authenticator.authenticate(field) }),
      ...(this.#tls && { tls: this.#tls.options }),
      dashboard: dashboardFiles(log),
      ...(this.#metrics && { metrics: this.#metrics }),
    });
    this.#app = app;
    try {
      await app.listen({ host: http.host, port: http.port });
    } catch (error) {
      throw listenError(error, http);
    }
    this.#tls?.renewFor(app.server as unknown as TlsServer);
    app.server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: Socket) => {
      log.info({ code: error.code, remoteAddress: socket.remoteAddress }, 'a client was refused by TLS');
    });
    this.url = urlOf(app.server.address() as AddressInfo, this.#tls === null ? 'http' : 'https');
  }

  async #closeInPhases(): Promise<boolean> {
    const { config, log } = this.#settings;
    const graceMs = config.worker.shutdownGraceSeconds * 1000;
    this.#shuttingDown = true;
    const phases = new ClosingPhases(log);
    await phases.run('worker', graceMs + WORKER_PHASE_MS, async () => this.#worker?.close(graceMs));
    await phases.run('agent', WORKER_PHASE_MS + PHASE_MS, async () => this.#agent?.close());
    await phases.run('webhooks', PHASE_MS, async () => this.#deliverer?.close(WEBHOOK_GRACE_MS));
    await phases.run('api', PHASE_MS, async () => this.#app?.close());
    this.#authenticator?.close();
    this.#tls?.close();
    await phases.run('store', PHASE_MS, async () => {
      // To the last it is told how the end goes.
      this.#scrapes?.close();
      this.#scrapes?.closeAllConnections();
      this.#health?.close();
      this.#health?.closeAllConnections();
      this.#gauges?.close();
      await Promise.all([
        this.#sweeper?.close(),
        this.#deliveryStore?.close(),
        this.#jobStore?.close(),
        this.#workStore?.close(),
      ]);
    });
    await phases.run('tracing', TRACING_PHASE_MS, async () => this.#tracing?.close());
    await phases.run('redis', REDIS_PHASE_MS, async () => this.#embedded?.stop());
    return phases.inTime;
  }
}

/** Without them the API works all the same. */
function dashboardFiles(log: Logger): DashboardFile[] {
  try {
    return readDashboard(fileURLToPath(new URL('../web', import.meta.url)));
  } catch (error) {
    log.warn({ err: error }, 'the dashboard is not built ("npm run build"): there is nothing at /');
    return [];
  }
}

/** The node that an agent on this host serves unless it is told another. */
function nodeOfHost(hostName: string): string {
  return hostName.split('.')[0] ?? hostName;
}
