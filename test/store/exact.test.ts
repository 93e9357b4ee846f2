import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { isTerminalJobState, type TerminalFileState } from '../../src/model/words.js';
import type { ChunkRun, ExpansionRun } from '../../src/store/work.js';
import { finishAll, manyPaths, NAS_QUEUE, openTestStore, result, submit, type TestStore } from './fixture.js';

let t: TestStore;
before(async () => {
  t = await openTestStore();
});
after(() => t.close());

const LETTERS = {
  p: 'Pending',
  a: 'Active',
  f: 'Failed',
  k: 'Skipped',
  x: 'Canceled',
  e: 'Expired',
} as const;

/** Counts of job and cache against the state bytes, which are what really is known of each file. */
async function expand(id: string): Promise<ExpansionRun | null> {
  const run = await t.work.expansions.begin(id, 0);
  assert.ok(typeof run !== 'string', String(run));
  return run;
}

async function assertExact(id: string): Promise<void> {
  const client = t.redis.client();
  const [bytes, job, cache] = await Promise.all([
    client.get(t.keys.states(id)),
    t.store.getJob(id),
    t.store.getCache('nas'),
  ]);
  client.disconnect();
  const has = (letter: string): number => (bytes ?? '').split(letter).length - 1;
  const progress = job.progress;
  for (const [letter, name] of Object.entries(LETTERS)) {
    assert.equal(progress[`files${name}`], has(letter), name);
  }
  assert.equal(progress.filesSucceeded, has('s') + has('c'));
  assert.equal(progress.filesAlreadyClean, has('c'));
  const counts = [...Object.values(LETTERS), 'Succeeded' as const];
  assert.equal(
    counts.reduce((sum, name) => sum + progress[`files${name}`], 0),
    progress.filesTotal,
  );
  assert.equal(cache.filesQueued, progress.filesPending, 'queued on the cache');
  assert.equal(cache.filesActive, progress.filesActive, 'active on the cache');
  assert.equal(cache.jobsActive, isTerminalJobState(job.state) ? 0 : 1);
  if (isTerminalJobState(job.state)) {
    assert.equal(progress.filesPending + progress.filesActive, 0);
    assert.equal(progress.filesTotalFinal, true);
  }
}

type Step =
  | { do: 'begin'; chunk: number }
  | { do: 'record'; run: number; from: number; count: number; state: TerminalFileState; clean: boolean }
  | { do: 'replay'; run: number }
  | { do: 'release' | 'end'; run: number }
  | { do: 'cancel' | 'expire' | 'sweep' }
  | { do: 'expand'; files: number; bad: number }
  | { do: 'endExpansion' };

const number = (max: number) => fc.integer({ min: 0, max });
const steps = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ do: fc.constant('begin' as const), chunk: number(5) }) },
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('record' as const),
        run: number(20),
        from: number(511),
        count: number(512),
        state: fc.constantFrom<TerminalFileState>('succeeded', 'succeeded', 'failed', 'expired', 'canceled'),
        clean: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('replay' as const), run: number(20) }) },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constantFrom('release' as const, 'end' as const), run: number(20) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant('expand' as const), files: number(300), bad: number(3) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('endExpansion' as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constantFrom('cancel' as const, 'expire' as const, 'sweep' as const) }),
    },
  ),
  { maxLength: 40 },
);

