import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { until } from '../support/until.js';
import { names, numbered, startRig } from './rig.js';

test('every file of a job of several chunks is flushed, and its bytes are on the filer', async (t) => {
  const files = names(1300);
  const rig = await startRig(t, { files, sim: { flushLatencyMs: 5 } });
  rig.startWorker();
  const id = await rig.submit(files);
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(job.progress.filesSucceeded, 1300);
  assert.equal(job.progress.filesAlreadyClean, 0);
  assert.equal(await readFile(join(rig.filerDir, 'run/f1299'), 'utf8'), 'run/f1299');
  const { items } = await rig.test.store.listFiles(id, {}, null, 10);
  assert.deepEqual([...new Set(items.map(({ evidence }) => evidence))], ['written-back']);
  assert.equal((await rig.test.store.getCache('sim')).health, 'up');
});

test('that a cache has shown the dialect is known to later jobs, in other processes too', async (t) => {
  const rig = await startRig(t, { synthetic: 3, sim: { flushLatencyMs: 5 } });
  const first = rig.startWorker();
  await rig.ended(await rig.submit(numbered(3)));
  await until('it is stored', () => rig.test.work.caches.isDialectProven(rig.queue, rig.config));
  await first.close(0);
  rig.startWorker();
  // Clean by now: an OK at once, which from an unknown server would be worth nothing.
  const id = await rig.submit(numbered(3));
  const job = await rig.ended(id);
  assert.equal(job.progress.filesAlreadyClean, 3);
  assert.deepEqual(job.warnings, []);
  const { items } = await rig.test.store.listFiles(id, {}, null, 10);
  assert.equal(items[0]?.evidence, 'written-back');
});

test('files that fail are told one by one, and the others are flushed', async (t) => {
  const rig = await startRig(t, { files: names(600) });
  rig.startWorker();
  const id = await rig.submit([...names(600), 'run/none', 'run', '../etc/passwd']);
  const job = await rig.ended(id);
  assert.equal(job.state, 'partial');
  assert.equal(job.progress.filesSucceeded, 600);
  const groups = await rig.test.store.errorGroups(id);
  assert.deepEqual(groups.map(({ code, count }) => [code, count]).sort(), [
    ['EISDIR', 1],
    ['ENOENT', 1],
    ['INVALID_PATH', 1],
  ]);
});

test('a job for an export that is not there fails with that error; its neighbour on the cache is flushed', async (t) => {
  const rig = await startRig(t, { synthetic: 10 });
  rig.startWorker();
  const wrong = await rig.submit(numbered(10), { export: '/nowhere' });
  const right = await rig.submit(numbered(10));
  const job = await rig.ended(wrong);
  assert.equal(job.state, 'failed');
  const [group] = await rig.test.store.errorGroups(wrong);
  assert.equal(group?.code, 'EXPORT_NOT_FOUND');
  assert.equal(group?.count, 10);
  assert.equal((await rig.ended(right)).state, 'succeeded');
});

test('directories are expanded, and what cannot be expanded is told', async (t) => {
  const files = [...names(1100, 'a/b'), ...names(5, 'c')];
  const rig = await startRig(t, { files });
  rig.startWorker();
  const id = await rig.submit([], {
    directories: [
      { path: 'a', include: [], exclude: ['**/f7'] },
      { path: 'none', include: [], exclude: [] },
      { path: 'c', include: [], exclude: [] },
    ],
  });
  const job = await rig.ended(id);
  assert.equal(job.state, 'partial');
  assert.equal(job.progress.filesSucceeded, 1104);
  assert.equal(job.progress.filesFailed, 1);
  const [group] = await rig.test.store.errorGroups(id);
  assert.equal(group?.code, 'ENOENT');
});

test('a file that a request names in several ways is flushed once, and counted once', async (t) => {
  const files = [...names(700, 'a/b'), ...names(30, 'a'), ...names(3, 'ab')];
  const rig = await startRig(t, { files, sim: { flushLatencyMs: 5 } });
  rig.startWorker();
  rig.startWorker();
  const all = { include: [], exclude: [] };
  const id = await rig.submit(['a/f1', '/a/b/f2', 'ab/f0'], {
    directories: [
      { path: '/a/b/', ...all },
      { path: 'a', ...all },
      { path: 'a', include: ['**/f2?'], exclude: [] },
      { path: './a', ...all },
      { path: 'ab', ...all },
    ],
  });
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.deepEqual(job.warnings, []);
  assert.equal(job.progress.filesTotal, 733);
  assert.equal(job.progress.filesSucceeded, 733);
  assert.equal(rig.sim.stats().flushes.started, 733);
});

