import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import {
  type SimulatedCache,
  type SimulatedCacheOptions,
  startSimulatedCache,
} from '../../src/sim/server.js';
import { mnt, NaiveNfs, NaiveRpc } from './naive-nfs-client.js';

export interface CacheUnderTest {
  cacheDir: string;
  filerDir: string;
  sim: SimulatedCache;
  /** The root of `/cache`, as MNT gave it, if it was mounted. */
  root: Buffer;
  nfs: NaiveNfs;
  /** Closes the simulated cache and starts another on the same folders and ports. */
  restart(options?: Partial<SimulatedCacheOptions>): Promise<void>;
}

/** A simulated cache over two new folders, and a naive client that has mounted it; gone when the test ends. */
export async function simulatedCache(
  t: TestContext,
  options: SimulatedCacheOptions = {},
  prepare: (cacheDir: string, filerDir: string) => void = () => {},
): Promise<CacheUnderTest> {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'writeback-sim-'));
  const cacheDir = path.join(scratch, 'cache');
  const filerDir = path.join(scratch, 'filer');
  fs.mkdirSync(cacheDir);
  fs.mkdirSync(filerDir);
  prepare(cacheDir, filerDir);
  const started = { cacheDir, filerDir, ...options };
  const sim = await startSimulatedCache(started);
  const under = { cacheDir, filerDir, sim, ...(await mounted(sim)), restart };
  t.after(async () => {
    await under.nfs.rpc.close();
    await under.sim.close();
    fs.rmSync(scratch, { recursive: true, force: true });
  });
  return under;

  async function restart(changes: Partial<SimulatedCacheOptions> = {}): Promise<void> {
    await under.nfs.rpc.close();
    const { ports } = under.sim;
    await under.sim.close();
    under.sim = await startSimulatedCache({ ...started, ports, ...changes });
    Object.assign(under, await mounted(under.sim));
  }
}

async function mounted(sim: SimulatedCache): Promise<{ root: Buffer; nfs: NaiveNfs }> {
  const nfs = new NaiveNfs(await NaiveRpc.connect(sim.ports.nfs, sim.address));
  const { handle } = await mnt(sim.ports.mount, sim.exports[0] as string, sim.address);
  return { root: handle, nfs };
}

/** Walks down from the root; fails the test if a name is not there. */
export async function handleOf(under: CacheUnderTest, file: string): Promise<Buffer> {
  let handle = under.root;
  for (const name of file.split('/')) {
    const found = await under.nfs.lookup(handle, name);
    assert.equal(found.status, 0, `LOOKUP ${name} of ${file}`);
    handle = found.handle as Buffer;
  }
  return handle;
}