async function play(script: readonly Step[], withDirectory: boolean): Promise<void> {
  // Runs of workers; one that is never mentioned again has crashed, several of one chunk overlap.
  const runs: ChunkRun[] = [];
  let expansion: ExpansionRun | null = null;
  const id = await submit(
    t.store,
    [...manyPaths(1100), 'run/0/rank-1.dat', 'run/0/rank-600.dat'],
    withDirectory ? { directories: [{ path: 'dir', include: [], exclude: [] }] } : {},
  );
  await assertExact(id);
  for (const step of script) {
    const run = 'run' in step ? runs[step.run % Math.max(1, runs.length)] : undefined;
    switch (step.do) {
      case 'begin': {
        const begun = await t.work.chunks.begin(id, step.chunk);
        if (begun) runs.push(begun);
        break;
      }
      case 'record':
        if (run) {
          const files = run.files.slice(step.from, step.from + step.count);
          const outcome = step.state !== 'succeeded' ? null : step.clean ? 'already_clean' : 'flushed';
          await t.work.chunks.record(
            run,
            files.map((file) => result(file, { state: step.state, outcome })),
          );
        }
        break;
      case 'replay':
        if (run) {
          const results = run.files.map((file) => result(file));
          await Promise.all([t.work.chunks.record(run, results), t.work.chunks.record(run, results)]);
        }
        break;
      case 'release':
        if (run) await t.work.chunks.release(run);
        break;
      case 'end':
        if (run) await t.work.chunks.end(run);
        break;
      case 'cancel':
        await t.store.cancel(id);
        break;
      case 'expire': {
        const client = t.redis.client();
        await client.hset(t.keys.job(id), 'deadlineAt', 1);
        await client.zadd(t.keys.deadlines, 'XX', 1, id);
        client.disconnect();
        break;
      }
      case 'sweep':
        await t.sweeper.sweep();
        break;
      case 'expand': {
        expansion ??= await expand(id);
        if (!expansion) break;
        const entries = Array.from({ length: step.bad }, (_, index) => ({ index, path: `dir/bad-${index}` }));
        await t.work.expansions.append(expansion, manyPaths(step.files));
        await t.work.expansions.appendEnded(
          expansion,
          entries.map((entry) => result(entry, { state: 'failed' })),
        );
        break;
      }
      case 'endExpansion':
        if (expansion) await t.work.expansions.end(expansion, 1);
        break;
    }
    await assertExact(id);
  }
  // Whatever happened: a worker that works through what is left, and a sweeper, bring every job to an end.
  expansion = await expand(id);
  if (expansion) await t.work.expansions.end(expansion, 1);
  await finishAll(t.work, id, 60);
  for (let i = 0; i < 3; i++) await t.sweeper.sweep();
  await assertExact(id);
  const { state, progress } = await t.store.getJob(id);
  assert.ok(isTerminalJobState(state), state);
  const bad = progress.filesFailed + progress.filesCanceled + progress.filesExpired;
  if (state === 'succeeded') assert.equal(bad, 0);
  if (state === 'partial') assert.ok(bad > 0 && progress.filesSucceeded > 0);
  if (state === 'failed') assert.ok(bad > 0 && progress.filesSucceeded === 0);
  // Nothing that comes later changes an ended job.
  const { revision } = await t.store.getRevision(id);
  for (const run of runs) {
    await t.work.chunks.record(
      run,
      run.files.map((file) => result(file, { state: 'failed' })),
    );
    await t.work.chunks.release(run);
  }
  assert.equal(await t.work.chunks.begin(id, 0), null);
  assert.equal((await t.store.getRevision(id)).revision, revision);
  const client = t.redis.client();
  assert.equal(await client.exists(`{test}:leases:${NAS_QUEUE}`), 0);
  client.disconnect();
}

test('counters equal the state bytes after every step of any interleaving, and every job ends', async () => {
  await fc.assert(fc.asyncProperty(steps, fc.boolean(), play), {
    numRuns: 40,
    interruptAfterTimeLimit: 20_000,
  });
});

test('a file counts once, by its first end, however often and by whomever it is recorded', async () => {
  const id = await submit(t.store, manyPaths(10));
  const first = await t.work.chunks.begin(id, 0);
  const second = await t.work.chunks.begin(id, 0);
  assert.ok(first && second);
  assert.equal(second.files.length, 10);
  const replies = await Promise.all(
    [first, second, first, second].map((run) =>
      t.work.chunks.record(
        run,
        run.files.slice(0, 5).map((file) => result(file, { size: 1 })),
      ),
    ),
  );
  assert.equal(
    replies.reduce((sum, reply) => sum + reply.accepted, 0),
    5,
  );
  const reply = await t.work.chunks.record(
    first,
    first.files.map((file) => result(file, { state: 'failed' })),
  );
  assert.deepEqual(reply, { state: 'partial', accepted: 5 });
  const job = await t.store.getJob(id);
  assert.equal(job.progress.bytesDone, 5);
  assert.equal(job.progress.filesFailed, 5);
  // The details of those who came too late are not shown.
  const { items } = await t.store.listFiles(id, {}, null, 20);
  assert.deepEqual(items.map(({ state, size }) => [state, size])[0], ['succeeded', 1]);
});

test('a chunk that is taken up again after a crash redoes only what has not ended', async () => {
  const id = await submit(t.store, manyPaths(512));
  const crashed = await t.work.chunks.begin(id, 0);
  assert.ok(crashed);
  await t.work.chunks.record(
    crashed,
    crashed.files.slice(0, 500).map((file) => result(file)),
  );
  const again = await t.work.chunks.begin(id, 0);
  assert.deepEqual(
    again?.files.map(({ index }) => index),
    Array.from({ length: 12 }, (_, i) => 500 + i),
  );
  // The first worker was only slow: what it still knows counts, but it cannot give back what is no longer its own.
  await t.work.chunks.release(crashed);
  assert.equal((await t.store.getJob(id)).progress.filesActive, 12);
  await t.work.chunks.record(crashed, [result({ index: 500, path: 'x' })]);
  assert.equal((await t.store.getJob(id)).progress.filesActive, 11);
  assert.ok(again);
  await t.work.chunks.release(again);
  assert.equal((await t.store.getJob(id)).progress.filesPending, 11);
  await finishAll(t.work, id, 1);
  assert.equal((await t.store.getJob(id)).state, 'succeeded');
});

test('results that belong to another chunk are refused before anything is written', async () => {
  const id = await submit(t.store, manyPaths(600));
  const run = await t.work.chunks.begin(id, 0);
  assert.ok(run);
  await assert.rejects(t.work.chunks.record(run, [result({ index: 512, path: 'x' })]), RangeError);
  await finishAll(t.work, id, 2);
});
