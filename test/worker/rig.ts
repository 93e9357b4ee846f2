import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import { type CacheConfig, cacheConfigSchema } from '../../src/model/cache.js';
import type { Job } from '../../src/model/job.js';
import { type JobOwner, LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { isTerminalJobState } from '../../src/model/words.js';
import {
  type SimulatedCache,
  type SimulatedCacheOptions,
  startSimulatedCache,
} from '../../src/sim/server.js';
import { queueName } from '../../src/store/keys.js';
import type { NewFlush } from '../../src/store/types.js';
import { FlushWorker, type WorkerOptions } from '../../src/worker/worker.js';
import { newJob, openTestStore, submit, type TestStore } from '../store/fixture.js';
import type { TestRedisOptions } from '../support/redis.js';
import { until } from '../support/until.js';

/** A simulated cache, a store over a Redis of its own, and as many workers as a test wants. */
export interface Rig {
  test: TestStore;
  sim: SimulatedCache;
  cacheDir: string;
  filerDir: string;
  config: CacheConfig;
  queue: string;
  /** More of the same are other processes, as far as the store can tell. Closed at the end. */
  startWorker(options?: Partial<WorkerOptions>): FlushWorker;
  /** Starts the simulated cache again on its ports, after `sim.close()`. */
  restartSim(): Promise<void>;
  /** A job on the cache with the dialect `hpc-cache`. */
  submit(
    paths: Iterable<string | Uint8Array>,
    more?: Partial<NewFlush>,
    options?: Partial<NewFlush['options']>,
    owner?: JobOwner,
  ): Promise<string>;
  /** Waits for its end, and checks that every file is accounted for. */
  ended(id: string): Promise<Job>;
}

export interface RigOptions {
  sim?: SimulatedCacheOptions;
  /** Relative paths of files of the export /cache; their content is their name. */
  files?: readonly string[];
  /** So many files of the export /synthetic, to which jobs go then: nothing is moved, so it is fast. */
  synthetic?: number;
  limits?: Partial<CacheConfig['limits']>;
  callTimeoutSeconds?: number;
  redis?: TestRedisOptions;
}

const FOREVER_MS = 3600_000;

export async function startRig(t: TestContext, options: RigOptions = {}): Promise<Rig> {
  const folder = await mkdtemp(join(tmpdir(), 'writeback-worker-'));
  const cacheDir = join(folder, 'cache');
  const filerDir = join(folder, 'filer');
  await mkdir(cacheDir);
  for (const file of options.files ?? []) {
    await mkdir(dirname(join(cacheDir, file)), { recursive: true });
    await writeFile(join(cacheDir, file), file);
  }
  const simOptions: SimulatedCacheOptions = { cacheDir, filerDir, flushConcurrency: 10_000, ...options.sim };
  if (options.synthetic !== undefined) simOptions.syntheticFiles = options.synthetic;
  let sim = await startSimulatedCache(simOptions);
  const { ports } = sim;
  const config = cacheConfigSchema.parse({
    name: 'sim',
    addresses: [sim.address],
    dialect: 'hpc-cache',
    ports,
    limits: options.limits,
    callTimeoutSeconds: options.callTimeoutSeconds,
  });
  const test = await openTestStore({
    ...(options.redis && { redis: options.redis }),
    store: { caches: [config] },
    sweeper: { intervalMs: 100 },
  });
  test.sweeper.start();
  const workers: FlushWorker[] = [];
  t.after(async () => {
    await Promise.all(workers.map((worker) => worker.close(0)));
    await test.close();
    await sim.close();
    await rm(folder, { recursive: true, force: true });
  });

  return {
    test,
    get sim() {
      return sim;
    },
    cacheDir,
    filerDir,
    config,
    queue: queueName('sim', false),
    startWorker(more = {}) {
      const worker = new FlushWorker({
        store: test.openWork(),
        caches: [config],
        workerId: randomUUID(),
        machineName: 'test',
        chunksPerCache: 4,
        lockMs: 3000,
        stalledCheckMs: 1000,
        maxStalls: 5,
        holdAfterMs: 500,
        idleSessionMs: FOREVER_MS,
        log: pino({ level: process.env.TEST_LOG ?? 'silent' }, pino.destination(2)),
        ...more,
      });
      workers.push(worker);
      return worker;
    },
    async restartSim() {
      sim = await startSimulatedCache({ ...simOptions, ports });
    },
    submit(paths, more = {}, jobOptions = {}, owner = LOCAL_PRINCIPAL) {
      const base = newJob();
      return submit(
        test.store,
        paths,
        {
          cache: 'sim',
          export: options.synthetic === undefined ? '/cache' : '/synthetic',
          ...more,
          options: { ...base.options, dialect: 'hpc-cache', ...jobOptions },
        },
        owner,
      );
    },
    async ended(id) {
      let job = await test.store.getJob(id);
      await until(`${id} has ended`, async () => {
        job = await test.store.getJob(id);
        return isTerminalJobState(job.state);
      });
      checkSums(job);
      return job;
    },
  };
}

/** In a terminal state the counts by file state add up to all files. */
export function checkSums({ progress, state }: Job): void {
  const { filesTotal, filesPending, filesActive } = progress;
  const { filesSucceeded, filesFailed, filesSkipped, filesCanceled, filesExpired } = progress;
  const sum = filesSucceeded + filesFailed + filesSkipped + filesCanceled + filesExpired;
  if (sum !== filesTotal || filesPending !== 0 || filesActive !== 0) {
    throw new Error(`${state}: the counts do not add up: ${JSON.stringify(progress)}`);
  }
}

/** Files of /synthetic. */
export function numbered(count: number, first = 0): string[] {
  return Array.from({ length: count }, (_, i) => `file-${String(first + i).padStart(7, '0')}`);
}

export function names(count: number, folder = 'run'): string[] {
  return Array.from({ length: count }, (_, i) => `${folder}/f${i}`);
}
