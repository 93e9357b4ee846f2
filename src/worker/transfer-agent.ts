import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { discardAttempt } from '../copy/copy-file.js';
import { BandwidthLimit, CpuLimit, Throttle } from '../copy/throttle.js';
import { endedUntried } from '../model/file-result.js';
import type { TransferLimits } from '../model/job.js';
import { pathBytes } from '../model/pathname.js';
import type { QueueConnection } from '../store/connect.js';
import { nodeQueueName } from '../store/keys.js';
import type { ChunkRun, ExpansionRun, TransferWorkJob } from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';
import { DestinationClaims } from './destination-claims.js';
import { type ActiveItem, type ItemFate, ItemQueue, OTHERS_PAUSE_MS } from './item-queue.js';
import { tellOutages } from './outages.js';
import { NO_ROOM_PAUSE_MS, NoRoom, WaitingSeats } from './quota-room.js';
import { runTransferChunk, type TransferDeps } from './transfer-chunk.js';
import { runTransferExpansion } from './transfer-expansion.js';
import { fileError, type Roots } from './transfer-file.js';
import { runScrTransfer } from './transfer-scr.js';
import { FileTurns } from './transfer-turns.js';
import { within } from './within.js';

export interface TransferAgentOptions {
  store: WorkStore;
  node: string;
  sourceRoots: readonly string[];
  destinationRoots: readonly string[];
  /** Files copied at the same time, over all jobs. */
  concurrency: number;
  /** Of all jobs together. */
  limits: TransferLimits;
  bufferBytes: number;
  lockMs: number;
  stalledCheckMs: number;
  maxStalls: number;
  log: Logger;
}

/** A chunk is a list, and not files: what runs at the same time is decided by `concurrency`. */
const CHUNKS_AT_ONCE = 64;
const HEARTBEAT_MS = 3000;
/** What earlier agents left behind is looked for this often. */
const CLEAN_MS = 60_000;
const IDLE_POLL_MS = 1000;
const HAND_BACK_MS = 10_000;
const CLOSE_MS = 3000;

/** What all the chunks of a job that are in hand share. */
interface JobShare {
  throttle: Throttle;
  claims: DestinationClaims;
  /** Resolves when the claims of what was copied before are known. */
  ready: Promise<void>;
  users: number;
}

/** Serves the queue of one node: copies what its transfers list, within the node's roots and limits. */
export class TransferAgent {
  readonly #options: TransferAgentOptions;
  readonly #queue: string;
  /** Another one of the same node may come before this one is seen to be gone. */
  readonly #name = randomUUID();
  readonly #log: Logger;
  readonly #roots: Roots;
  readonly #turns: FileTurns;
  readonly #seats = new WaitingSeats(CHUNKS_AT_ONCE);
  readonly #nodeThrottle: Throttle;
  readonly #shares = new Map<string, JobShare>();
  readonly #connection: QueueConnection;
  readonly #items: ItemQueue;
  readonly #unwatch: (() => void)[] = [];
  readonly #timers: NodeJS.Timeout[];
  #paused = false;
  #cleaning: Promise<void> | null = null;
  #closing: Promise<boolean> | null = null;

