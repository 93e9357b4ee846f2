import { performance } from 'node:perf_hooks';
import type { ListeningReport, PollingReport } from './listening-clients.js';
import { cpuSeconds, type Program, startHelper, startSyntheticCache } from './processes.js';
import { median, quantile } from './quantiles.js';
import { type BenchService, post, startBenchService, untilEnd } from './service.js';

/**
 * What listeners cost: the same job with nobody who watches it, and with hundreds of clients that poll its status and
 * hundreds that hold Server-Sent Events open, in turn. Once on a cache that takes its time, as caches do, so that the
 * job is bound by the cache; once on one that answers at once, so that it is bound by the processors, of which the
 * clients take their share as well. At the end the job once with those that poll alone and once with those that listen
 * alone, which tells what a poll and an event cost each process.
 */

const POLLING = 500;
const LISTENING = 200;
/** As a loop with `sleep 1` asks. What waits for a job with a long poll, as our own clients do, asks less often. */
const POLL_EVERY_MS = 1000;
const ROUNDS = 3;
const RUNS = 2 * ROUNDS + 2;
const WARM_UP_FILES = 10_000;
const RUN_TIMEOUT_MS = 120_000;
/** As caches have it unless configured. */
const IN_FLIGHT = 256;

const WORKLOADS = [
  { workload: 'the cache', files: 14_000, flushLatencyMs: 100 },
  { workload: 'the processors', files: 24_000, flushLatencyMs: 0 },
] as const;

export interface ListenersResult {
  workload: string;
  files: number;
  rounds: number;
  polling: number;
  pollEveryMs: number;
  listening: number;
  filesPerSecondAlone: number;
  filesPerSecondWatched: number;
  lostPercent: number;
  pollsPerSecond: number;
  pollP50Ms: number;
  pollP99Ms: number;
  eventsPerSecond: number;
  eventKilobytesPerSecond: number;
  /** Processors that each process kept busy. */
  busyAlone: Busy;
  busyWatched: Busy;
  /** Microseconds of processor time, beyond what the job alone takes. */
  perPoll: CpuOfAnswer;
  perEvent: CpuOfAnswer;
}

type Busy = Record<'api' | 'worker' | 'redis' | 'pollingClients' | 'listeningClients', number>;
type CpuOfAnswer = Record<'api' | 'redis' | 'clients', number>;

interface Watchers {
  polling: boolean;
  listening: boolean;
}

interface Run {
  /** By the clock of the service: the clients and their connections come and go outside of it. */
  seconds: number;
  busy: Busy;
  polls: PollingReport | null;
  events: ListeningReport | null;
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
}: (typeof WORKLOADS)[number]): Promise<ListenersResult> {
  // A file that was flushed once is clean, and no work any more: every run has its own.
  const cache = await startSyntheticCache(WARM_UP_FILES + RUNS * files, flushLatencyMs);
  const programs: { stop(): Promise<void> }[] = [cache.program];
  try {
    const service = await startBenchService(
      { exportPath: '/synthetic', ports: cache.ports },
      IN_FLIGHT,
      'hpc-cache',
    );
    programs.push(service);
    const polling = startHelper('listening-clients.js', ['poll', String(POLLING), String(POLL_EVERY_MS)]);
    const listening = startHelper('listening-clients.js', ['listen', String(LISTENING)]);
    programs.push(polling, listening);
    const job = new WatchedJob(service, polling, listening);
    await job.run(WARM_UP_FILES, { polling: true, listening: true });
    const alone: Run[] = [];
    const watched: Run[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      alone.push(await job.run(files, { polling: false, listening: false }));
      watched.push(await job.run(files, { polling: true, listening: true }));
    }
    const polled = await job.run(files, { polling: true, listening: false });
    const heard = await job.run(files, { polling: false, listening: true });
    return {
      workload,
      files,
      rounds: ROUNDS,
      polling: POLLING,
      pollEveryMs: POLL_EVERY_MS,
      listening: LISTENING,
      ...summary(files, alone, watched),
      perPoll: cpuOf(polled, alone, 'pollingClients', polled.polls?.pollMs.length ?? 0),
      perEvent: cpuOf(heard, alone, 'listeningClients', heard.events?.events ?? 0),
    };
  } finally {
    for (const program of programs.reverse()) await program.stop();
  }
}

/** The same job again and again, of other files each time, with or without those who watch it. */
class WatchedJob {
  readonly #service: BenchService;
  readonly #polling: Program;
  readonly #listening: Program;
  #first = 0;

