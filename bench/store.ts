import type { FileResult } from '../src/model/file-result.js';
import { LOCAL_PRINCIPAL } from '../src/model/principal.js';
import { bullWorker, NAS_QUEUE, newJob, openTestStore, result } from '../test/store/fixture.js';

/**
 * What a job of a million files costs the store alone: ingest, memory of this process and of Redis, work through the
 * queue with realistic results, and the latency of a status poll meanwhile. `node build/bench/store.js [files] [durable]`
 */
const files = Number(process.argv[2] ?? 1_000_000);
const durable = process.argv[3] === 'durable';

const t = await openTestStore({ redis: { durable } });
const client = t.redis.client();
const report: Record<string, number | string> = { files, durable: String(durable) };

let peakRss = 0;
let peakLagMs = 0;
let lastTick = performance.now();
const probe = setInterval(() => {
  const now = performance.now();
  peakLagMs = Math.max(peakLagMs, now - lastTick - 10);
  lastTick = now;
  peakRss = Math.max(peakRss, process.memoryUsage.rss());
}, 10);

const pathOf = (i: number): string =>
  `projects/climate/run-${String(Math.floor(i / 5000)).padStart(5, '0')}/output/step-${i % 97}/rank-${String(i % 5000).padStart(6, '0')}.h5`;

async function memory(): Promise<{ ours: number; bull: number }> {
  let ours = 0;
  let bull = 0;
  let cursor = '0';
  do {
    const [next, keys] = await client.scan(cursor, 'COUNT', 1000);
    cursor = next;
    const sizes = await Promise.all(keys.map((key) => client.memory('USAGE', key, 'SAMPLES', 0)));
    keys.forEach((key, i) => {
      if (key.includes(`${NAS_QUEUE}:`)) bull += sizes[i] ?? 0;
      else ours += sizes[i] ?? 0;
    });
  } while (cursor !== '0');
  return { ours, bull };
}

const rssBefore = process.memoryUsage.rss();
let started = performance.now();
const intake = t.store.openIntake(LOCAL_PRINCIPAL);
for (let i = 0; i < files; i++) {
  const full = intake.add(Buffer.from(pathOf(i)));
  // A stream gives way between its pieces, too.
  if (full !== undefined) await full;
}
report.addSeconds = (performance.now() - started) / 1000;
const { id } = await intake.commit(newJob());
report.ingestSeconds = (performance.now() - started) / 1000;
report.ingestRssBeforeMB = rssBefore / 1e6;
report.ingestPeakRssMB = peakRss / 1e6;
report.ingestPeakLagMs = peakLagMs;
const stored = await memory();
report.storedMB = stored.ours / 1e6;
report.storedBullMB = stored.bull / 1e6;

const polls: number[] = [];
let polling = true;
const poller = (async () => {
  while (polling) {
    const from = performance.now();
    await t.store.getJob(id);
    polls.push(performance.now() - from);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
})();

/** A number from 0 to 1 that looks like none of its neighbours (the finalizer of MurmurHash3). */
function random(i: number, salt: number): number {
  let h = i * 4 + salt;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}
/** Sizes, times and durations as various as real ones. */
function realistic(file: { index: number; path: string }): FileResult {
  const i = file.index;
  return result(file, {
    size: Math.floor(random(i, 1) * 5e7),
    mtimeMs: 1_700_000_000_000 + Math.floor(random(i, 2) * 3_600_000),
    durationMs: 5 + random(i, 3) * 400,
  });
}

started = performance.now();
let done = (): void => {};
const allDone = new Promise<void>((resolve) => {
  done = resolve;
});
const endWorker = bullWorker(
  t,
  NAS_QUEUE,
  async (item) => {
    const run = 'chunk' in item ? await t.work.chunks.begin(item.jobId, item.chunk) : null;
    if (!run) return;
    const results = run.files.map(realistic);
    for (let i = 0; i < results.length; i += 128) await t.work.chunks.record(run, results.slice(i, i + 128));
    await t.work.chunks.end(run);
    if ((await t.store.getRevision(id)).state === 'succeeded') done();
  },
  4,
);
await allDone;
await endWorker();
report.workSeconds = (performance.now() - started) / 1000;
polling = false;
await poller;
polls.sort((a, b) => a - b);
report.polls = polls.length;
report.pollP50Ms = polls[Math.floor(polls.length * 0.5)] ?? 0;
report.pollP99Ms = polls[Math.floor(polls.length * 0.99)] ?? 0;
report.pollMaxMs = polls.at(-1) ?? 0;
const ended = await memory();
report.endedMB = ended.ours / 1e6;
report.endedBullMB = ended.bull / 1e6;
for (const part of ['states', 'chunks', 'details', 'runs', 'errors']) {
  report[`${part}MB`] = ((await client.memory('USAGE', `{test}:job:${id}:${part}`, 'SAMPLES', 0)) ?? 0) / 1e6;
}
report.peakRssMB = peakRss / 1e6;
report.state = (await t.store.getJob(id)).state;
clearInterval(probe);
await t.close();
console.log(
  JSON.stringify(report, (_, value) => (typeof value === 'number' ? Number(value.toFixed(2)) : value), 2),
);