test('what the listing of a directory tells of its files saves their LOOKUP', async (t) => {
  const rig = await startRig(t, { synthetic: 2000 });
  rig.startWorker();
  const id = await rig.submit([], { directories: [{ path: '/', include: [], exclude: [] }] });
  const job = await rig.ended(id);
  assert.equal(job.progress.filesSucceeded, 2000);
  const { LOOKUP = 0, COMMIT = 0 } = rig.sim.stats().calls;
  assert.ok(COMMIT >= 2000);
  assert.ok(LOOKUP < 10, `${LOOKUP} LOOKUPs`);
});

test('files whose flush another worker began are not told to have been clean', async (t) => {
  const files = numbered(40);
  const rig = await startRig(t, { synthetic: 40, sim: { flushLatencyMs: 1500 } });
  const first = rig.startWorker();
  const id = await rig.submit(files);
  await until('flushes were begun', () => rig.sim.stats().flushes.started === 40);
  await first.close(0);
  await until('they have ended without it', () => rig.sim.stats().flushes.finished === 40);
  rig.startWorker();
  const job = await rig.ended(id);
  assert.equal(job.progress.filesSucceeded, 40);
  assert.equal(job.progress.filesAlreadyClean, 0);
});

test('two workers together never have more flushes outstanding than the cache bears', async (t) => {
  const files = numbered(300);
  const rig = await startRig(t, { synthetic: 300, sim: { flushLatencyMs: 3 }, limits: { inFlight: 10 } });
  rig.startWorker();
  rig.startWorker();
  const ids = [await rig.submit(files.slice(0, 150)), await rig.submit(files.slice(150))];
  for (const id of ids) assert.equal((await rig.ended(id)).state, 'succeeded');
  assert.equal(rig.sim.stats().flushes.maxActive, 10);
});

test('a lone job on one of two workers may use all slots of the cache', async (t) => {
  const files = numbered(300);
  const rig = await startRig(t, { synthetic: 300, sim: { flushLatencyMs: 100 }, limits: { inFlight: 200 } });
  rig.startWorker();
  rig.startWorker();
  await rig.ended(await rig.submit(files));
  assert.equal(rig.sim.stats().flushes.maxActive, 200);
});

test('jobs on two exports of a cache share its slots and never exceed them', async (t) => {
  const files = [...names(80, 'a'), ...names(80, 'b')];
  const exports = [
    { path: '/a', subdir: 'a' },
    { path: '/b', subdir: 'b' },
  ];
  const rig = await startRig(t, { files, sim: { flushLatencyMs: 3, exports }, limits: { inFlight: 7 } });
  rig.startWorker();
  const ids = await Promise.all(
    exports.map(({ path }) =>
      rig.submit(
        names(80, 'x').map((name) => name.slice(2)),
        { export: path },
      ),
    ),
  );
  for (const id of ids) assert.equal((await rig.ended(id)).state, 'succeeded');
  assert.equal(rig.sim.stats().flushes.maxActive, 7);
});

test('flushes begin no faster than allowed, over all workers', async (t) => {
  const files = numbered(60);
  const rig = await startRig(t, { synthetic: 60, limits: { filesPerSecond: 40 } });
  rig.startWorker();
  rig.startWorker();
  const begun = Date.now();
  const ids = [await rig.submit(files.slice(0, 30)), await rig.submit(files.slice(30))];
  for (const id of ids) assert.equal((await rig.ended(id)).state, 'succeeded');
  // 60 starts less a quarter of a second's worth at once.
  assert.ok(Date.now() - begun >= 1200, `only ${Date.now() - begun} ms`);
});

