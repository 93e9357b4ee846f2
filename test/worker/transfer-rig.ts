import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import type { Job, TransferJobOptions } from '../../src/model/job.js';
import { pathBytes } from '../../src/model/pathname.js';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { isTerminalJobState } from '../../src/model/words.js';
import type { NewTransfer } from '../../src/store/types.js';
import { TransferAgent, type TransferAgentOptions } from '../../src/worker/transfer-agent.js';
import { openTestStore, type TestStore } from '../store/fixture.js';
import { until } from '../support/until.js';
import { checkSums } from './rig.js';

export const MIB = 1024 * 1024;
export const NODE = 'n1';

/** A store over a Redis of its own, two folders that an agent may touch, and as many agents as a test wants. */
export interface TransferRig {
  test: TestStore;
  folder: string;
  source: string;
  destination: string;
  startAgent(options?: Partial<TransferAgentOptions>): TransferAgent;
  /** Makes a source file of random bytes; gives its path. */
  make(name: string, bytes: number): Promise<string>;
  /** A job of these files (names below source and destination), or of what `more` says. */
  submit(
    names: readonly string[],
    options?: Partial<TransferJobOptions>,
    more?: Partial<NewTransfer>,
    principal?: string,
  ): Promise<string>;
  job(id: string): Promise<Job>;
  /** Waits for its end, and checks that every file and byte is accounted for. */
  ended(id: string): Promise<Job>;
  /** Whatever lies below the destination, hidden files too; relative, sorted. */
  destinationFiles(): Promise<string[]>;
}

export async function startTransferRig(t: TestContext): Promise<TransferRig> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'writeback-transfer-')));
  const source = join(folder, 'source');
  const destination = join(folder, 'destination');
  await mkdir(source);
  await mkdir(destination);
  const test = await openTestStore({ sweeper: { intervalMs: 100 } });
  test.sweeper.start();
  const agents: TransferAgent[] = [];
  t.after(async () => {
    await Promise.all(agents.map((agent) => agent.close()));
    await test.close();
    await rm(folder, { recursive: true, force: true });
  });
  const job = (id: string): Promise<Job> => test.store.getJob(id);
  return {
    test,
    folder,
    source,
    destination,
    job,
    startAgent(more = {}) {
      const agent = new TransferAgent({
        store: test.openWork(),
        node: NODE,
        sourceRoots: [source],
        destinationRoots: [destination],
        concurrency: 4,
        limits: { bytesPerSecond: null, cpuPercent: null },
        bufferBytes: MIB,
        lockMs: 3000,
        stalledCheckMs: 1000,
        maxStalls: 5,
        log: pino({ level: process.env.TEST_LOG ?? 'silent' }, pino.destination(2)),
        ...more,
      });
      agents.push(agent);
      return agent;
    },
    async make(name, bytes) {
      const path = join(source, name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, randomBytes(bytes));
      return path;
    },
    async submit(names, options = {}, more = {}, principal = LOCAL_PRINCIPAL.name) {
      const intake = test.store.openIntake({ ...LOCAL_PRINCIPAL, name: principal });
      for (const name of names) {
        await intake.add({
          path: pathBytes(join(source, name)),
          destination: pathBytes(join(destination, name)),
          size: null,
        });
      }
      const made = await intake.commit(newTransfer(options, more));
      return made.id;
    },
    async ended(id) {
      let now = await job(id);
      await until(`${id} has ended`, async () => {
        now = await job(id);
        return isTerminalJobState(now.state);
      });
      checkSums(now);
      const moving = await test.redis.client().hget(test.keys.job(id), 'bytesMoving');
      if (moving !== '0') throw new Error(`${moving} bytes count as moving after the end`);
      return now;
    },
    async destinationFiles() {
      const entries = await readdir(destination, { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name).slice(destination.length + 1))
        .sort();
    },
  };
}

export function newTransfer(
  options: Partial<TransferJobOptions> = {},
  more: Partial<NewTransfer> = {},
): NewTransfer {
  return {
    kind: 'transfer',
    node: NODE,
    followsLinks: true,
    directories: [],
    labels: {},
    parentJobId: null,
    options: {
      verify: false,
      limits: { bytesPerSecond: null, cpuPercent: null },
      scrTransferFile: null,
      fileTimeoutSeconds: 600,
      deadlineSeconds: 3600,
      ...options,
    },
    ...more,
  };
}

export async function sha256(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}
