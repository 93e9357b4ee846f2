import type { CacheConfig } from '../../src/model/cache.js';
import { cacheConfigSchema } from '../../src/model/cache.js';
import type { FileResult } from '../../src/model/file-result.js';
import { type JobOwner, LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { Keys } from '../../src/store/keys.js';
import { startQueueWorker } from '../../src/store/queue-worker.js';
import type { JobStoreOptions, SweeperOptions, WorkStoreOptions } from '../../src/store/settings.js';
import { openJobStore } from '../../src/store/store.js';
import { Sweeper } from '../../src/store/sweeper.js';
import type { JobIntake, JobStore, NewFlush } from '../../src/store/types.js';
import type { ChunkRun, WorkItem } from '../../src/store/work.js';
import { WorkStore } from '../../src/store/work-store.js';
import { startRedis, type TestRedis, type TestRedisOptions } from '../support/redis.js';

export const NAS: CacheConfig = cacheConfigSchema.parse({
  name: 'nas',
  addresses: ['10.0.0.1'],
  dialect: 'rfc1813',
});
export const NAS_QUEUE = 'cache-nas';

/** A store in all its parts over one private Redis. */
export interface TestStore {
  redis: TestRedis;
  keys: Keys;
  store: JobStore;
  work: WorkStore;
  sweeper: Sweeper;
  /** More of the same, as other processes would have; closed with the rest. */
  openStore(options?: Partial<JobStoreOptions>): Promise<JobStore>;
  openWork(options?: Partial<WorkStoreOptions>): WorkStore;
  openSweeper(options?: Partial<SweeperOptions>): Sweeper;
  close(): Promise<void>;
}

export async function openTestStore(
  options: {
    redis?: TestRedisOptions;
    store?: Partial<JobStoreOptions>;
    sweeper?: Partial<SweeperOptions>;
  } = {},
): Promise<TestStore> {
  const redis = await startRedis(options.redis);
  const common = { redis: { url: redis.url, cluster: redis.cluster }, keyPrefix: 'test' };
  const open: { close(): Promise<void> }[] = [];
  const keep = <T extends { close(): Promise<void> }>(part: T): T => {
    open.push(part);
    return part;
  };
  const openStore = async (more: Partial<JobStoreOptions> = {}): Promise<JobStore> =>
    keep(await openJobStore({ ...common, caches: [NAS], ...options.store, ...more }));
  const openWork = (more: Partial<WorkStoreOptions> = {}): WorkStore =>
    keep(new WorkStore({ ...common, ...more }));
  const openSweeper = (more: Partial<SweeperOptions> = {}): Sweeper =>
    keep(new Sweeper({ ...common, lostAfterMs: 0, ...options.sweeper, ...more }));
  return {
    redis,
    keys: new Keys('test'),
    store: await openStore(),
    work: openWork(),
    sweeper: openSweeper(),
    openStore,
    openWork,
    openSweeper,
    async close() {
      await Promise.all(open.map((part) => part.close()));
      await redis.stop();
    },
  };
}

export function newJob(more: Partial<NewFlush> = {}): NewFlush {
  return {
    kind: 'flush',
    cache: 'nas',
    adHocCache: null,
    export: '/export',
    directories: [],
    labels: {},
    options: {
      pathsAre: 'export',
      clientMount: null,
      dialect: 'rfc1813',
      mode: 'async',
      fileTimeoutSeconds: 60,
      deadlineSeconds: 3600,
    },
    parentJobId: null,
    ...more,
  };
}

export function manyPaths(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `run/${Math.floor(i / 100)}/rank-${i}.dat`);
}

export async function addAll(intake: JobIntake, paths: Iterable<string | Uint8Array>): Promise<void> {
  for (const path of paths) await intake.add(typeof path === 'string' ? Buffer.from(path) : path);
}

/** Stores a job of these paths; gives its id. */
export async function submit(
  store: JobStore,
  paths: Iterable<string | Uint8Array>,
  more: Partial<NewFlush> = {},
  owner: JobOwner = LOCAL_PRINCIPAL,
): Promise<string> {
  const intake = store.openIntake(owner);
  await addAll(intake, paths);
  return (await intake.commit(newJob(more))).id;
}

export function result(file: { index: number; path: string }, more: Partial<FileResult> = {}): FileResult {
  const failed = more.state !== undefined && more.state !== 'succeeded';
  const error = {
    code: 'ENOENT',
    nfsStatus: 2,
    phase: 'resolve',
    message: `LOOKUP of ${file.path} answered NFS3ERR_NOENT.`,
  } as const;
  return {
    index: file.index,
    path: file.path,
    state: 'succeeded',
    outcome: failed ? null : 'flushed',
    evidence: failed ? null : 'stable',
    attempts: 1,
    firstError: failed ? error : null,
    lastError: failed ? error : null,
    size: failed ? null : 1000 + file.index,
    mtimeMs: failed ? null : 1_700_000_000_000 + file.index,
    durationMs: 12,
    ...more,
  };
}

/** Takes up a chunk that must have something to do. */
export async function begin(work: WorkStore, jobId: string, chunk: number): Promise<ChunkRun> {
  const run = await work.chunks.begin(jobId, chunk);
  if (!run) throw new Error(`chunk ${chunk} of ${jobId} has nothing to do`);
  return run;
}

/** Works through the chunks of a job as a worker would, without a queue. */
export async function finishAll(
  work: WorkStore,
  jobId: string,
  chunks: number,
  resultOf: (file: { index: number; path: string }) => FileResult = (file) => result(file),
): Promise<void> {
  for (let chunk = 0; chunk < chunks; chunk++) {
    const run = await work.chunks.begin(jobId, chunk);
    if (!run) continue;
    await work.chunks.record(run, run.files.map(resultOf));
    await work.chunks.end(run);
  }
}

/** A BullMQ worker on the queue of a cache, with what real workers set. Returns what ends it. */
export function bullWorker(
  test: TestStore,
  queue: string,
  process: (item: WorkItem) => Promise<void>,
  concurrency = 1,
): () => Promise<void> {
  const connection = test.work.newConnection();
  const worker = startQueueWorker<WorkItem>(
    {
      connection: connection.redis,
      bullPrefix: test.work.bullPrefix,
      queue,
      concurrency,
      lockMs: 30_000,
      stalledCheckMs: 30_000,
      idlePollMs: 1000,
      canBeHeld: true,
    },
    (job) => process(job.data),
  );
  worker.on('error', () => {});
  return async () => {
    await worker.close(true);
    connection.end();
  };
}