test('limits that change while a job runs are obeyed, both ways', async (t) => {
  const files = numbered(300);
  const rig = await startRig(t, {
    synthetic: 300,
    sim: { flushLatencyMs: 20 },
    limits: { inFlight: 4, filesPerSecond: 4 },
  });
  rig.startWorker();
  const id = await rig.submit(files);
  await until('some are done', async () => (await rig.test.store.getJob(id)).progress.filesSucceeded >= 2);
  // More than a minute at the old rate.
  await rig.test.store.limitCache('sim', { filesPerSecond: null });
  assert.equal((await rig.ended(id)).state, 'succeeded');
  assert.ok(rig.sim.stats().flushes.maxActive <= 4);

  // What is leased already may be used up without asking.
  await until('its slots are given back', async () => {
    return (await rig.test.store.getCache('sim')).slotsLeased === 0;
  });
  await rig.test.store.limitCache('sim', { inFlight: 64, filesPerSecond: 2 });
  const slow = await rig.submit(files);
  await until('one is done', async () => (await rig.test.store.getJob(slow)).progress.filesSucceeded >= 1);
  assert.ok((await rig.test.store.getJob(slow)).progress.filesSucceeded < 150);
  await rig.test.store.limitCache('sim', null);
  await rig.test.store.cancel(slow);
  assert.equal((await rig.ended(slow)).state, 'canceled');
});

test("one principal's many files, in one job or in many, do not keep another's ten waiting", async (t) => {
  const rig = await startRig(t, {
    synthetic: 20_000,
    sim: { flushLatencyMs: 400 },
    limits: { inFlight: 8 },
  });
  rig.startWorker();
  const { store } = rig.test;
  const as = (name: string) => ({ ...LOCAL_PRINCIPAL, name });
  const files = numbered(20_000);
  // A quarter of an hour of work each, and minutes until one of the chunks in hand has ended.
  const large = await rig.submit(files, { labels: { size: 'large' } }, {}, as('alice'));
  const many = await Promise.all(
    Array.from({ length: 40 }, (_, i) => rig.submit(files.slice(i * 500, (i + 1) * 500), {}, {}, as('bob'))),
  );
  await until('they are under way', async () => (await store.getJob(large)).progress.filesSucceeded > 0);
  const ten = await rig.submit(files.slice(0, 10), { labels: { size: 'ten' } }, {}, as('carol'));
  assert.equal((await rig.ended(ten)).state, 'succeeded');
  assert.ok((await store.getJob(large)).progress.filesSucceeded < 512);
  const ended = await Promise.all(many.map(async (id) => (await store.getJob(id)).state === 'succeeded'));
  assert.ok(!ended.some(Boolean), `${ended.filter(Boolean).length} of 40 jobs were before it`);
  for (const id of [large, ...many]) await store.cancel(id);
});

test("directories that take long to walk do not keep another's ten files waiting, and are walked to their end", async (t) => {
  const rig = await startRig(t, {
    synthetic: 2000,
    sim: { faults: [{ kind: 'slow', procedures: ['READDIRPLUS'], delayMs: 6000 }] },
  });
  rig.startWorker({ chunksPerCache: 2 });
  const walk = { directories: [{ path: '/', include: [], exclude: [] }] };
  const owner = { ...LOCAL_PRINCIPAL, name: 'alice' };
  const [first, second] = [await rig.submit([], walk, {}, owner), await rig.submit([], walk, {}, owner)];
  await until('both places are taken', async () => {
    const states = [await rig.test.store.getJob(first), await rig.test.store.getJob(second)];
    return states.every(({ state }) => state === 'expanding');
  });
  const ten = await rig.submit(numbered(10), {}, {}, { ...LOCAL_PRINCIPAL, name: 'carol' });
  assert.equal((await rig.ended(ten)).state, 'succeeded');
  for (const id of [first, second])
    assert.equal((await rig.test.store.getJob(id)).progress.filesTotalFinal, false);
  rig.sim.setFaults([]);
  for (const id of [first, second]) {
    assert.equal((await rig.ended(id)).progress.filesSucceeded, 2000);
  }
});

test('an address that a request named is served as soon as its first job is there', async (t) => {
  const rig = await startRig(t, { synthetic: 5 });
  rig.startWorker({ caches: [] });
  const adHocCache = { ...rig.config, name: 'ad-hoc' };
  const id = await rig.submit(numbered(5), { cache: '127.0.0.1', adHocCache });
  assert.equal((await rig.ended(id)).state, 'succeeded');
});

test('on a Redis Cluster it is all the same', async (t) => {
  const rig = await startRig(t, {
    synthetic: 1500,
    redis: { cluster: true },
    limits: { filesPerSecond: 5000 },
  });
  rig.startWorker();
  const id = await rig.submit([], { directories: [{ path: '/', include: [], exclude: [] }] });
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(job.progress.filesSucceeded, 1500);
});