  constructor(options: TransferAgentOptions) {
    const { store, node, concurrency, limits } = options;
    this.#options = options;
    this.#queue = nodeQueueName(node);
    this.#log = options.log.child({ node });
    this.#roots = {
      source: { paths: options.sourceRoots.map((root) => pathBytes(root)), followsLinks: true },
      destination: { paths: options.destinationRoots.map((root) => pathBytes(root)), followsLinks: true },
    };
    this.#turns = new FileTurns(concurrency);
    this.#nodeThrottle = new Throttle(
      new BandwidthLimit(limits.bytesPerSecond),
      new CpuLimit(limits.cpuPercent),
    );
    this.#connection = store.newConnection();
    tellOutages(this.#connection, this.#log, () => this.#closing !== null);
    this.#items = new ItemQueue({
      ...options,
      connection: this.#connection.redis,
      queue: this.#queue,
      concurrency: CHUNKS_AT_ONCE,
      idlePollMs: IDLE_POLL_MS,
      log: this.#log,
      work: (item) => this.#work(item),
    });
    this.#unwatch.push(
      store.watchEndings((jobId, why) => {
        this.#items.endJob(jobId, why);
        // Whatever is nobody's any more, also of agents that died.
        setTimeout(() => this.#clean(), HEARTBEAT_MS).unref();
      }),
      store.transfers.watchLimits((jobId) => void this.#askLimits(jobId)),
    );
    this.#timers = [
      setInterval(() => this.#show(), HEARTBEAT_MS),
      setInterval(() => this.#clean(), CLEAN_MS),
    ];
    this.#show();
    this.#clean();
  }

  get itemsInHand(): number {
    return this.#items.items.size;
  }

  /**
   * Takes nothing more, finishes and records the bursts under way, gives everything back to the queue and says that it
   * leaves. The store is its owner's to close, afterwards.
   * @returns false if that did not end in its time, e.g. because Redis is away
   */
  close(): Promise<boolean> {
    this.#closing ??= this.#closeInPhases();
    return this.#closing;
  }

  async #closeInPhases(): Promise<boolean> {
    for (const timer of this.#timers) clearInterval(timer);
    for (const unwatch of this.#unwatch) unwatch();
    const drained = await within(HAND_BACK_MS, async () => {
      await this.#items.stopTaking();
      this.#items.handBackAll();
      await this.#items.empty();
      await this.#cleaning;
      await this.#options.store.caches.serves(this.#queue, this.#name, false);
    });
    if (!drained)
      this.#log.warn({ items: this.itemsInHand }, 'agent: not everything was handed back in time');
    const closed = await within(CLOSE_MS, () => this.#items.close());
    this.#connection.end();
    return drained && closed;
  }

  async #work(item: ActiveItem): Promise<ItemFate> {
    const { jobId, data } = item;
    if ('directory' in data) return this.#directory(item, jobId, data.directory);
    return (await this.#chunk(item, jobId, data.chunk)) ? 'done' : 'again';
  }

  async #chunk(item: ActiveItem, jobId: string, chunk: number): Promise<boolean> {
    const { leave, abort } = item;
    // What has begun as well: it goes on behind what is durable.
    leave.signal.addEventListener('abort', () => abort.abort(leave.signal.reason));
    const { store, maxStalls } = this.#options;
    // What an SCR transfer file lists is for the one that drives it.
    if (await store.transfers.drivesScr(jobId)) return true;
    const run = await store.chunks.begin<TransferWorkJob>(jobId, chunk);
    if (run === null || run.files.length === 0) return true;
    this.#log.debug({ job: jobId, chunk, run: run.run, files: run.files.length }, 'chunk begun');
    if (item.stalls > maxStalls) {
      await this.#failLost(run, item.stalls);
      return true;
    }
    return this.#sharing(run.job, (deps) => runTransferChunk(run, item.abort, deps));
  }

  async #directory(item: ActiveItem, jobId: string, directory: number): Promise<ItemFate> {
    const { store, concurrency, maxStalls } = this.#options;
    const run = await store.expansions.begin<TransferWorkJob>(jobId, directory);
    if (run === null) return 'done';
    if (run === 'later') return { afterMs: OTHERS_PAUSE_MS };
    if (run === 'no room') return { afterMs: NO_ROOM_PAUSE_MS };
    if (item.stalls > maxStalls) {
      await store.expansions.appendEnded(run, [endedUntried(0, run.request.path, agentLost(item.stalls))]);
      await store.expansions.end(run, 1);
      return 'done';
    }
    return this.#sharing(run.job, async (deps) => {
      try {
        await this.#expand(run, item.abort, { ...deps, store }, concurrency);
        return 'done';
      } catch (error) {
        if (item.abort.signal.aborted && error === item.abort.signal.reason) return 'again';
        if (error instanceof NoRoom) return { afterMs: NO_ROOM_PAUSE_MS };
        throw error;
      }
    });
  }

  async #expand(
    run: ExpansionRun<TransferWorkJob>,
    abort: AbortController,
    deps: TransferDeps & { store: WorkStore },
    filesAtOnce: number,
  ): Promise<void> {
    if (run.job.options.scrTransferFile === null) {
      return runTransferExpansion(run, abort.signal, { ...deps, seats: this.#seats });
    }
    return runScrTransfer(run, abort, { ...deps, filesAtOnce, log: this.#log });
  }

  async #failLost(run: ChunkRun<TransferWorkJob>, stalls: number): Promise<void> {
    const { store } = this.#options;
    this.#log.error({ job: run.job.id, chunk: run.chunk, stalls }, 'a chunk is given up: its agents died');
    await store.chunks.record(
      run,
      run.files.map(({ index, path }) => endedUntried(index, path, agentLost(stalls))),
    );
    await store.chunks.end(run);
  }

  /** All chunks of a job that are in hand at the same time share its limits, and know of each other's destinations. */
  async #sharing<T>(job: TransferWorkJob, work: (deps: TransferDeps) => Promise<T>): Promise<T> {
    let share = this.#shares.get(job.id);
    if (share === undefined) {
      const throttle = new Throttle(new BandwidthLimit(), new CpuLimit(), this.#nodeThrottle);
      const claims = new DestinationClaims();
      const copied = this.#options.store.transfers.copied(job.id);
      const ready = claims.restore(copied, rootsOf(job, this.#roots).destination);
      share = { throttle, claims, ready, users: 0 };
      this.#shares.set(job.id, share);
    }
    share.users++;
    try {
      await share.ready;
      // Before the first burst: what was asked at submission, or since.
      await this.#askLimits(job.id, job);
      return await work({
        store: this.#options.store,
        roots: rootsOf(job, this.#roots),
        bufferBytes: this.#options.bufferBytes,
        turns: this.#turns,
        throttle: share.throttle,
        claims: share.claims,
        onOrders: ({ limits }) => this.#setLimits(job.id, limits),
      });
    } finally {
      share.users--;
      if (share.users === 0) this.#shares.delete(job.id);
    }
  }

  async #askLimits(jobId: string, job: { id: string; queue: string } = { id: jobId, queue: this.#queue }) {
    if (!this.#shares.has(jobId)) return;
    try {
      const { limits } = await this.#options.store.transfers.report(job, new Map());
      this.#setLimits(jobId, limits);
    } catch (error) {
      this.#log.debug({ err: error, job: jobId }, 'the limits of a job could not be read');
    }
  }

  #setLimits(jobId: string, limits: TransferLimits): void {
    const throttle = this.#shares.get(jobId)?.throttle;
    if (throttle === undefined) return;
    throttle.bandwidth.bytesPerSecond = limits.bytesPerSecond;
    throttle.cpu.percent = limits.cpuPercent;
  }

  /** A paused node gives everything back, with what is durable of it: its queue keeps that until it is resumed. */
  #show(): void {
    const { store, node } = this.#options;
    const show = async (): Promise<void> => {
      await store.caches.serves(this.#queue, this.#name, true);
      const paused = await store.transfers.enlist(node);
      if (paused !== this.#paused) this.#log.info(paused ? 'the node is paused' : 'the node is resumed');
      this.#paused = paused;
      if (paused) this.#items.handBackAll();
    };
    show().catch((error: unknown) => {
      this.#log.debug({ err: error }, 'the store was not told that this agent is there');
    });
  }

  /** Removes temporary files of files that have ended while nobody had them in hand. */
  #clean(): void {
    if (this.#closing !== null) return;
    this.#cleaning ??= this.#cleanOnce()
      .catch((error: unknown) => this.#log.debug({ err: error }, 'cleaning up after earlier agents'))
      .finally(() => {
        this.#cleaning = null;
      });
  }

  async #cleanOnce(): Promise<void> {
    const { transfers } = this.#options.store;
    const inHand = new Set([...this.#items.items].map(({ jobId }) => jobId));
    for (const part of await transfers.allParts(this.#queue, inHand)) {
      if (!part.over) continue;
      const destination = pathBytes(part.destination);
      try {
        for (const attemptId of part.attempts)
          await discardAttempt({ destination, roots: this.#roots, attemptId });
        await transfers.forgetPart(this.#queue, part);
        this.#log.info({ job: part.jobId, destination: part.destination }, 'an unfinished copy was removed');
      } catch (error) {
        this.#log.warn(
          { err: error, destination: part.destination },
          'an unfinished copy could not be removed',
        );
      }
    }
  }
}

/** A principal that may touch only some directories could reach others through links. */
function rootsOf({ followsLinks }: TransferWorkJob, { source, destination }: Roots): Roots {
  return { source: { ...source, followsLinks }, destination: { ...destination, followsLinks } };
}

function agentLost(stalls: number) {
  return fileError(
    'WORKER_LOST',
    'copy',
    `${stalls} agents ended abnormally while they had it in hand; it is not tried again by itself`,
  );
}
