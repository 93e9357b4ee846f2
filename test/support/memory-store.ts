import { CACHE_HISTORY_EXAMPLE } from '../../src/api/examples.js';
import type { CacheLimits } from '../../src/model/cache.js';
import { BrokerError, FILE_ERRORS } from '../../src/model/errors.js';
import type { Cache, CacheHistory, ErrorGroup, Job, JobFile, TransferLimits } from '../../src/model/job.js';
import type { Node } from '../../src/model/node.js';
import { pathText } from '../../src/model/pathname.js';
import { type JobOwner, LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { type Delivery, shownWebhook } from '../../src/model/webhook.js';
import { isTerminalJobState, type JobState } from '../../src/model/words.js';
import { encodeEntry } from '../../src/store/entry.js';
import type {
  AcceptedJob,
  ChangedJobs,
  JobFilter,
  JobIntake,
  JobStore,
  NewFlush,
  NewJob,
  NewTransfer,
  Page,
  Revision,
} from '../../src/store/types.js';

/** The part of a store that routes can tell from the real one: for tests of routes alone, without Redis. */

export interface StoredJob {
  job: Job & Revision;
  request: NewJob;
  paths: Buffer[];
}

export class MemoryStore implements JobStore {
  readonly jobs: StoredJob[] = [];
  readonly caches = new Map<string, Cache>();
  readonly nodes = new Map<string, Node>();
  /** Thrown by every method while set. */
  failure: BrokerError | Error | null = null;
  aborted = 0;
  readonly claimed: string[] = [];
  /** Each `add` waits this long, as Redis under load would make it. */
  addDelay: (() => Promise<void>) | null = null;
  #waiting = new Set<() => void>();

  get waiting(): number {
    return this.#waiting.size;
  }

  openIntake(owner: JobOwner): JobIntake {
    this.#mayFail();
    const paths: Buffer[] = [];
    const warnings: Job['warnings'] = [];
    return {
      add: (path) => {
        paths.push(path instanceof Uint8Array ? Buffer.from(path) : encodeEntry(path));
        if (this.addDelay) return this.addDelay();
      },
      get filesAdded() {
        return paths.length;
      },
      warn: (code, message, count) => void warnings.push({ code, message, count }),
      claim: async (key) => {
        this.claimed.push(key);
        return false;
      },
      commit: async (request, options = {}): Promise<AcceptedJob> => {
        const same = this.jobs.at(-1)?.job;
        if (options.join && same) return { ...same, accepted: 'joined' };
        return { ...this.#store(request, paths, warnings, owner).job, accepted: 'made' };
      },
      abort: async () => {
        this.aborted++;
      },
    };
  }

  async getJob(id: string): Promise<Job & Revision> {
    return { ...this.find(id).job };
  }

  pollJob(id: string): Promise<Job & Revision> {
    return this.getJob(id);
  }

  async getRevision(id: string): Promise<Revision> {
    const { revision, state } = this.find(id).job;
    return { revision, state };
  }

  async waitForChange(id: string, since: string, untilTerminal: boolean, signal: AbortSignal): Promise<void> {
    for (;;) {
      const { job } = this.find(id);
      const done = untilTerminal ? isTerminalJobState(job.state) : job.revision !== since;
      if (done || signal.aborted) return;
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#waiting.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#waiting.add(wake);
        signal.addEventListener('abort', wake);
      });
    }
  }

  async listJobs(filter: JobFilter, cursor: string | null, limit: number): Promise<Page<Job>> {
    this.#mayFail();
    const all = this.jobs
      .map(({ job }) => job)
      .filter((job) => {
        const created = new Date(job.createdAt);
        return (
          (filter.principal === undefined || job.principal === filter.principal) &&
          (!filter.kind || job.kind === filter.kind) &&
          (!filter.states || filter.states.includes(job.state)) &&
          (!filter.cache || job.cache === filter.cache) &&
          (!filter.createdAfter || created >= filter.createdAfter) &&
          (!filter.createdBefore || created < filter.createdBefore) &&
          Object.entries(filter.labels ?? {}).every(([key, value]) => job.labels[key] === value)
        );
      })
      .reverse();
    return page(all, cursor, limit);
  }

  async lastPlace(): Promise<number> {
    return this.jobs.length;
  }

  async changedSince(place: number, limit: number): Promise<ChangedJobs> {
    const jobs = this.jobs.slice(place, place + limit).map(({ job }, i) => ({ job, place: place + i + 1 }));
    return { jobs, place: place + jobs.length };
  }

  watchChanges(): () => void {
    return () => {};
  }

  async listFiles(
    id: string,
    filter: Parameters<JobStore['listFiles']>[1],
    cursor: string | null,
    limit: number,
  ): Promise<Page<JobFile>> {
    const files = this.find(id).paths.map((path, index): JobFile => {
      const error = { code: 'ENOENT', nfsStatus: 2, phase: 'resolve', message: 'No such file.' } as const;
      const failed = path.includes('missing');
      return {
        index,
        path: pathText(path),
        destination: null,
        state: failed ? 'failed' : 'pending',
        outcome: null,
        evidence: null,
        attempts: 0,
        size: null,
        mtime: null,
        durationMs: null,
        firstError: failed ? error : null,
        lastError: failed ? error : null,
      };
    });
    const matching = files.filter(
      ({ state, lastError }) =>
        (!filter.states || filter.states.includes(state)) &&
        (!filter.code || lastError?.code === filter.code),
    );
    return page(matching, cursor, limit);
  }

  async errorGroups(id: string): Promise<ErrorGroup[]> {
    this.find(id);
    const { help, retryable } = FILE_ERRORS.ENOENT;
    return [
      {
        code: 'ENOENT',
        count: 1,
        help,
        retryable,
        samples: [{ path: '/missing', message: 'No such file.' }],
      },
    ];
  }

  async listDeliveries(id: string): Promise<Delivery[]> {
    this.find(id);
    return [];
  }

  async resend(id: string, deliveryId: string): Promise<Delivery> {
    this.find(id);
    throw new BrokerError('DELIVERY_NOT_FOUND', `Job ${id} has no delivery ${JSON.stringify(deliveryId)}.`);
  }

  async cancel(id: string): Promise<Job & Revision> {
    const { job } = this.find(id);
    if (!isTerminalJobState(job.state) && job.state !== 'canceling') this.change(id, 'canceling');
    return { ...job };
  }

  async ownerOf(id: string): Promise<string> {
    return this.find(id).job.principal;
  }

  async retry(id: string, owner: JobOwner | null): Promise<Job & Revision> {
    const { job, request, paths } = this.find(id);
    if (!isTerminalJobState(job.state)) throw new BrokerError('JOB_NOT_FINISHED', `${id} is ${job.state}.`);
    if (job.state === 'succeeded') throw new BrokerError('NOTHING_TO_RETRY', `${id} has no such file.`);
    return {
      ...this.#store(
        { ...request, parentJobId: id },
        paths,
        [],
        owner ?? { ...LOCAL_PRINCIPAL, name: job.principal },
      ).job,
    };
  }

  async setLimits(id: string, limits: Partial<TransferLimits>): Promise<Job & Revision> {
    const { job, request } = this.find(id);
    if (request.kind !== 'transfer') throw new BrokerError('NOT_A_TRANSFER', `Job ${id} is a flush.`);
    if (isTerminalJobState(job.state)) throw new BrokerError('JOB_ENDED', `Job ${id} has ended.`);
    Object.assign(request.options.limits, limits);
    return { ...job };
  }

  async filesQueuedOn(): Promise<number> {
    this.#mayFail();
    return 0;
  }

  async countRequest(): Promise<number> {
    this.#mayFail();
    return 0;
  }

  async listCaches(): Promise<Cache[]> {
    this.#mayFail();
    return [...this.caches.values()];
  }

  async getCache(name: string): Promise<Cache> {
    this.#mayFail();
    const cache = this.caches.get(name);
    if (!cache) throw new BrokerError('CACHE_NOT_FOUND', `There is no cache ${JSON.stringify(name)}.`);
    return cache;
  }

  async cacheHistory(name: string): Promise<CacheHistory> {
    await this.getCache(name);
    return CACHE_HISTORY_EXAMPLE;
  }

  reconfigure(): void {}

  async limitCache(name: string, change: Partial<CacheLimits> | null): Promise<Cache> {
    const cache = await this.getCache(name);
    return Object.assign(cache, {
      limits: { ...(change ? cache.limits : cache.limitsConfigured), ...change },
    });
  }

  async pauseCache(name: string, reason: string): Promise<Cache> {
    return Object.assign(await this.getCache(name), { paused: true, pausedReason: reason });
  }

  async resumeCache(name: string): Promise<Cache> {
    return Object.assign(await this.getCache(name), { paused: false, pausedReason: null });
  }

  async listNodes(shows: (name: string) => boolean): Promise<Page<Node>> {
    this.#mayFail();
    return { items: [...this.nodes.values()].filter(({ name }) => shows(name)), nextCursor: null };
  }

  async getNode(name: string): Promise<Node> {
    this.#mayFail();
    const node = this.nodes.get(name);
    if (!node) throw new BrokerError('NODE_NOT_FOUND', `There is no node ${JSON.stringify(name)}.`);
    return node;
  }

  async pauseNode(name: string, reason: string): Promise<Node> {
    return Object.assign(await this.getNode(name), { paused: true, pausedReason: reason });
  }

  async resumeNode(name: string): Promise<Node> {
    return Object.assign(await this.getNode(name), { paused: false, pausedReason: null });
  }

  async health() {
    this.#mayFail();
    return { ok: true, warnings: this.warnings };
  }
  warnings: string[] = [];

  async close(): Promise<void> {}

  /** A change of a job, as a worker would make it; wakes who waits. */
  change(id: string, state: JobState): void {
    const { job } = this.find(id);
    job.state = state;
    job.revision = `r${Number(job.revision.slice(1)) + 1}`;
    for (const wake of [...this.#waiting]) wake();
  }

  flush(id: string): NewFlush {
    const { request } = this.find(id);
    if (request.kind !== 'flush') throw new Error(`${id} is no flush`);
    return request;
  }

  transfer(id: string): NewTransfer {
    const { request } = this.find(id);
    if (request.kind !== 'transfer') throw new Error(`${id} is no transfer`);
    return request;
  }

  find(id: string): StoredJob {
    this.#mayFail();
    const found = this.jobs.find(({ job }) => job.id === id);
    if (id === 'gone') throw new BrokerError('JOB_GONE', 'The job "gone" ended long ago.');
    if (!found) throw new BrokerError('JOB_NOT_FOUND', `There is no job ${JSON.stringify(id)}.`);
    return found;
  }

  #mayFail(): void {
    if (this.failure) throw this.failure;
  }

  #store(request: NewJob, paths: Buffer[], warnings: Job['warnings'], owner: JobOwner): StoredJob {
    this.#mayFail();
    const now = new Date().toISOString();
    const zero = { filesActive: 0, filesSucceeded: 0, filesAlreadyClean: 0, filesFailed: 0, filesSkipped: 0 };
    const stored: StoredJob = {
      request,
      paths,
      job: {
        id: `f${this.jobs.length + 1}`,
        revision: 'r1',
        kind: request.kind,
        principal: owner.name,
        state: 'queued',
        paused: false,
        pausedReason: null,
        statusDetail: null,
        warnings,
        cache: request.kind === 'flush' ? request.cache : null,
        export: request.kind === 'flush' ? request.export : null,
        node: request.kind === 'transfer' ? request.node : null,
        labels: request.labels,
        options: request.options,
        webhook: request.webhook ? shownWebhook(request.webhook) : null,
        parentJobId: request.parentJobId,
        createdAt: now,
        startedAt: null,
        finishedAt: null,
        deadlineAt: new Date(Date.now() + request.options.deadlineSeconds * 1000).toISOString(),
        goneAt: null,
        progress: {
          ...zero,
          filesTotal: paths.length,
          filesTotalFinal: request.directories.length === 0,
          filesPending: paths.length,
          filesCanceled: 0,
          filesExpired: 0,
          bytesTotal: null,
          bytesDone: 0,
          filesPerSecond: null,
          bytesPerSecond: null,
          etaSeconds: null,
          faults: 0,
          updatedAt: now,
        },
      },
    };
    this.jobs.push(stored);
    return stored;
  }
}

function page<T>(all: T[], cursor: string | null, limit: number): Page<T> {
  const start = cursor === null ? 0 : Number(cursor);
  if (!Number.isInteger(start)) throw new BrokerError('VALIDATION', 'The cursor is not one of this list.');
  const end = start + limit;
  return { items: all.slice(start, end), nextCursor: end < all.length ? String(end) : null };
}
