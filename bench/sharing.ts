import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Job } from '../src/model/job.js';
import { startSyntheticCache } from './processes.js';
import { median } from './quantiles.js';
import { type BenchService, headersOf, post, startBenchService, untilEnd } from './service.js';

/**
 * How long ten files of one principal take while a million of another's are under way on the same cache: in one job, in a
 * thousand jobs, and in directories that are being expanded. Each on a cache that takes its time, where slots are
 * scarce, and on one that answers at once, where processors are.
 */

const MILLION = 1_000_000;
const TEN = 10;
const TURNS = 5;
const JOBS = 1000;
/** Jobs of a directory each: as many as a worker has in hand at a time. */
const DIRECTORIES = 4;
/** Requests under way at a time, of a client that submits many. */
const CLIENTS = 16;
const START_TIMEOUT_MS = 120_000;
const LOOK_MS = 100;

const CACHES = [
  { cache: 'takes half a second', flushLatencyMs: 500, inFlight: 64 },
  { cache: 'answers at once', flushLatencyMs: 0, inFlight: 256 },
] as const;
const SUBMISSIONS = ['one job', `${JOBS} jobs`, `${DIRECTORIES} directories`] as const;

export interface SharingResult {
  cache: string;
  millionAs: string;
  /** From the POST of the ten to the end of their job. */
  secondsMedian: number;
  secondsMax: number;
  /** Of the other's files, when the first ten were submitted and when the last had ended. */
  doneBefore: number;
  doneAfter: number;
}

export async function benchSharing(): Promise<SharingResult[]> {
  const results: SharingResult[] = [];
  for (const kind of CACHES) {
    for (const submission of SUBMISSIONS) results.push(await measure(kind, submission));
  }
  return results;
}

async function measure(
  { cache, flushLatencyMs, inFlight }: (typeof CACHES)[number],
  millionAs: (typeof SUBMISSIONS)[number],
): Promise<SharingResult> {
  const server = await startSyntheticCache(MILLION + TURNS * TEN, flushLatencyMs);
  try {
    const target = { exportPath: '/synthetic', ports: server.ports };
    const service = await startBenchService(target, inFlight, 'hpc-cache', ['many', 'few']);
    try {
      await submit(service, millionAs);
      const [, few] = service.tokens;
      const url = `${service.url}/v1/flushes?cache=bench&export=/synthetic`;
      const doneBefore = await untilUnderWay(service);
      const seconds: number[] = [];
      for (let turn = 0; turn < TURNS; turn++) {
        const begin = performance.now();
        const { id } = await post(url, TEN, MILLION + turn * TEN, few);
        const job = await untilEnd(`${service.url}/v1/jobs/${id}`, few);
        seconds.push((performance.now() - begin) / 1000);
        if (job.state !== 'succeeded') throw new Error(`the job of ten ended as ${job.state}`);
      }
      const doneAfter = await doneOfMillion(service);
      if (doneAfter >= MILLION) throw new Error('the million was done before the ten');
      return {
        ...{ cache, millionAs },
        secondsMedian: round(median(seconds)),
        secondsMax: round(Math.max(...seconds)),
        ...{ doneBefore, doneAfter },
      };
    } finally {
      await service.stop();
    }
  } finally {
    await server.program.stop();
  }
}

async function submit(service: BenchService, millionAs: (typeof SUBMISSIONS)[number]): Promise<void> {
  const [many] = service.tokens;
  const url = `${service.url}/v1/flushes`;
  const list = `${url}?cache=bench&export=/synthetic`;
  if (millionAs === 'one job') {
    await post(list, MILLION, 0, many);
    return;
  }
  if (millionAs === `${DIRECTORIES} directories`) {
    const body = JSON.stringify({ cache: 'bench', export: '/synthetic', directories: [{ path: '/' }] });
    const headers = { 'content-type': 'application/json', ...headersOf(many) };
    for (let i = 0; i < DIRECTORIES; i++) {
      const answer = await fetch(url, { method: 'POST', headers, body });
      if (answer.status !== 202) throw new Error(`POST: ${answer.status} ${await answer.text()}`);
    }
    return;
  }
  const each = MILLION / JOBS;
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < JOBS) await post(list, each, next++ * each, many);
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

async function untilUnderWay(service: BenchService): Promise<number> {
  const giveUpAt = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < giveUpAt) {
    const done = await doneOfMillion(service);
    if (done > 0) return done;
    await sleep(LOOK_MS);
  }
  throw new Error('the million did not begin');
}

/** Files that have ended, over all jobs of the first principal. */
async function doneOfMillion(service: BenchService): Promise<number> {
  const [many] = service.tokens;
  let done = 0;
  for (let url: string | null = `${service.url}/v1/jobs?limit=500`; url !== null; ) {
    const answer: Response = await fetch(url, { headers: headersOf(many) });
    if (answer.status !== 200) throw new Error(`GET: ${answer.status} ${await answer.text()}`);
    const { items } = (await answer.json()) as { items: Job[] };
    for (const { progress } of items) done += progress.filesSucceeded;
    const next: string | undefined = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1];
    url = next === undefined ? null : new URL(next, service.url).href;
  }
  return done;
}

function round(value: number): number {
  return Number(value.toFixed(2));
}
