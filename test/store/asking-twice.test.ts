import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BrokerError } from '../../src/model/errors.js';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { Duplicates } from '../../src/store/dedup.js';
import { fingerprint } from '../../src/store/fingerprint.js';
import type { CommitOptions, JobStore, NewFlush } from '../../src/store/types.js';
import { until } from '../support/until.js';
import {
  addAll,
  begin,
  finishAll,
  manyPaths,
  NAS_QUEUE,
  newJob,
  openTestStore,
  type TestStore,
} from './fixture.js';

let t: TestStore;
before(async () => {
  t = await openTestStore();
});
after(() => t.close());

const OWN = { principal: 'local', identity: null };

/** A request with everything the API would do. */
async function ask(
  store: JobStore,
  paths: readonly string[],
  { key, ...options }: CommitOptions & { key?: string } = {},
  more: Partial<NewFlush> = {},
) {
  const intake = store.openIntake(LOCAL_PRINCIPAL);
  try {
    if (key !== undefined) await intake.claim(key);
    await addAll(intake, paths);
    return await intake.commit(newJob(more), options);
  } catch (error) {
    await intake.abort();
    throw error;
  }
}

const code = (expected: string) => (error: unknown) => {
  assert.ok(error instanceof BrokerError, String(error));
  assert.equal(error.code, expected);
  return true;
};

async function jobCount(): Promise<number> {
  return t.redis.client().zcard(t.keys.jobs);
}

test('a fingerprint does not depend on the order of files, directories, globs and labels, and on nothing else less', async () => {
  const of = async (paths: readonly string[], more: Partial<NewFlush> = {}) => {
    const set = new Duplicates();
    paths.forEach((path, i) => void set.add(Buffer.from(path), i));
    return fingerprint({ ...newJob(more), ...OWN }, { files: paths.length }, set);
  };
  const paths = manyPaths(20_000);
  const directories = [
    { path: '/a', include: ['*.h5', '*.nc'], exclude: [] },
    { path: '/b', include: [], exclude: ['x'] },
  ];
  const labels = { run: '1', user: 'ada' };
  const first = await of(paths, { directories, labels });
  const turned = [
    { path: '/b', include: [], exclude: ['x'] },
    { path: '/a', include: ['*.nc', '*.h5'], exclude: [] },
  ];
  assert.equal(
    await of([...paths].reverse(), { directories: turned, labels: { user: 'ada', run: '1' } }),
    first,
  );
  const middle = [...paths.slice(7000), ...paths.slice(0, 7000)];
  assert.equal(await of(middle, { directories, labels }), first);
  const others = await Promise.all([
    of(paths.slice(1), { directories, labels }),
    of([...paths.slice(1), 'run/other'], { directories, labels }),
    of([...paths, paths[0] as string], { directories, labels }),
    of(paths, { directories: directories.slice(1), labels }),
    of(paths, { directories, labels: { ...labels, run: '2' } }),
    of(paths, { directories, labels, cache: 'other' }),
    of(paths, { directories, labels, export: '/other' }),
    of(paths, { directories, labels, options: { ...(newJob() as NewFlush).options, deadlineSeconds: 60 } }),
  ]);
  assert.equal(new Set([first, ...others]).size, others.length + 1);
});

test('the fingerprint of a long list is made in slices, so that others have their turn', async () => {
  const set = new Duplicates();
  for (let i = 0; i < 300_000; i++) set.add(Buffer.from(`/run/${i}`), i);
  let turns = 0;
  let over = false;
  const counting = (async () => {
    for (; !over; turns++) await nextTurn();
  })();
  await fingerprint({ ...newJob(), ...OWN }, { files: 300_000 }, set);
  over = true;
  await counting;
  assert.ok(turns >= 10, `${turns} turns`);
});

test('the same key and request give the first answer, whatever the order; another request is refused', async () => {
  const before = await jobCount();
  const paths = manyPaths(2000);
  const first = await ask(t.store, paths, { key: 'k1' });
  assert.equal(first.accepted, 'made');
  const again = await ask(t.store, [...paths].reverse(), { key: 'k1' });
  assert.deepEqual([again.accepted, again.id], ['replayed', first.id]);
  await assert.rejects(ask(t.store, paths.slice(1), { key: 'k1' }), code('IDEMPOTENCY_KEY_REUSED'));
  await assert.rejects(
    ask(t.store, paths, { key: 'k1' }, { labels: { run: '2' } }),
    code('IDEMPOTENCY_KEY_REUSED'),
  );
  assert.equal(await jobCount(), before + 1);
  // Also when it has ended.
  await finishAll(t.work, first.id, 4);
  const ended = await ask(t.store, paths, { key: 'k1' });
  assert.deepEqual([ended.accepted, ended.id, ended.state], ['replayed', first.id, 'succeeded']);
  const other = await ask(t.store, paths, { key: 'k2' });
  assert.notEqual(other.id, first.id);
});

test('requests that made no job leave nothing behind', async () => {
  const client = t.redis.client();
  const paths = manyPaths(3000);
  await ask(t.store, paths, { key: 'tidy' });
  const before = await client.dbsize();
  await ask(t.store, paths, { key: 'tidy' });
  await ask(t.store, paths, { join: true });
  await assert.rejects(ask(t.store, manyPaths(600), { key: 'tidy' }), code('IDEMPOTENCY_KEY_REUSED'));
  assert.equal(await client.dbsize(), before);
});

