import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Job } from '../src/model/job.js';
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
 * The way from the POST to the end of the job: API, Redis with an fsync per write, worker and cache are processes of
 * their own, against the engine alone on the same files. RFC 1813 COMMIT on a cache that answers at once, so that
 * what is measured is our own work and not the time a flush takes.
 */

const EXPORT = '/synthetic';
const IN_FLIGHT = 256;
const PREFIX = 'bench';
const POLL_EVERY_MS = 100;
const JOB_TIMEOUT_MS = 900_000;

export interface WholePathResult {
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

export async function benchWholePath(files: number): Promise<WholePathResult> {
  const engine = await bareEngineSeconds(files);
  const folder = await mkdtemp(join(tmpdir(), 'writeback-bench-'));
  const redis = await startRedis({ durable: true });
  const cache = await startSyntheticCache(files, 0);
  const programs: Program[] = [cache.program];
  const client = redis.client();
  try {
    const configFile = join(folder, 'config.yaml');
    await writeFile(configFile, configuration(redis.url, cache.ports));
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

    const begin = performance.now();
    const posted = await fetch(`${url}/v1/flushes?cache=bench&export=${EXPORT}`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain' },
      body: ReadableStream.from(listBlocks(files)),
      duplex: 'half',
    } as RequestInit);
    if (posted.status !== 202) throw new Error(`POST: ${posted.status} ${await posted.text()}`);
    const { id } = (await posted.json()) as Job;
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

async function bareEngineSeconds(files: number): Promise<number> {
  const { program, ports } = await startSyntheticCache(files, 0);
  try {
    const rate = await bareEngine(loopbackTarget(ports), EXPORT, syntheticFiles(files), 'rfc1813', IN_FLIGHT);
    return files / rate;
  } finally {
    await program.stop();
  }
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
