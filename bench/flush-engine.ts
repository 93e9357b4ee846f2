import { setImmediate as nextTurn } from 'node:timers/promises';
import { flushFiles } from '../src/flush/engine.js';
import { FlushSession } from '../src/flush/session.js';
import type { AttributesReply, ExportCalls, LookupReply } from '../src/flush/target-calls.js';
import type { FlushFile, FlushOptions } from '../src/flush/types.js';

/**
 * What the flush engine itself costs per file: against an export in this process that answers at the next turn of
 * the event loop. `node build/bench/flush-engine.js [files]`
 */

const FILES = Number(process.argv[2] ?? 200_000);
const HANDLE = Buffer.alloc(32, 7);
const FILE = { type: 1, size: 4096, mtimeMs: 1_700_000_000_000 };
const DIRECTORY = { type: 2, size: 4096, mtimeMs: 1_700_000_000_000 };

/** All calls of a turn are answered together, as a socket delivers replies. */
function answering<T>(reply: () => T): () => Promise<T> {
  let batch: Promise<unknown> | null = null;
  return async () => {
    batch ??= nextTurn().then(() => {
      batch = null;
    });
    await batch;
    return reply();
  };
}

const lookup = answering<LookupReply>(() => ({ status: 0, handle: HANDLE, attributes: FILE }));
const lookupDirectory = answering<LookupReply>(() => ({ status: 0, handle: HANDLE, attributes: DIRECTORY }));
const commit = answering<AttributesReply>(() => ({ status: 0, attributes: FILE }));
const unused = (): never => {
  throw new Error('not part of the measurement');
};

const stub: ExportCalls = {
  root: HANDLE,
  lookup: (_dir, name) => (name[0] === 0x64 ? lookupDirectory() : lookup()),
  commit: () => commit(),
  getattr: unused,
  readlink: unused,
  readdir: unused,
  readdirplus: unused,
  remount: unused,
  close: async () => {},
};

const options: FlushOptions = {
  dialect: 'rfc1813',
  mode: 'async',
  pathsAre: 'export',
  clientMount: null,
  fileTimeoutMs: 60_000,
  deadlineAt: null,
  whenDown: 'wait',
  holdAfterMs: 10_000,
};

function* files(): Generator<FlushFile> {
  for (let index = 0; index < FILES; index++) yield { index, path: `/d${index >> 10}/output-${index}.dat` };
}

async function* asyncFiles(): AsyncGenerator<FlushFile> {
  yield* files();
}

for (const [name, input] of [
  ['warm-up', files],
  ['array-like input', files],
  ['asynchronous input', asyncFiles],
] as const) {
  const session = await FlushSession.open(
    {
      addresses: ['stub'],
      ports: { portmap: 111, mount: null, nfs: null },
      credential: { uid: 0, gid: 0, gids: [] },
      machineName: 'bench',
      privilegedPort: false,
      callTimeoutMs: 30_000,
    },
    '/bench',
    { inFlight: 256, filesPerSecond: null, dialectProven: false, mount: async () => stub },
  );
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  let done = 0;
  for await (const outcome of flushFiles(session, input(), options, new AbortController().signal)) {
    if (outcome.state === 'succeeded') done++;
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const used = process.cpuUsage(cpu);
  await session.close();
  console.log(
    `${name}: ${done} files in ${seconds.toFixed(2)} s, ${Math.round(done / seconds)} files/s, ` +
      `${((used.user + used.system) / done).toFixed(1)} µs of CPU per file, RSS ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`,
  );
}