test('a key whose request is still arriving is refused, and free again when that is given up', async () => {
  const intake = t.store.openIntake(LOCAL_PRINCIPAL);
  assert.equal(await intake.claim('arriving'), false);
  await addAll(intake, ['/a']);
  await assert.rejects(ask(t.store, ['/a'], { key: 'arriving' }), code('IDEMPOTENCY_KEY_IN_USE'));
  // The refused one must not have freed it.
  await assert.rejects(ask(t.store, ['/a'], { key: 'arriving' }), code('IDEMPOTENCY_KEY_IN_USE'));
  await intake.abort();
  assert.equal((await ask(t.store, ['/a'], { key: 'arriving' })).accepted, 'made');
});

test('a key is held for as long as its request arrives, and free soon after its process died', async () => {
  const dying = await t.openStore({ idempotencyLeaseMs: 2000 });
  const intake = dying.openIntake(LOCAL_PRINCIPAL);
  await intake.claim('leased');
  const leaseEnd = Date.now() + 3000;
  while (Date.now() < leaseEnd) {
    await assert.rejects(ask(t.store, ['/a'], { key: 'leased' }), code('IDEMPOTENCY_KEY_IN_USE'));
  }
  // As a killed process: nothing is prolonged and nothing is given back.
  await dying.close();
  let made: string | null = null;
  await until('the key is free', async () => {
    made = await ask(t.store, ['/a'], { key: 'leased' }).then(
      ({ accepted }) => accepted,
      () => null,
    );
    return made !== null;
  });
  assert.equal(made, 'made');
});

test('a request that lost its lease makes no second job', async () => {
  const slow = await t.openStore({ idempotencyLeaseMs: 60_000 });
  const intake = slow.openIntake(LOCAL_PRINCIPAL);
  await intake.claim('lost');
  await addAll(intake, ['/slow']);
  // The lease ran out while the process was frozen.
  await t.redis.client().del(t.keys.asked('local lost'));
  const winner = await ask(t.store, ['/slow'], { key: 'lost' });
  const late = await intake.commit(newJob());
  assert.deepEqual([late.accepted, late.id], ['replayed', winner.id]);
});

test('a key is forgotten after its window', async () => {
  const brief = await t.openStore({ idempotencyMs: 100 });
  const first = await ask(brief, ['/window'], { key: 'window' });
  await until('the key is forgotten', async () => {
    const again = await ask(brief, ['/window'], { key: 'window' });
    return again.id !== first.id && again.accepted === 'made';
  });
});

for (const [what, options] of [
  ['with one key', { key: 'herd' }],
  ['that join', { join: true }],
  ['with one key each that join', { join: true, key: 'each-' }],
] as const) {
  test(`100 identical requests at once ${what} make one job`, async () => {
    const stores = await Promise.all([t.store, t.openStore(), t.openStore()]);
    const before = await jobCount();
    // Few: what blocks this one process for long makes commands time out that a service would answer.
    const paths = manyPaths(60).map((path) => `${what}/${path}`);
    const answers = await Promise.allSettled(
      Array.from({ length: 100 }, (_, i) => {
        const turned = [...paths.slice(i % 60), ...paths.slice(0, i % 60)];
        const own = 'key' in options && options.key === 'each-' ? { ...options, key: `each-${i}` } : options;
        return ask(stores[i % 3] as JobStore, turned, own);
      }),
    );
    const jobs = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
    assert.equal(jobs.filter(({ accepted }) => accepted === 'made').length, 1);
    assert.equal(new Set(jobs.map(({ id }) => id)).size, 1);
    assert.equal(await jobCount(), before + 1);
    for (const answer of answers) {
      if (answer.status === 'rejected') code('IDEMPOTENCY_KEY_IN_USE')(answer.reason);
    }
    if ('join' in options) assert.equal(jobs.length, 100);
    // Whoever was refused asks again.
    const later = await ask(t.store, paths, options);
    assert.equal(later.id, jobs[0]?.id);
  });
}

test('nobody joins a job that has ended, is being canceled or differs', async () => {
  const paths = manyPaths(600);
  const labels = { test: 'joining' };
  const join = () => ask(t.store, paths, { join: true }, { labels });
  const first = await join();
  assert.equal((await join()).id, first.id);
  assert.notEqual((await ask(t.store, paths, { join: true })).id, first.id);
  assert.notEqual((await ask(t.store, paths, {}, { labels })).id, first.id);
  const newest = await join();
  assert.equal(newest.accepted, 'joined');
  await finishAll(t.work, newest.id, 2);
  const second = await join();
  assert.deepEqual([second.accepted, second.id === newest.id], ['made', false]);
  // A worker still has a file in hand: canceling, not canceled.
  await begin(t.work, second.id, 0);
  assert.equal((await t.store.cancel(second.id)).state, 'canceling');
  assert.equal((await join()).accepted, 'made');
});

test('what is kept of open jobs for joining goes with them', async () => {
  const client = t.redis.client();
  const { items } = await t.store.listJobs({}, null, 500);
  for (const job of items) {
    await t.store.cancel(job.id);
    await finishAll(t.work, job.id, Math.ceil(job.progress.filesTotal / 512));
  }
  await t.sweeper.sweep();
  await t.sweeper.sweep();
  await until('all have ended', async () => (await client.zcard(t.keys.open)) === 0);
  assert.equal(await client.hlen(t.keys.joinable), 0);
});

test('a joining request is not refused because the cache is full, unless it would make a job', async () => {
  const queued = Number(await t.redis.client().hget(t.keys.cache(NAS_QUEUE), 'filesQueued'));
  const limit = { join: true, queuedFilesAtMost: queued + 100 };
  const first = await ask(t.store, manyPaths(100), limit);
  assert.equal(first.accepted, 'made');
  assert.equal((await ask(t.store, manyPaths(100), limit)).id, first.id);
  await assert.rejects(ask(t.store, manyPaths(101), limit), code('QUEUE_FULL'));
});
