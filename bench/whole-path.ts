import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startGanesha } from '../test/support/ganesha.js';
import { bareEngine, loopbackTarget, syntheticFiles } from './latency.js';
import { type SimulatedPorts, startSyntheticCache } from './processes.js';
import { median, quantile } from './quantiles.js';
import { type BenchService, type JobRound, startBenchService } from './service.js';

/**
 * The way from the POST to the end of the job: API, Redis with an fsync per write, worker and server are processes of
 * their own, against the engine alone on the same files. RFC 1813 COMMIT, so that no time is spent waiting for a flush:
 * on NFS-Ganesha with real files, and on a synthetic cache that answers faster than any server of files, which leaves
 * nothing to measure but ourselves.
 */

export const PATH_SERVERS = ['ganesha', 'synthetic'] as const;
export type PathServer = (typeof PATH_SERVERS)[number];

/** Where the files are. */
interface FileServer {
  exportPath: string;
  ports: SimulatedPorts;
  stop(): Promise<void>;
}

const IN_FLIGHT = 256;
/** Whoever comes first finds cold caches in the server and uncompiled code in V8: neither side should. */
const WARM_UP_FILES = 20_000;
/** Small lists are flushed several times, because a moment of the machine is a large part of them. */
const FILES_OF_ALL_ROUNDS = 300_000;
const MOST_ROUNDS = 5;

export interface WholePathResult {
  server: PathServer;
  files: number;
  /** Times are medians over these; engine and service take turns. */
  rounds: number;
  bareEngineSeconds: number;
  /** From the first byte of the POST until a long poll tells that the job has ended. */
  httpToDoneSeconds: number;
  timesTheEngine: number;
  /** Of this, until the 202. */
  ingestSeconds: number;
  ingestPathsPerSecond: number;
  /** Microseconds of processor time per file. */
  cpuMicros: { engine: number; api: number; worker: number; redis: number };
  apiPeakMemoryMiB: number;
  redisBytesPerFileQueued: number;
  redisBytesPerFileDone: number;
  /** From the request to the last byte of the answer, over all rounds. */
  statusPollMs: { samples: number; p50: number; p99: number; max: number };
}

/** @returns why not, where the server cannot run */
export async function benchWholePath(
  server: PathServer,
  files: number,
): Promise<WholePathResult | { skip: string }> {
  const shown = Math.max(files, WARM_UP_FILES);
  const opened = server === 'ganesha' ? await startGaneshaFiles(shown) : await startSyntheticFiles(shown);
  if ('skip' in opened) return opened;
  try {
    const service = await startBenchService(opened, IN_FLIGHT);
    try {
      return await measure(server, opened, files, service);
    } finally {
      await service.stop();
    }
  } finally {
    await opened.stop();
  }
}

async function measure(
  server: PathServer,
  { exportPath, ports }: FileServer,
  files: number,
  service: BenchService,
): Promise<WholePathResult> {
  const target = loopbackTarget(ports);
  const runEngine = async (count: number) =>
    count / (await bareEngine(target, exportPath, syntheticFiles(count), 'rfc1813', IN_FLIGHT));
  await runEngine(WARM_UP_FILES);
  await service.run(WARM_UP_FILES);

  const rounds = Math.max(1, Math.min(MOST_ROUNDS, Math.floor(FILES_OF_ALL_ROUNDS / files)));
  const engine: number[] = [];
  const jobs: JobRound[] = [];
  const cpu = { engine: 0, api: 0, worker: 0, redis: 0 };
  for (let round = 0; round < rounds; round++) {
    const before = process.cpuUsage();
    engine.push(await runEngine(files));
    const { user, system } = process.cpuUsage(before);
    cpu.engine += (user + system) / 1e6;
    const begin = await service.cpu();
    jobs.push(await service.run(files));
    const end = await service.cpu();
    for (const part of ['api', 'worker', 'redis'] as const) cpu[part] += end[part] - begin[part];
  }
  const of = (number: (job: JobRound) => number) => median(jobs.map(number));
  const micros = (seconds: number) => round((seconds * 1e6) / (files * rounds), 1);
  const ingestSeconds = of((job) => job.ingestSeconds);
  const polls = jobs.flatMap((job) => job.polls);
  return {
    server,
    files,
    rounds,
    bareEngineSeconds: round(median(engine), 3),
    httpToDoneSeconds: round(
      of(({ seconds }) => seconds),
      3,
    ),
    timesTheEngine: round(median(jobs.map(({ seconds }, i) => seconds / (engine[i] as number))), 2),
    ingestSeconds: round(ingestSeconds, 3),
    ingestPathsPerSecond: Math.round(files / ingestSeconds),
    cpuMicros: {
      engine: micros(cpu.engine),
      api: micros(cpu.api),
      worker: micros(cpu.worker),
      redis: micros(cpu.redis),
    },
    apiPeakMemoryMiB: Math.round((await service.apiPeakMemory()) / 2 ** 20),
    redisBytesPerFileQueued: round(of(({ queuedBytes }) => queuedBytes) / files, 1),
    redisBytesPerFileDone: round(of(({ doneBytes }) => doneBytes) / files, 1),
    statusPollMs: {
      samples: polls.length,
      p50: round(quantile(polls, 0.5), 2),
      p99: round(quantile(polls, 0.99), 2),
      max: round(quantile(polls, 1), 2),
    },
  };
}

async function startSyntheticFiles(files: number): Promise<FileServer> {
  const { program, ports } = await startSyntheticCache(files, 0);
  return { exportPath: '/synthetic', ports, stop: () => program.stop() };
}

async function startGaneshaFiles(files: number): Promise<FileServer | { skip: string }> {
  const exportPath = await mkdtemp(join(tmpdir(), 'writeback-bench-files-'));
  const remove = () => rm(exportPath, { recursive: true, force: true });
  const started = await startGanesha({ exports: [{ path: exportPath }] });
  if ('skip' in started) {
    await remove();
    return started;
  }
  for (const { path } of syntheticFiles(files)) writeFileSync(join(exportPath, path), path);
  return {
    exportPath,
    ports: { mount: started.mountPort, nfs: started.nfsPort },
    async stop() {
      await started.stop();
      await remove();
    },
  };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
