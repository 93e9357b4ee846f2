import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { TransferFile } from '../../src/scr/transfer-file.js';
import type { Tree } from '../../src/scr/tree.js';

const run = promisify(execFile);

/** Compiled to build/test/support: the fixtures stay where they are written. */
export const fixtures = fileURLToPath(new URL('../../../test/fixtures/scr/', import.meta.url));
const peerProgram = join(fixtures, 'peer.py');
const daemonProgram = fileURLToPath(new URL('./scr-daemon.js', import.meta.url));

const python = spawnSync('python3', ['-c', 'import fcntl, zlib, sys; print(sys.executable)'], {
  encoding: 'utf8',
});
/** Why tests with the independent second program cannot run here, or false. */
export const noPeer = python.status === 0 ? false : 'python3 is not installed';

export async function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'writeback-scr-'));
}

export async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}

/** Runs the second program once; resolves to what it printed. */
export async function peer(file: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(python.stdout.trim(), [peerProgram, file, ...args], { maxBuffer: 2 ** 26 });
  return stdout;
}

export function startPeer(file: string, ...args: string[]): ChildProcess {
  return spawn(python.stdout.trim(), [peerProgram, file, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
}

export type Nested = { [key: string]: Nested };

export interface FileEntry {
  source: string;
  destination: string;
  size: number;
  written?: number;
}

/** FILES as the library writes it, with limits as it formats them. */
export function filesTree(
  entries: readonly FileEntry[],
  limits: { bw?: number; percent?: number } = {},
): Nested {
  const files: Nested = {};
  for (const { source, destination, size, written } of entries) {
    files[source] = {
      WRITTEN: { [String(written ?? 0)]: {} },
      SIZE: { [String(size)]: {} },
      DESTINATION: { [destination]: {} },
    };
  }
  return {
    FILES: files,
    PERCENT: { [(limits.percent ?? 0).toFixed(6)]: {} },
    BW: { [(limits.bw ?? 0).toFixed(6)]: {} },
  };
}

/** The tree as plain objects, read under the lock. */
export async function readTree(file: string): Promise<Nested> {
  return new TransferFile(file, 10_000).update((tree) => ({ changed: false, result: nested(tree) }));
}

/** Changes the file as another program would. */
export async function changeTree(file: string, change: (tree: Tree) => void): Promise<void> {
  await new TransferFile(file, 10_000).update((tree) => {
    change(tree);
    return { changed: true, result: null };
  });
}

export function treeOf(object: Nested): Tree {
  return new Map(
    Object.entries(object).map(([key, below]) => [key, Object.keys(below).length > 0 ? treeOf(below) : null]),
  );
}

function nested(tree: Tree | null): Nested {
  return Object.fromEntries([...(tree ?? [])].map(([key, below]) => [key, nested(below)]));
}

/** The only key below the path, or undefined. */
export function valueAt(tree: Nested, ...path: string[]): string | undefined {
  const keys = Object.keys(path.reduce<Nested>((below, key) => below[key] ?? {}, tree));
  return keys.length === 1 ? keys[0] : undefined;
}

/** Reads the tree again and again until it is as wanted. */
export async function waitForTree(
  file: string,
  wanted: (tree: Nested) => boolean,
  what: string,
  timeoutMs = 20_000,
  everyMs = 10,
): Promise<Nested> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const tree = await readTree(file);
    if (wanted(tree)) return tree;
    assert.ok(
      Date.now() < deadline,
      `waited in vain for ${what}; the tree is ${JSON.stringify(tree, null, 1)}`,
    );
    await delay(everyMs);
  }
}

export const isDone = (tree: Nested): boolean => tree.FLAG?.DONE !== undefined;
export const hasState =
  (state: string) =>
  (tree: Nested): boolean =>
    valueAt(tree, 'STATE') === state;

export class TestDaemon {
  readonly process: ChildProcess;
  log = '';

  constructor(args: readonly string[], env: Record<string, string> = {}) {
    this.process = spawn(process.execPath, [daemonProgram, ...args], {
      stdio: ['ignore', 'inherit', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.process.stderr?.on('data', (chunk: Buffer) => {
      this.log += chunk.toString();
    });
  }

  /** Its exit status, or the signal that ended it. */
  async ended(): Promise<number | NodeJS.Signals> {
    const { process } = this;
    if (process.exitCode === null && process.signalCode === null) await once(process, 'exit');
    return process.exitCode ?? (process.signalCode as NodeJS.Signals);
  }

  async signal(signal: NodeJS.Signals): Promise<number | NodeJS.Signals> {
    this.process.kill(signal);
    return this.ended();
  }
}

export async function sameContent(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([readFile(one), readFile(other)]);
  return first.equals(second);
}
