import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { copyFile } from '../src/copy/copy-file.js';
import { Throttle } from '../src/copy/throttle.js';
import {
  changeTree,
  type FileEntry,
  filesTree,
  isDone,
  TestDaemon,
  treeOf,
  waitForTree,
} from '../test/support/scr.js';
import { peakMemory } from './processes.js';

/**
 * What the copier and the SCR daemon get out of a disk, and what they take of the machine: `node build/bench/copy.js`.
 * Everything lies in one temporary folder, so that source and destination share a disk and `cp` has the same one.
 */

const run = promisify(execFile);
const MIB = 1024 * 1024;
const ROUNDS = 3;
const BURST_BYTES = MIB;
const LIMIT_BYTES_PER_SECOND = 50 * MIB;
const LIMIT_SECONDS = 10;
const TIMEOUT_MS = 600_000;
/** Names in one command line. */
const SYNC_ARGUMENTS = 1000;

export interface CopyResult {
  /** One file of `mebibytes`, from the page cache to durable; seconds, medians of `rounds`. */
  large: {
    mebibytes: number;
    rounds: number;
    cpAndFsyncSeconds: number;
    copierSeconds: number;
    /** From RUN to DONE, as another program sees it. */
    daemonSeconds: number;
    /** Above 1: faster than `cp` followed by fsync. */
    copierToCp: number;
    daemonToCp: number;
  };
  small: {
    files: number;
    bytesEach: number;
    /** Each file fsync'd, and its directory. */
    daemonSeconds: number;
    daemonFilesPerSecond: number;
    /** `cp -r`, then an fsync of each file, one after the other: what the daemon does with several at the same time. */
    cpAndFsyncEachSeconds: number;
    /** `cp -r`, then one sync of the file system: no file is durable before the last. */
    cpAndSyncSeconds: number;
  };
  limited: {
    mebibytesPerSecond: number;
    seconds: number;
    measuredMebibytesPerSecond: number;
    /** Of one CPU, as the kernel accounts for the whole process. */
    cpuPercent: number;
  };
  daemonPeakMemoryMiB: { large: number; small: number; limited: number };
}