  constructor(service: BenchService, polling: Program, listening: Program) {
    this.#service = service;
    this.#polling = polling;
    this.#listening = listening;
  }

  async run(files: number, { polling, listening }: Watchers): Promise<Run> {
    const { url } = this.#service;
    const { id } = await post(`${url}/v1/flushes?cache=bench&export=/synthetic`, files, this.#first);
    this.#first += files;
    const [begin, cpuBefore] = [performance.now(), await this.#cpu()];
    const asked = `${url} ${id}`;
    const polls = polling ? begun<PollingReport>(this.#polling, asked) : null;
    const events = listening ? begun<ListeningReport>(this.#listening, asked) : null;
    const job = untilEnd(`${url}/v1/jobs/${id}`);
    // Clients that fail are not waited for.
    await Promise.race([job, ...[polls, events].flatMap((clients) => clients?.report ?? [])]);
    const { startedAt, finishedAt, state } = await job;
    const [wall, cpuAfter] = [(performance.now() - begin) / 1000, await this.#cpu()];
    if (state !== 'succeeded') throw new Error(`the job ended as ${state}`);
    const busy = (name: keyof Busy): number => (cpuAfter[name] - cpuBefore[name]) / wall;
    return {
      seconds: (Date.parse(finishedAt ?? '') - Date.parse(startedAt ?? '')) / 1000,
      busy: busyOf(busy),
      polls: (await polls?.end()) ?? null,
      events: (await events?.end()) ?? null,
    };
  }

  async #cpu(): Promise<Busy> {
    return {
      ...(await this.#service.cpu()),
      pollingClients: await cpuSeconds(this.#polling.pid),
      listeningClients: await cpuSeconds(this.#listening.pid),
    };
  }
}

interface Begun<Report> {
  /** Rejected when the clients fail. */
  readonly report: Promise<Report>;
  end(): Promise<Report>;
}

function begun<Report>(clients: Program, asked: string): Begun<Report> {
  const report = clients.line(() => true, RUN_TIMEOUT_MS).then((line) => JSON.parse(line) as Report);
  // Told by who waits for it.
  report.catch(() => {});
  clients.tell(asked);
  return {
    report,
    end() {
      clients.tell('');
      return report;
    },
  };
}

function busyOf(of: (name: keyof Busy) => number): Busy {
  return {
    api: of('api'),
    worker: of('worker'),
    redis: of('redis'),
    pollingClients: of('pollingClients'),
    listeningClients: of('listeningClients'),
  };
}

function summary(files: number, alone: readonly Run[], watched: readonly Run[]) {
  const perSecond = (runs: readonly Run[]): number => files / median(runs.map(({ seconds }) => seconds));
  const busy = (runs: readonly Run[]): Busy =>
    busyOf((name) => round(median(runs.map((run) => run.busy[name])), 2));
  const pollMs = watched.flatMap(({ polls }) => polls?.pollMs ?? []);
  const seconds = watched.reduce((sum, run) => sum + run.seconds, 0);
  const events = watched.reduce((sum, run) => sum + (run.events?.events ?? 0), 0);
  const eventBytes = watched.reduce((sum, run) => sum + (run.events?.bytes ?? 0), 0);
  return {
    filesPerSecondAlone: Math.round(perSecond(alone)),
    filesPerSecondWatched: Math.round(perSecond(watched)),
    lostPercent: round((1 - perSecond(watched) / perSecond(alone)) * 100, 1),
    pollsPerSecond: Math.round(pollMs.length / seconds),
    pollP50Ms: round(quantile(pollMs, 0.5), 1),
    pollP99Ms: round(quantile(pollMs, 0.99), 1),
    eventsPerSecond: Math.round(events / seconds),
    eventKilobytesPerSecond: Math.round(eventBytes / seconds / 1000),
    busyAlone: busy(alone),
    busyWatched: busy(watched),
  };
}

/** What each of `answers` took of API, Redis and the clients that got them. */
function cpuOf(
  run: Run,
  alone: readonly Run[],
  clients: 'pollingClients' | 'listeningClients',
  answers: number,
): CpuOfAnswer {
  const micros = (name: keyof Busy): number => {
    const more = run.busy[name] - median(alone.map(({ busy }) => busy[name]));
    return Math.round((more * run.seconds * 1e6) / answers);
  };
  return { api: micros('api'), redis: micros('redis'), clients: micros(clients) };
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
