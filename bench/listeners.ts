import { performance } from 'node:perf_hooks';
import type { ClientsReport } from './listening-clients.js';
import { type Program, startHelper, startSyntheticCache } from './processes.js';
import { median, quantile } from './quantiles.js';
import { type BenchService, post, startBenchService, untilEnd } from './service.js';

/**
 * What listeners cost: the same job with nobody who watches it, and with hundreds of clients that poll its status or
 * hold Server-Sent Events open, in turn. Once on a cache that takes its time, as caches do, so that the job is bound by
 * the cache; once on one that answers at once, so that it is bound by the processors, of which the clients take their
 * share as well.
 */

const POLLING = 500;
const LISTENING = 200;
const ROUNDS = 3;
const WARM_UP_FILES = 10_000;

const WORKLOADS = [
  { workload: 'the cache', files: 40_000, flushLatencyMs: 20, inFlight: 64 },
  { workload: 'the processors', files: 100_000, flushLatencyMs: 0, inFlight: 256 },
] as const;

export interface ListenersResult {
  workload: string;
  polling: number;
  listening: number;
  filesPerSecondAlone: number;
  filesPerSecondWatched: number;
  lostPercent: number;
  pollsPerSecond: number;
  pollP50Ms: number;
  pollP99Ms: number;
  eventKilobytesPerSecond: number;
  /** Processors that each process kept busy. */
  apiAlone: number;
  apiWatched: number;
  workerAlone: number;
  workerWatched: number;
  redisAlone: number;
  redisWatched: number;
}

interface Run {
  seconds: number;
  cpu: Awaited<ReturnType<BenchService['cpu']>>;
  clients: ClientsReport | null;
}

export async function benchListeners(): Promise<ListenersResult[]> {
  const results: ListenersResult[] = [];
  for (const workload of WORKLOADS) results.push(await measure(workload));
  return results;
}

async function measure({
  workload,
  files,
  flushLatencyMs,
  inFlight,
}: (typeof WORKLOADS)[number]): Promise<ListenersResult> {
  // A file that was flushed once is clean, and no work any more: every run has its own.
  const cache = await startSyntheticCache(WARM_UP_FILES + 2 * ROUNDS * files, flushLatencyMs);
  try {
    const service = await startBenchService(
      { exportPath: '/synthetic', ports: cache.ports },
      inFlight,
      'hpc-cache',
    );
    const clients = startHelper('listening-clients.js', [String(POLLING), String(LISTENING)]);
    try {
      let first = 0;
      const run = async (count: number, watched: boolean): Promise<Run> => {
        const job = await post(`${service.url}/v1/flushes?cache=bench&export=/synthetic`, count, first);
        first += count;
        if (watched) clients.tell(`${service.url} ${job.id}`);
        const [begin, cpuBefore] = [performance.now(), await service.cpu()];
        const { startedAt, finishedAt, state } = await untilEnd(`${service.url}/v1/jobs/${job.id}`);
        const [wall, cpuAfter] = [(performance.now() - begin) / 1000, await service.cpu()];
        if (state !== 'succeeded') throw new Error(`the job ended as ${state}`);
        const part = (name: keyof Run['cpu']): number => (cpuAfter[name] - cpuBefore[name]) / wall;
        return {
          // By the clock of the service: the clients and their connections come and go outside of it.
          seconds: (Date.parse(finishedAt ?? '') - Date.parse(startedAt ?? '')) / 1000,
          cpu: { api: part('api'), worker: part('worker'), redis: part('redis') },
          clients: watched ? await reportOf(clients) : null,
        };
      };
      await run(WARM_UP_FILES, false);
      const alone: Run[] = [];
      const watched: Run[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        alone.push(await run(files, false));
        watched.push(await run(files, true));
      }
      return { workload, polling: POLLING, listening: LISTENING, ...summary(files, alone, watched) };
    } finally {
      await clients.stop();
      await service.stop();
    }
  } finally {
    await cache.program.stop();
  }
}

async function reportOf(clients: Program): Promise<ClientsReport> {
  const line = clients.line(() => true);
  clients.tell('');
  return JSON.parse(await line) as ClientsReport;
}

function summary(files: number, alone: readonly Run[], watched: readonly Run[]) {
  const perSecond = (runs: readonly Run[]): number => files / median(runs.map(({ seconds }) => seconds));
  const cpu = (runs: readonly Run[], name: keyof Run['cpu']): number =>
    round(median(runs.map((one) => one.cpu[name])), 2);
  const reports = watched.flatMap(({ clients }) => clients ?? []);
  const polls = reports.flatMap(({ pollMs }) => pollMs);
  const seconds = watched.reduce((sum, run) => sum + run.seconds, 0);
  const eventBytes = reports.reduce((sum, report) => sum + report.eventBytes, 0);
  return {
    filesPerSecondAlone: Math.round(perSecond(alone)),
    filesPerSecondWatched: Math.round(perSecond(watched)),
    lostPercent: round((1 - perSecond(watched) / perSecond(alone)) * 100, 1),
    pollsPerSecond: Math.round(polls.length / seconds),
    pollP50Ms: round(quantile(polls, 0.5), 1),
    pollP99Ms: round(quantile(polls, 0.99), 1),
    eventKilobytesPerSecond: Math.round(eventBytes / seconds / 1000),
    apiAlone: cpu(alone, 'api'),
    apiWatched: cpu(watched, 'api'),
    workerAlone: cpu(alone, 'worker'),
    workerWatched: cpu(watched, 'worker'),
    redisAlone: cpu(alone, 'redis'),
    redisWatched: cpu(watched, 'redis'),
  };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
