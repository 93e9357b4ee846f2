import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Redis } from 'ioredis';
import { type NewToken, newToken } from '../src/access/token.js';
import type { Job } from '../src/model/job.js';
import type { Dialect } from '../src/model/words.js';
import { startRedis } from '../test/support/redis.js';
import { fileName } from './latency.js';
import {
  cpuSeconds,
  type Program,
  peakMemory,
  type SimulatedPorts,
  startHelper,
  startProgram,
} from './processes.js';

const PREFIX = 'bench';
/** More often than a client would, for enough samples. */
const POLL_EVERY_MS = 50;
const JOB_TIMEOUT_MS = 900_000;

/** What one job through the service took. */
export interface JobRound {
  seconds: number;
  ingestSeconds: number;
  queuedBytes: number;
  doneBytes: number;
  polls: number[];
}

/** API, worker, Redis and a client that polls, each a process. */
export interface BenchService {
  readonly url: string;
  /** A credential for each of its principals; with none, nobody needs one. */
  readonly tokens: readonly string[];
  /** Sends a list of so many files and waits for the end of the job. */
  run(files: number): Promise<JobRound>;
  /** Seconds of processor time so far. */
  cpu(): Promise<Record<'api' | 'worker' | 'redis', number>>;
  /** Bytes. */
  apiPeakMemory(): Promise<number>;
  stop(): Promise<void>;
}

export async function startBenchService(
  { exportPath, ports }: { exportPath: string; ports: SimulatedPorts },
  inFlight: number,
  dialect: Dialect = 'rfc1813',
  principals: readonly string[] = [],
): Promise<BenchService> {
  const folder = await mkdtemp(join(tmpdir(), 'writeback-bench-'));
  const redis = await startRedis({ durable: true });
  const programs: Program[] = [];
  const client = redis.client();
  const stop = async () => {
    for (const program of programs.reverse()) await program.stop();
    await redis.stop();
    await rm(folder, { recursive: true, force: true });
  };
  const started = (program: Program): Program => {
    programs.push(program);
    return program;
  };
  try {
    const configFile = join(folder, 'config.yaml');
    const tokensFile = join(folder, 'tokens.json');
    const tokens = principals.map((principal) => ({ principal, ...newToken() }));
    await writeFile(tokensFile, tokensFileOf(tokens));
    await writeFile(configFile, configuration(redis.url, ports, inFlight, dialect, principals, tokensFile));
    const serve = (role: string) =>
      started(
        startProgram(['serve', '--role', role, '--config', configFile], { WRITEBACK_LOG_LEVEL: 'warn' }),
      );
    const api = serve('api');
    const url = /http:\/\/[^\s/]+/.exec(await api.line((line) => line.includes('http://')))?.[0] as string;
    const worker = serve('worker');
    await worker.line(() => true);
    const poller = started(startHelper('status-poller.js', [String(POLL_EVERY_MS)]));
    const pollUntilEnd = async (job: string): Promise<number[]> => {
      const line = poller.line(() => true, JOB_TIMEOUT_MS);
      poller.tell(job);
      return JSON.parse(await line) as number[];
    };
    return {
      url,
      tokens: tokens.map(({ token }) => token),
      async run(files) {
        const begin = performance.now();
        const { id } = await post(`${url}/v1/flushes?cache=bench&export=${exportPath}`, files);
        const ingested = performance.now();
        const polling = pollUntilEnd(`${url}/v1/jobs/${id}`);
        const queuedBytes = await bytesOfJob(client, id);
        const job = await untilEnd(`${url}/v1/jobs/${id}`);
        const ended = performance.now();
        if (job.state !== 'succeeded' || job.progress.filesSucceeded !== files) {
          throw new Error(`the job ended as ${job.state}: ${JSON.stringify(job.progress)}`);
        }
        return {
          seconds: (ended - begin) / 1000,
          ingestSeconds: (ingested - begin) / 1000,
          queuedBytes,
          doneBytes: await bytesOfJob(client, id),
          polls: await polling,
        };
      },
      cpu: async () => ({
        api: await cpuSeconds(api.pid),
        worker: await cpuSeconds(worker.pid),
        redis: await cpuSeconds(redis.pid),
      }),
      apiPeakMemory: () => peakMemory(api.pid),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function configuration(
  redisUrl: string,
  ports: SimulatedPorts,
  inFlight: number,
  dialect: Dialect,
  principals: readonly string[],
  tokensFile: string,
): string {
  const access = {
    tokensFile,
    principals: principals.map((name) => ({ name, caches: [{ name: 'bench' }] })),
  };
  return JSON.stringify({
    http: { port: 0 },
    redis: { url: redisUrl, keyPrefix: PREFIX },
    ...(principals.length > 0 && { access }),
    caches: [
      {
        name: 'bench',
        addresses: ['127.0.0.1'],
        dialect,
        ports: { mount: ports.mount, nfs: ports.nfs },
        limits: { inFlight },
      },
    ],
  });
}

function tokensFileOf(tokens: readonly ({ principal: string } & NewToken)[]): string {
  const entries = tokens.map(({ principal, id, digest }) => ({
    ...{ id, digest, principal, description: '' },
    createdAt: new Date().toISOString(),
    expiresAt: null,
  }));
  return JSON.stringify({ version: 1, tokens: entries });
}

/** The list in blocks of some 64 KiB, as a client would send it. */
function* listBlocks(files: number, first: number): Generator<Uint8Array> {
  let lines: string[] = [];
  for (let index = 0; index < files; index++) {
    lines.push(fileName(first + index));
    if (lines.length === 4096 || index === files - 1) {
      yield Buffer.from(`${lines.join('\n')}\n`);
      lines = [];
    }
  }
}

/** Of a request with that credential, if there is one. */
export function headersOf(token: string | undefined): Record<string, string> {
  return token === undefined ? {} : { authorization: `Bearer ${token}` };
}

/** @param first the number of the first file */
export async function post(url: string, files: number, first = 0, token?: string): Promise<Job> {
  const posted = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'text/plain', ...headersOf(token) },
    body: ReadableStream.from(listBlocks(files, first)),
    duplex: 'half',
  } as RequestInit);
  if (posted.status !== 202) throw new Error(`POST: ${posted.status} ${await posted.text()}`);
  return (await posted.json()) as Job;
}

/** Asked with a long poll, which tells the end at once and meanwhile costs next to nothing. */
export async function untilEnd(url: string, token?: string): Promise<Job> {
  const giveUpAt = performance.now() + JOB_TIMEOUT_MS;
  while (performance.now() < giveUpAt) {
    const answer = await fetch(`${url}?until=terminal`, {
      headers: { prefer: 'wait=20', ...headersOf(token) },
    });
    const job = (await answer.json()) as Job;
    if (job.finishedAt !== null) return job;
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
