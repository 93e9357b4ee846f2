import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BrokerError } from '../../src/model/errors.js';
import { type JobOwner, NO_QUOTAS } from '../../src/model/principal.js';
import type { ExpansionRun } from '../../src/store/work.js';
import { begin, finishAll, manyPaths, openTestStore, submit, type TestStore } from './fixture.js';

/** What directories hold and the quota `queuedFiles` of their principal. */

let t: TestStore;
before(async () => {
  t = await openTestStore();
  // Otherwise jobs tell first that nobody works for them.
  await t.work.caches.serves('cache-nas', 'w', true);
});
after(() => t.close());

const OUT = { path: 'out', include: [], exclude: [] };
const LOGS = { path: 'logs', include: [], exclude: [] };

function owner(name: string, queuedFiles: number): JobOwner {
  return { name, identity: null, quotas: { ...NO_QUOTAS, queuedFiles } };
}

async function expand(id: string, directory = 0): Promise<ExpansionRun> {
  const run = await t.work.expansions.begin(id, directory);
  if (run === null || typeof run === 'string') throw new Error(`directory ${directory}: ${run ?? 'done'}`);
  return run;
}

async function queued(name: string): Promise<number> {
  return Number((await t.redis.client().hget(`${t.keys.tag}:usage:${name}`, 'filesQueued')) ?? 0);
}

test('what directories hold is added as far as the quota has room, and no file further', async () => {
  const id = await submit(t.store, ['listed'], { directories: [OUT, LOGS] }, owner('ada', 100));
  const [out, logs] = [await expand(id, 0), await expand(id, 1)];
  assert.equal(await t.work.expansions.append(out, manyPaths(80)), 'ok');
  assert.deepEqual(await t.work.expansions.append(logs, manyPaths(30)), { room: 19 });
  assert.equal((await t.store.getJob(id)).progress.filesTotal, 81);
  assert.match(
    (await t.store.getJob(id)).statusDetail ?? '',
    /"ada" has 100 files waiting, as many as it may/,
  );
  assert.equal(await t.work.expansions.append(logs, manyPaths(19)), 'ok');
  assert.equal((await t.store.getJob(id)).statusDetail, null);
  assert.equal(await queued('ada'), 100);
  assert.deepEqual(await t.work.expansions.append(out, ['one more']), { room: 0 });
  // What a worker takes up waits no more.
  await begin(t.work, id, 1);
  assert.equal(await t.work.expansions.append(out, ['one more']), 'ok');
  assert.equal(await queued('ada'), 21);
  await t.work.expansions.end(out, 81);
  await t.work.expansions.end(logs, 19);
  await finishAll(t.work, id, 4);
  const { state, progress } = await t.store.getJob(id);
  assert.deepEqual([state, progress.filesTotal, progress.filesSucceeded], ['succeeded', 101, 101]);
  assert.equal(await queued('ada'), 0);
});

test('the room is that of all jobs of the principal, and what had no room when it began waits in the queue', async () => {
  const [first, second] = [
    await submit(t.store, manyPaths(5), {}, owner('ben', 6)),
    await submit(t.store, [], { directories: [OUT] }, owner('ben', 6)),
  ];
  const run = await expand(second);
  assert.deepEqual(await t.work.expansions.append(run, ['a', 'b']), { room: 1 });
  assert.equal(await t.work.expansions.append(run, ['a']), 'ok');
  // Its worker dies. Whoever takes it up finds no room; whoever had it could not add a file either.
  assert.equal(await t.work.expansions.begin(second, 0), 'no room');
  assert.match((await t.store.getJob(second)).statusDetail ?? '', /"ben" has 6 files waiting/);
  await finishAll(t.work, first, 1);
  const again = await expand(second);
  assert.equal(await t.work.expansions.append(run, ['b']), 'fenced');
  const known: string[] = [];
  for await (const { path } of again.appended()) known.push(path);
  assert.deepEqual(known, ['a']);
  assert.equal(await t.work.expansions.append(again, ['b']), 'ok');
  await t.work.expansions.end(again, 2);
  await finishAll(t.work, second, 2);
  assert.equal((await t.store.getJob(second)).progress.filesSucceeded, 2);
  assert.equal(await queued('ben'), 0);
});

test('a request with a directory is refused while nothing of it could wait', async () => {
  const whose = owner('cleo', 3);
  const refused = (error: unknown) => error instanceof BrokerError && error.code === 'QUOTA_EXCEEDED';
  const full = await submit(t.store, manyPaths(3), {}, whose);
  await assert.rejects(submit(t.store, [], { directories: [OUT] }, whose), refused);
  await begin(t.work, full, 0);
  const id = await submit(t.store, [], { directories: [OUT] }, whose);
  assert.equal(await queued('cleo'), 0);
  await t.store.cancel(id);
});

test('what has ended takes no room, and an end is not kept waiting by others', async () => {
  const whose = owner('dan', 1);
  const id = await submit(t.store, [], { directories: [OUT] }, whose);
  const run = await expand(id);
  await submit(t.store, ['waits'], {}, whose);
  const error = { code: 'EACCES', nfsStatus: 13, phase: 'expand', message: 'refused' } as const;
  const failed = {
    index: 0,
    path: 'out/secret',
    state: 'failed',
    outcome: null,
    evidence: null,
    attempts: 0,
    firstError: error,
    lastError: error,
    size: null,
    mtimeMs: null,
    durationMs: 0,
  } as const;
  assert.equal(await t.work.expansions.appendEnded(run, [failed]), 'ok');
  await t.work.expansions.end(run, 1);
  assert.equal((await t.store.getJob(id)).state, 'failed');
});

test('a job whose deadline passes while its directory waits for room says so', async () => {
  const whose = owner('eve', 2);
  const id = await submit(t.store, ['listed'], { directories: [OUT] }, whose);
  const run = await expand(id);
  assert.deepEqual(await t.work.expansions.append(run, ['a', 'b', 'c']), { room: 1 });
  await t.redis.client().hset(t.keys.job(id), 'deadlineAt', 1);
  await t.redis.client().zadd(t.keys.deadlines, 1, id);
  for (let i = 0; i < 50 && (await t.store.getJob(id)).state !== 'expired'; i++) await t.sweeper.sweep();
  assert.match((await t.store.getJob(id)).statusDetail ?? '', /wait for room in the quota/);
  assert.equal(await t.work.expansions.append(run, ['a']), 'ended');
});
