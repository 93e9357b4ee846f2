import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { flushFiles } from '../src/flush/engine.js';
import {
  MAGIC_COUNT_START,
  MAGIC_COUNT_STATUS,
  MAGIC_OFFSET_HIGH,
  MAGIC_OFFSET_LOW,
} from '../src/flush/hpc-cache.js';
import { FlushSession } from '../src/flush/session.js';
import type { FlushFile, FlushOptions } from '../src/flush/types.js';
import type { Dialect } from '../src/model/words.js';
import { NfsExport, type NfsTarget } from '../src/nfs/export.js';
import { NFS3_OK } from '../src/nfs/nfs3.js';
import { type SimulatedPorts, startSyntheticCache } from './processes.js';

/** How a utility with four threads does it, against many flushes in flight, on a cache that takes its time. */

const EXPORT = '/synthetic';
const REFERENCE_THREADS = 4;
const REFERENCE_POLL_MS = 250;

export function fileName(index: number): string {
  return `/file-${String(index).padStart(7, '0')}`;
}

export function loopbackTarget(ports: SimulatedPorts): NfsTarget {
  return {
    addresses: ['127.0.0.1'],
    ports: { portmap: 111, mount: ports.mount, nfs: ports.nfs },
    credential: { uid: 0, gid: 0, gids: [] },
    machineName: 'bench',
    privilegedPort: false,
    callTimeoutMs: 30_000,
  };
}

/** Files per second of the reference utility's way: a file per thread, and a poll of each every 250 ms. */
export async function referenceWay(ports: SimulatedPorts, files: number): Promise<number> {
  const limit = { deadlineAt: Date.now() + 600_000 };
  const mounted = await NfsExport.mount(loopbackTarget(ports), EXPORT, limit);
  let next = 0;
  const thread = async () => {
    while (next < files) {
      const name = Buffer.from(fileName(next++).slice(1));
      const { handle } = await mounted.lookup(mounted.root, name, limit);
      if (handle === null) throw new Error(`no file ${name}`);
      const ask = (count: number) =>
        mounted.commit(handle, MAGIC_OFFSET_HIGH, MAGIC_OFFSET_LOW, count, limit);
      let { status } = await ask(MAGIC_COUNT_START);
      while (status !== NFS3_OK) {
        await sleep(REFERENCE_POLL_MS);
        ({ status } = await ask(MAGIC_COUNT_STATUS));
      }
    }
  };
  const begin = performance.now();
  await Promise.all(Array.from({ length: REFERENCE_THREADS }, thread));
  const perSecond = files / ((performance.now() - begin) / 1000);
  await mounted.close();
  return perSecond;
}

/** Files per second of the engine, without queue and HTTP. */
export async function bareEngine(
  target: NfsTarget,
  exportPath: string,
  files: Iterable<FlushFile>,
  dialect: Dialect,
  inFlight: number,
): Promise<number> {
  const session = await FlushSession.open(target, exportPath, {
    inFlight,
    filesPerSecond: null,
    dialectProven: false,
  });
  const options: FlushOptions = {
    dialect,
    mode: 'async',
    pathsAre: 'export',
    clientMount: null,
    fileTimeoutMs: 600_000,
    deadlineAt: null,
    whenDown: 'wait',
    holdAfterMs: 10_000,
  };
  let done = 0;
  const begin = performance.now();
  for await (const outcome of flushFiles(session, files, options, new AbortController().signal)) {
    if (outcome.state !== 'succeeded') throw new Error(`${outcome.path}: ${outcome.lastError?.message}`);
    done++;
  }
  const perSecond = done / ((performance.now() - begin) / 1000);
  await session.close();
  return perSecond;
}

export function* syntheticFiles(count: number, first = 0): Generator<FlushFile> {
  for (let index = first; index < first + count; index++) yield { index, path: fileName(index) };
}

export interface LatencyResult {
  flushLatencyMs: number;
  reference: { inFlight: number; pollMs: number; files: number; filesPerSecond: number };
  ours: { inFlight: number; files: number; filesPerSecond: number };
  timesTheReference: number;
}

export async function benchLatency(): Promise<LatencyResult> {
  const flushLatencyMs = 100;
  const referenceFiles = 60;
  const files = 10_000;
  const inFlight = 256;
  const { program, ports } = await startSyntheticCache(referenceFiles + files, flushLatencyMs);
  try {
    const reference = await referenceWay(ports, referenceFiles);
    const ours = await bareEngine(
      loopbackTarget(ports),
      EXPORT,
      syntheticFiles(files, referenceFiles),
      'hpc-cache',
      inFlight,
    );
    return {
      flushLatencyMs,
      reference: {
        inFlight: REFERENCE_THREADS,
        pollMs: REFERENCE_POLL_MS,
        files: referenceFiles,
        filesPerSecond: Number(reference.toFixed(1)),
      },
      ours: { inFlight, files, filesPerSecond: Math.round(ours) },
      timesTheReference: Number((ours / reference).toFixed(1)),
    };
  } finally {
    await program.stop();
  }
}