export async function benchCopy(mebibytes = 1024, files = 10_000): Promise<CopyResult> {
  const folder = await mkdtemp(join(tmpdir(), 'writeback-bench-'));
  try {
    const large = await benchLarge(folder, mebibytes);
    const limited = await benchLimited(folder, mebibytes);
    await rm(join(folder, 'large'));
    const small = await benchSmall(folder, files);
    return {
      large: large.result,
      small: small.result,
      limited: limited.result,
      daemonPeakMemoryMiB: { large: large.peakMiB, small: small.peakMiB, limited: limited.peakMiB },
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function benchLarge(
  folder: string,
  mebibytes: number,
): Promise<{ result: CopyResult['large']; peakMiB: number }> {
  const source = join(folder, 'large');
  const destination = join(folder, 'copy');
  const file = await open(source, 'w');
  const block = Buffer.alloc(MIB);
  for (let i = 0; i < mebibytes; i++) await file.write(randomFillSync(block));
  await file.sync();
  await file.close();

  const seconds: Record<'cp' | 'copier' | 'daemon', number[]> = { cp: [], copier: [], daemon: [] };
  let peakMiB = 0;
  const timed = async (way: 'cp' | 'copier' | 'daemon', work: () => Promise<void>): Promise<void> => {
    await rm(destination, { force: true });
    await run('sync', ['-f', folder]);
    const beganMs = performance.now();
    await work();
    seconds[way].push((performance.now() - beganMs) / 1000);
  };
  for (let round = 0; round < ROUNDS; round++) {
    await timed('cp', async () => {
      await run('cp', [source, destination]);
      await run('sync', [destination]);
    });
    await timed('copier', async () => {
      const request = {
        source: Buffer.from(source),
        destination: Buffer.from(destination),
        roots: null,
        size: null,
        resumeAt: 0,
        resumeVersion: null,
        mode: 'in-place',
        verify: 'size',
        bufferBytes: BURST_BYTES,
      } as const;
      await copyFile(request, new Throttle(), new AbortController().signal);
    });
    const entry = { source, destination, size: mebibytes * MIB };
    await withDaemon(folder, async (transferFile, daemon) => {
      await timed('daemon', async () => {
        await begin(transferFile, [entry], null);
        await waitForTree(transferFile, isDone, 'DONE', TIMEOUT_MS);
      });
      peakMiB = Math.max(peakMiB, await peakMiBOf(daemon));
    });
  }
  const [cp, copier, daemon] = [median(seconds.cp), median(seconds.copier), median(seconds.daemon)];
  await rm(destination);
  return {
    result: {
      mebibytes,
      rounds: ROUNDS,
      cpAndFsyncSeconds: cp,
      copierSeconds: copier,
      daemonSeconds: daemon,
      copierToCp: rounded(cp / copier),
      daemonToCp: rounded(cp / daemon),
    },
    peakMiB,
  };
}

async function benchLimited(
  folder: string,
  mebibytes: number,
): Promise<{ result: CopyResult['limited']; peakMiB: number }> {
  const destination = join(folder, 'limited');
  const entry = { source: join(folder, 'large'), destination, size: mebibytes * MIB };
  return withDaemon(folder, async (transferFile, daemon) => {
    await begin(transferFile, [entry], LIMIT_BYTES_PER_SECOND);
    // The start of a process is not what a limit is about.
    await sleep(1000);
    const copied = await open(destination);
    const beganMs = performance.now();
    const [cpuBefore, { size: before }] = [await cpuSeconds(daemon), await copied.stat()];
    await sleep(LIMIT_SECONDS * 1000);
    const [cpuAfter, { size: after }] = [await cpuSeconds(daemon), await copied.stat()];
    const seconds = (performance.now() - beganMs) / 1000;
    await copied.close();
    const peakMiB = await peakMiBOf(daemon);
    await rm(destination);
    return {
      result: {
        mebibytesPerSecond: LIMIT_BYTES_PER_SECOND / MIB,
        seconds: rounded(seconds),
        measuredMebibytesPerSecond: rounded((after - before) / MIB / seconds),
        cpuPercent: rounded(((cpuAfter - cpuBefore) / seconds) * 100),
      },
      peakMiB,
    };
  });
}

async function benchSmall(
  folder: string,
  files: number,
): Promise<{ result: CopyResult['small']; peakMiB: number }> {
  const bytesEach = 4096;
  const sources = join(folder, 'small');
  await mkdir(sources);
  const entries: FileEntry[] = [];
  for (let i = 0; i < files; i++) {
    const name = `rank_${String(i).padStart(5, '0')}.ckpt`;
    await writeFile(join(sources, name), randomFillSync(Buffer.alloc(bytesEach)));
    entries.push({ source: join(sources, name), destination: join(folder, 'set', name), size: bytesEach });
  }
  await run('sync', ['-f', folder]);
  const timed = async (sync: readonly string[], copy: string): Promise<number> => {
    const beganMs = performance.now();
    await run('cp', ['-r', sources, copy]);
    for (let i = 0; i < sync.length; i += SYNC_ARGUMENTS)
      await run('sync', sync.slice(i, i + SYNC_ARGUMENTS));
    return rounded((performance.now() - beganMs) / 1000);
  };
  const cpAndSyncSeconds = await timed(['-f', folder], join(folder, 'cp'));
  const each = join(folder, 'cp-each');
  const copies = entries.map(({ destination }) => join(each, basename(destination)));
  const cpAndFsyncEachSeconds = await timed(copies, each);

  return withDaemon(folder, async (transferFile, daemon) => {
    const beganMs = performance.now();
    await begin(transferFile, entries, null);
    await waitForTree(transferFile, isDone, 'DONE', TIMEOUT_MS, 250);
    const daemonSeconds = rounded((performance.now() - beganMs) / 1000);
    return {
      result: {
        files,
        bytesEach,
        daemonSeconds,
        daemonFilesPerSecond: Math.round(files / daemonSeconds),
        cpAndFsyncEachSeconds,
        cpAndSyncSeconds,
      },
      peakMiB: await peakMiBOf(daemon),
    };
  });
}

async function withDaemon<T>(
  folder: string,
  work: (transferFile: string, daemon: TestDaemon) => Promise<T>,
): Promise<T> {
  const transferFile = join(folder, 'transfer.scr');
  const daemon = new TestDaemon([transferFile]);
  try {
    await waitForTree(transferFile, (tree) => tree.STATE !== undefined, 'the first STATE');
    return await work(transferFile, daemon);
  } finally {
    await daemon.signal('SIGKILL');
    await rm(transferFile, { force: true });
  }
}

async function begin(transferFile: string, entries: FileEntry[], bw: number | null): Promise<void> {
  await changeTree(transferFile, (tree) => {
    const wanted = { ...filesTree(entries, bw === null ? {} : { bw }), COMMAND: { RUN: {} } };
    for (const [key, below] of treeOf(wanted)) tree.set(key, below);
  });
}

async function cpuSeconds(daemon: TestDaemon): Promise<number> {
  const fields = (await readFile(`/proc/${pidOf(daemon)}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function peakMiBOf(daemon: TestDaemon): Promise<number> {
  return Math.round((await peakMemory(pidOf(daemon))) / MIB);
}

function pidOf(daemon: TestDaemon): number {
  return daemon.process.pid as number;
}

function median(values: number[]): number {
  return rounded(values.sort((a, b) => a - b)[Math.floor(values.length / 2)] as number);
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(JSON.stringify(await benchCopy(), null, 2));
}
