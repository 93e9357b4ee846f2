import { execFile } from 'node:child_process';
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startGanesha } from '../test/support/ganesha.js';
import { bareEngine, loopbackTarget } from './latency.js';
import { startFolderCache } from './processes.js';
import { runRawClient } from './raw-client.js';

/** LOOKUP + COMMIT of a flat list on a real server: our client, our engine, and libnfs as the yardstick. */

const run = promisify(execFile);
const FILES = 5000;
const IN_FLIGHT = 256;
const C_WINDOW = 64;
const ROUNDS = 5;

export interface RawResult {
  files: number;
  rounds: number;
  ganesha:
    | { client: number; engine: number; libnfs: number | null; clientToLibnfs: number | null }
    | { skip: string };
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
  const client: number[] = [];
  const engine: number[] = [];
  const yardstick: number[] = [];
  const list = Array.from({ length: FILES }, (_, index) => ({ index, path: `/${name(index)}` }));
  try {
    // In turns, so that a slow moment of the machine meets all alike; the medians are compared.
    for (let round = 0; round <= ROUNDS; round++) {
      const options = { host, nfsPort, mountPort, exportPath, files: FILES, inFlight: IN_FLIGHT };
      const ours = (await runRawClient(options)).filesPerSecond;
      const target = loopbackTarget({ mount: mountPort, nfs: nfsPort });
      const whole = await bareEngine(target, exportPath, list, 'rfc1813', IN_FLIGHT);
      const theirs = libnfs === null ? null : await runLibnfs(libnfs, options);
      if (round === 0) continue;
      client.push(ours);
      engine.push(whole);
      if (theirs !== null) yardstick.push(theirs);
    }
  } finally {
    await server.stop();
  }
  const theirs = yardstick.length === 0 ? null : median(yardstick);
  return {
    client: median(client),
    engine: median(engine),
    libnfs: theirs,
    clientToLibnfs: theirs === null ? null : Number((median(client) / theirs).toFixed(2)),
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
    return median(rates);
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

async function runLibnfs(
  program: string,
  at: { host: string; mountPort: number; nfsPort: number; exportPath: string },
): Promise<number> {
  const args = [
    at.host,
    String(at.mountPort),
    String(at.nfsPort),
    at.exportPath,
    String(FILES),
    String(C_WINDOW),
  ];
  const { stdout } = await run(program, args);
  return (JSON.parse(stdout) as { filesPerSecond: number }).filesPerSecond;
}

function name(index: number): string {
  return `f${String(index).padStart(6, '0')}`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round(sorted[Math.floor(sorted.length / 2)] as number);
}
