import { writeFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Job } from '../src/model/job.js';
import { startGanesha } from '../test/support/ganesha.js';
import { startRedis } from '../test/support/redis.js';
import { bareEngine, fileName, loopbackTarget, syntheticFiles } from './latency.js';
import {
  type Program,
  peakMemory,
  type SimulatedPorts,
  startProgram,
  startSyntheticCache,
} from './processes.js';

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
const PREFIX = 'bench';
const POLL_EVERY_MS = 100;
const JOB_TIMEOUT_MS = 900_000;

export interface WholePathResult {
  server: PathServer;
  files: number;
  bareEngineSeconds: number;
  /** From the first byte of the POST until the job shows its end. */
  httpToDoneSeconds: number;
  timesTheEngine: number;
  /** Of this, until the 202. */
  ingestSeconds: number;
  ingestPathsPerSecond: number;
  apiPeakMemoryMiB: number;
  redisBytesPerFileQueued: number;
  redisBytesPerFileDone: number;
  statusPollMs: { samples: number; p50: number; p99: number; max: number };
}

/** @returns why not, where the server cannot run */
export async function benchWholePath(
  server: PathServer,
  files: number,
): Promise<WholePathResult | { skip: string }> {
  const opened = server === 'ganesha' ? await startGaneshaFiles(files) : await startSyntheticFiles(files);
  if ('skip' in opened) return opened;
  try {
    return await measure(server, opened, files);
  } finally {
    await opened.stop();
  }
}

async function measure(server: PathServer, fileServer: FileServer, files: number): Promise<WholePathResult> {
  const { exportPath, ports } = fileServer;
  const target = loopbackTarget(ports);
  const list = (count: number) => syntheticFiles(count);
  // Whoever comes first finds cold caches in the server and uncompiled code in V8: neither side should.
  await bareEngine(target, exportPath, list(Math.min(files, 10_000)), 'rfc1813', IN_FLIGHT);
  if (server === 'ganesha') await bareEngine(target, exportPath, list(files), 'rfc1813', IN_FLIGHT);
  const engine = files / (await bareEngine(target, exportPath, list(files), 'rfc1813', IN_FLIGHT));
  const folder = await mkdtemp(join(tmpdir(), 'writeback-bench-'));
  const redis = await startRedis({ durable: true });
  const programs: Program[] = [];
  const client = redis.client();
  try {
    const configFile = join(folder, 'config.yaml');
    await writeFile(configFile, configuration(redis.url, ports));
    const serve = (role: string) => {
      const program = startProgram(['serve', '--role', role, '--config', configFile], {
        WRITEBACK_LOG_LEVEL: 'warn',
      });
      programs.push(program);
      return program;
    };
    const api = serve('api');
    const url = /http:\/\/[^\s/]+/.exec(await api.line((line) => line.includes('http://')))?.[0] as string;
    const worker = serve('worker');
    await worker.line(() => true);

    const flushes = `${url}/v1/flushes?cache=bench&export=${exportPath}`;
    // As the engine above, the service has worked before.
    const { id: warmUp } = await post(flushes, Math.min(files, 10_000));
    await untilEnd(`${url}/v1/jobs/${warmUp}`, []);

    const begin = performance.now();
    const { id } = await post(flushes, files);
    const ingested = performance.now();
    const queuedBytes = await bytesOfJob(client, id);
    const polls: number[] = [];
    const job = await untilEnd(`${url}/v1/jobs/${id}`, polls);
    const seconds = (performance.now() - begin) / 1000;
    if (job.state !== 'succeeded' || job.progress.filesSucceeded !== files) {
      throw new Error(`the job ended as ${job.state}: ${JSON.stringify(job.progress)}`);
    }
    polls.sort((a, b) => a - b);
    const quantile = (q: number) =>
      round(polls[Math.min(polls.length - 1, Math.floor(polls.length * q))] ?? 0, 2);
    return {
      server,
      files,
      bareEngineSeconds: round(engine, 2),
      httpToDoneSeconds: round(seconds, 2),
      timesTheEngine: round(seconds / engine, 2),
      ingestSeconds: round((ingested - begin) / 1000, 2),
      ingestPathsPerSecond: Math.round(files / ((ingested - begin) / 1000)),
      apiPeakMemoryMiB: Math.round((await peakMemory(api.pid)) / 2 ** 20),
      redisBytesPerFileQueued: round(queuedBytes / files, 1),
      redisBytesPerFileDone: round((await bytesOfJob(client, id)) / files, 1),
      statusPollMs: { samples: polls.length, p50: quantile(0.5), p99: quantile(0.99), max: quantile(1) },
    };
  } finally {
    for (const program of programs.reverse()) await program.stop();
    await redis.stop();
    await rm(folder, { recursive: true, force: true });
  }
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

function configuration(redisUrl: string, ports: SimulatedPorts): string {
  return JSON.stringify({
    http: { port: 0 },
    redis: { url: redisUrl, keyPrefix: PREFIX },
    caches: [
      {
        name: 'bench',
        addresses: ['127.0.0.1'],
        dialect: 'rfc1813',
        ports: { mount: ports.mount, nfs: ports.nfs },
        limits: { inFlight: IN_FLIGHT },
      },
    ],
  });
}

/** The list in blocks of some 64 KiB, as a client would send it. */
function* listBlocks(files: number): Generator<Uint8Array> {
  let lines: string[] = [];
  for (let index = 0; index < files; index++) {
    lines.push(fileName(index));
    if (lines.length === 4096 || index === files - 1) {
      yield Buffer.from(`${lines.join('\n')}\n`);
      lines = [];
    }
  }
}

async function post(url: string, files: number): Promise<Job> {
  const posted = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: ReadableStream.from(listBlocks(files)),
    duplex: 'half',
  } as RequestInit);
  if (posted.status !== 202) throw new Error(`POST: ${posted.status} ${await posted.text()}`);
  return (await posted.json()) as Job;
}

async function untilEnd(url: string, polls: number[]): Promise<Job> {
  const giveUpAt = performance.now() + JOB_TIMEOUT_MS;
  while (performance.now() < giveUpAt) {
    const begin = performance.now();
    const job = (await (await fetch(url)).json()) as Job;
    polls.push(performance.now() - begin);
    if (job.finishedAt !== null) return job;
    await sleep(Math.min(POLL_EVERY_MS, job.progress.filesTotal / 1000));
  }
  throw new Error('the job did not end');
}

/** What Redis holds for one job, with all its overhead. */
async function bytesOfJob(client: Redis, id: string): Promise<number> {
  const keys = await client.keys(`{${PREFIX}}:job:${id}*`);
  let sum = 0;
  for (const key of keys) sum += Number(await client.call('MEMORY', 'USAGE', key, 'SAMPLES', '0'));
  return sum;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
