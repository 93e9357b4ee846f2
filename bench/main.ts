import { execFile } from 'node:child_process';
import { cpus, loadavg, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { benchCopy } from './copy.js';
import { benchLatency } from './latency.js';
import { benchListeners } from './listeners.js';
import { type BenchResults, judge, type StoreResult } from './promises.js';
import { benchRaw } from './raw.js';
import { benchSharing } from './sharing.js';
import { benchWholePath, PATH_SERVERS, type WholePathResult } from './whole-path.js';

/**
 * `npm run bench [-- --only raw,latency,path,listeners,sharing,store,copy] [--files 1000,100000,1000000]`: everything on loopback
 * and in one run, so that the ratios compare like with like. Prints tables as it goes, then what is promised and whether
 * it holds, and all of it as JSON at the end. See docs/BENCHMARK.md.
 */

const PARTS = ['raw', 'latency', 'path', 'listeners', 'sharing', 'store', 'copy'];

const STORE_TIMEOUT_MS = 600_000;
/** A job may have no more. */
const MOST_FILES = 5_000_000;
/** More real files would take longer to make than to flush. */
const MOST_REAL_FILES = 200_000;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: PARTS.join(',') },
    files: { type: 'string', default: '1000,100000,1000000' },
  },
});
const parts = values.only.split(',');
const counts = values.files.split(',').map(Number);
const unknown = parts.find((part) => !PARTS.includes(part));
if (unknown !== undefined) usage(`--only: there is no part "${unknown}"; there are ${PARTS.join(', ')}.`);
if (!counts.every((count) => Number.isSafeInteger(count) && count >= 1 && count <= MOST_FILES))
  usage(`--files takes whole numbers from 1 to ${MOST_FILES}, separated by commas.`);

const [busy = 0] = loadavg();
if (busy > cpus().length / 4)
  console.log(
    `Other programs use this machine (load average ${busy.toFixed(1)}): the numbers will be worse than they could be.`,
  );
const results: BenchResults = {
  machine: {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    loadAverageBefore: Number(busy.toFixed(2)),
  },
};

if (parts.includes('raw')) {
  const raw = await benchRaw();
  results.raw = raw;
  console.log(`\nLOOKUP + COMMIT of ${raw.files} files, files per second (median of ${raw.rounds})`);
  if ('skip' in raw.ganesha) console.log(`NFS-Ganesha: skipped, ${raw.ganesha.skip}`);
  else {
    const { clientCold, clientWarm, engine, libnfs, coldToLibnfs, warmToLibnfs } = raw.ganesha;
    console.table({
      'our client in a new process, NFS-Ganesha': clientCold,
      [`our client after ${raw.files} files, NFS-Ganesha`]: clientWarm,
      'our engine, NFS-Ganesha': engine,
      'libnfs (C, asynchronous, window 64), NFS-Ganesha': libnfs ?? 'not compiled: needs gcc and libnfs-dev',
      'our client in a new process ÷ libnfs': coldToLibnfs ?? 'unknown',
      [`our client after ${raw.files} files ÷ libnfs`]: warmToLibnfs ?? 'unknown',
      'our client in a new process, simulated cache': raw.simulator.client,
    });
  }
}

if (parts.includes('latency')) {
  const latency = await benchLatency();
  results.latency = latency;
  const { reference, ours } = latency;
  console.log(`\nA flush takes ${latency.flushLatencyMs} ms: files per second`);
  console.table({
    [`${reference.inFlight} in flight, polled every ${reference.pollMs} ms`]: reference.filesPerSecond,
    [`${ours.inFlight} in flight, the engine's own polling`]: ours.filesPerSecond,
    'times the reference': latency.timesTheReference,
  });
}

if (parts.includes('path')) {
  const rows: WholePathResult[] = [];
  for (const files of counts) {
    for (const server of PATH_SERVERS) {
      if (server === 'ganesha' && files > MOST_REAL_FILES) continue;
      const row = await benchWholePath(server, files);
      if ('skip' in row) {
        console.log(`\nFrom the POST to the end of the job on ${server}: skipped, ${row.skip}`);
        continue;
      }
      rows.push(row);
      console.log(`\nFrom the POST to the end of the job, ${files} files on ${server}`);
      const { statusPollMs, cpuMicros, ...shown } = row;
      console.table({
        ...shown,
        ...Object.fromEntries(Object.entries(cpuMicros).map(([part, n]) => [`${part}: CPU µs per file`, n])),
        statusPolls: statusPollMs.samples,
        statusPollP50Ms: statusPollMs.p50,
        statusPollP99Ms: statusPollMs.p99,
        statusPollMaxMs: statusPollMs.max,
      });
    }
  }
  results.wholePath = rows;
}

if (parts.includes('listeners')) {
  const listeners = await benchListeners();
  results.listeners = listeners;
  for (const row of listeners) {
    const { workload, files, rounds, polling, pollEveryMs, listening, ...shown } = row;
    const { busyAlone, busyWatched, perPoll, perEvent, ...numbers } = shown;
    console.log(
      `\n${polling} clients poll a job of ${files} files every ${pollEveryMs} ms and ${listening} listen; it is bound by ${workload} (median of ${rounds})`,
    );
    console.table(numbers);
    console.log('Processors kept busy');
    console.table({ alone: busyAlone, watched: busyWatched });
    console.log('Microseconds of processor time');
    console.table({ 'a poll': perPoll, 'an event': perEvent });
  }
}

if (parts.includes('sharing')) {
  const sharing = await benchSharing();
  results.sharing = sharing;
  console.log("\nTen files of one principal while a million of another's are under way");
  console.table(sharing);
}

if (parts.includes('store')) {
  // In a process of its own, whose memory is then that of the store alone.
  const program = fileURLToPath(new URL('store.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program, '1000000', 'durable'], {
    timeout: STORE_TIMEOUT_MS,
  });
  const store = JSON.parse(stdout) as StoreResult;
  results.store = store;
  console.log('\nThe store alone: a million files with names, sizes and times as various as real ones');
  console.table(store);
}

if (parts.includes('copy')) {
  const copy = await benchCopy();
  results.copy = copy;
  console.log('\nThe copier and the SCR daemon');
  for (const part of Object.values(copy)) console.table(part);
}

results.promises = judge(results);
console.log('\nWhat is promised');
console.table(
  Object.fromEntries(
    results.promises.map(({ what, promised, measured, verdict }) => [
      what,
      { promised, measured: measured ?? '', verdict },
    ]),
  ),
);
console.log(`\n${JSON.stringify(results, null, 2)}`);

function usage(message: string): never {
  console.error(message);
  process.exit(2);
}
