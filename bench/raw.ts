import { execFile } from 'node:child_process';
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startGanesha } from '../test/support/ganesha.js';
import { bareEngine, loopbackTarget } from './latency.js';
import { startFolderCache } from './processes.js';
import { median } from './quantiles.js';
import { runRawClient } from './raw-client.js';

/** LOOKUP + COMMIT of a flat list on a real server: our client, our engine, and libnfs as the yardstick. */

const run = promisify(execFile);
const FILES = 5000;
const IN_FLIGHT = 256;
const C_WINDOW = 64;
const ROUNDS = 5;
const RUN_TIMEOUT_MS = 120_000;

/** Files per second, and how our client compares with libnfs: medians over the rounds. */
export interface GaneshaResult {
  /** A new process, as a command is: V8 compiles while the clock runs. */
  clientCold: number;
  /** After as many files in the same process, as in a worker. */
  clientWarm: number;
  engine: number;
  libnfs: number | null;
  coldToLibnfs: number | null;
  warmToLibnfs: number | null;
}

export interface RawResult {
  files: number;
  rounds: number;
  ganesha: GaneshaResult | { skip: string };
  simulator: { client: number };
}

export async function benchRaw(): Promise<RawResult> {
  const folder = await mkdtemp(join(tmpdir(), 'writeback-bench-'));
  const work = join(folder, 'work');
  try {
    const exportPath = join(folder, 'export');
    await run('mkdir', ['-p', exportPath, work, join(folder, 'filer')]);
    for (let i = 0; i < FILES; i++) await writeFile(join(exportPath, name(i)), `file ${i}\n`);
    const libnfs = await compileLibnfsClient(work);
    return {
      files: FILES,
      rounds: ROUNDS,
      ganesha: await onGanesha(exportPath, libnfs),
      simulator: { client: await onSimulator(exportPath, join(folder, 'filer')) },
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function onGanesha(exportPath: string, libnfs: string | null): Promise<RawResult['ganesha']> {
  const server = await startGanesha({ exports: [{ path: exportPath }] });
  if ('skip' in server) return server;
  const { host, nfsPort, mountPort } = server;
  const at = { host, nfsPort, mountPort, exportPath };
  const target = loopbackTarget({ mount: mountPort, nfs: nfsPort });
  const list = Array.from({ length: FILES }, (_, index) => ({ index, path: `/${name(index)}` }));
  const rounds: { cold: number; warm: number; engine: number; libnfs: number | null }[] = [];
  try {
    // In turns, so that a slow moment of the machine meets all alike. The first round warms the server's caches.
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = {
        cold: await runOurs(at, 0),
        warm: await runOurs(at, FILES),
        engine: await bareEngine(target, exportPath, list, 'rfc1813', IN_FLIGHT),
        libnfs: libnfs === null ? null : await runLibnfs(libnfs, at),
      };
      if (round > 0) rounds.push(measured);
    }
  } finally {
    await server.stop();
  }
  const ratio = (of: 'cold' | 'warm') =>
    libnfs === null
      ? null
      : Number(median(rounds.map((round) => round[of] / (round.libnfs as number))).toFixed(2));
  return {
    clientCold: Math.round(median(rounds.map(({ cold }) => cold))),
    clientWarm: Math.round(median(rounds.map(({ warm }) => warm))),
    engine: Math.round(median(rounds.map(({ engine }) => engine))),
    libnfs: libnfs === null ? null : Math.round(median(rounds.map((round) => round.libnfs as number))),
    coldToLibnfs: ratio('cold'),
    warmToLibnfs: ratio('warm'),
  };
}

async function onSimulator(cacheDir: string, filerDir: string): Promise<number> {
  const { program, ports } = await startFolderCache(cacheDir, filerDir);
  try {
    const rates: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const { filesPerSecond } = await runRawClient({
        host: '127.0.0.1',
        nfsPort: ports.nfs,
        mountPort: ports.mount,
        exportPath: '/cache',
        files: FILES,
        inFlight: IN_FLIGHT,
      });
      rates.push(filesPerSecond);
    }
    return Math.round(median(rates));
  } finally {
    await program.stop();
  }
}

async function compileLibnfsClient(folder: string): Promise<string | null> {
  // The compiled benchmark lies in build/bench, its C source two folders up.
  const source = fileURLToPath(new URL('../../bench/libnfs-flush.c', import.meta.url));
  const program = join(folder, 'libnfs-flush');
  try {
    await access(source);
    await run('gcc', ['-O2', '-o', program, source, '-lnfs']);
    return program;
  } catch {
    return null;
  }
}

/** Where a client in a process of its own finds the files. */
interface Place {
  host: string;
  mountPort: number;
  nfsPort: number;
  exportPath: string;
}

/** Files per second of our client in a new process. */
async function runOurs(at: Place, warmUpFiles: number): Promise<number> {
  const program = fileURLToPath(new URL('raw-client.js', import.meta.url));
  const options = {
    host: at.host,
    'mount-port': at.mountPort,
    'nfs-port': at.nfsPort,
    export: at.exportPath,
    files: FILES,
    'in-flight': IN_FLIGHT,
    'warm-up': warmUpFiles,
  };
  const args = Object.entries(options).flatMap(([option, value]) => [`--${option}`, String(value)]);
  const { stdout } = await run(process.execPath, [program, ...args], { timeout: RUN_TIMEOUT_MS });
  return filesPerSecondOf(stdout);
}

async function runLibnfs(program: string, at: Place): Promise<number> {
  const place = [at.host, String(at.mountPort), String(at.nfsPort), at.exportPath];
  const { stdout } = await run(program, [...place, String(FILES), String(C_WINDOW)], {
    timeout: RUN_TIMEOUT_MS,
  });
  return filesPerSecondOf(stdout);
}

function filesPerSecondOf(stdout: string): number {
  const { failed, filesPerSecond } = JSON.parse(stdout) as { failed: number; filesPerSecond: number };
  if (failed > 0) throw new Error(`${failed} files failed`);
  return filesPerSecond;
}

function name(index: number): string {
  return `f${String(index).padStart(6, '0')}`;
}
