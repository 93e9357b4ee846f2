import assert from 'node:assert/strict';
import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  changeTree,
  filesTree,
  removeFolder,
  TestDaemon,
  temporaryFolder,
  treeOf,
  waitForTree,
} from '../support/scr.js';

const MIB = 1024 * 1024;
/** Other programs may take the machine's CPUs away for a while; a limit that does not hold fails every time. */
const TRIES = 4;
const SECONDS = 6;

test('BW holds within 5 % in any 5 s, as the size of the copy shows', async () => {
  const bw = 20 * MIB;
  await eventually(async () => {
    const samples = await withCopy({ bw }, async (_daemon, destination) => {
      const seen: { atMs: number; bytes: number }[] = [];
      const endMs = performance.now() + SECONDS * 1000;
      while (performance.now() < endMs) {
        seen.push({ atMs: performance.now(), bytes: (await stat(destination)).size });
        await delay(20);
      }
      return seen;
    });
    for (const first of samples) {
      const last = samples.find(({ atMs }) => atMs >= first.atMs + 5000);
      if (last === undefined) break;
      const perSecond = ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1000;
      assert.ok(Math.abs(perSecond / bw - 1) <= 0.05, `${perSecond} bytes per second`);
    }
  });
});

test('PERCENT holds within a tenth, as the kernel accounts for the process', {
  skip: process.platform !== 'linux',
}, async () => {
  const percent = 15;
  await eventually(async () => {
    const used = await withCopy({ percent }, async (daemon) => {
      // The start of a process is work that no limit can put off; it is paid back before the measurement.
      await delay(1500);
      const before = await cpuSeconds(daemon);
      const beginMs = performance.now();
      await delay(SECONDS * 1000);
      return ((await cpuSeconds(daemon)) - before) / ((performance.now() - beginMs) / 1000);
    });
    assert.ok(Math.abs(used / (percent / 100) - 1) <= 0.1, `${used} of a CPU`);
  });
});

/** Runs `measure` while a file that does not end soon is copied. */
async function withCopy<T>(
  limits: { bw?: number; percent?: number },
  measure: (daemon: TestDaemon, destination: string) => Promise<T>,
): Promise<T> {
  const folder = await temporaryFolder();
  const file = join(folder, 'transfer.scr');
  const entry = { source: join(folder, 'source'), destination: join(folder, 'copy'), size: 4096 * MIB };
  const sparse = await open(entry.source, 'w');
  await sparse.truncate(entry.size);
  await sparse.close();
  await changeTree(file, (tree) => {
    for (const [key, below] of treeOf({ ...filesTree([entry], limits), COMMAND: { RUN: {} } }))
      tree.set(key, below);
  });
  const daemon = new TestDaemon([file, '--poll', '1', '--buffer', '65536']);
  try {
    await waitForTree(
      file,
      (tree) => tree.FILES?.[entry.source]?.SOURCE_VERSION !== undefined,
      'the first burst',
    );
    return await measure(daemon, entry.destination);
  } finally {
    await daemon.signal('SIGKILL');
    await removeFolder(folder);
  }
}

async function cpuSeconds(daemon: TestDaemon): Promise<number> {
  const fields = (await readFile(`/proc/${daemon.process.pid}/stat`, 'utf8'))
    .replace(/^.*\) /, '')
    .split(' ');
  // utime and stime, in clock ticks: 100 a second on every Linux that Node runs on.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function eventually(attempt: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (tries === TRIES || !(error instanceof assert.AssertionError)) throw error;
    }
  }
}
