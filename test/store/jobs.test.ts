import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BrokerError } from '../../src/model/errors.js';
import type { Job } from '../../src/model/job.js';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import {
  addAll,
  begin,
  finishAll,
  manyPaths,
  NAS,
  NAS_QUEUE,
  newJob,
  openTestStore,
  result,
  submit,
  type TestStore,
} from './fixture.js';

let t: TestStore;
before(async () => {
  t = await openTestStore();
});
after(() => t.close());

function sum({ progress: p }: Job): number {
  return (
    p.filesPending +
    p.filesActive +
    p.filesSucceeded +
    p.filesFailed +
    p.filesSkipped +
    p.filesCanceled +
    p.filesExpired
  );
}

const code = (wanted: string) => (error: unknown) => error instanceof BrokerError && error.code === wanted;

test('a job goes from queued to succeeded, and its counters tell how far it is', async () => {
  const id = await submit(t.store, manyPaths(1000), { labels: { run: '7' } });
  const queued = await t.store.getJob(id);
  assert.equal(queued.state, 'queued');
  assert.equal(queued.progress.filesTotal, 1000);
  assert.equal(queued.progress.filesPending, 1000);
  assert.equal(queued.progress.filesPerSecond, null);
  assert.deepEqual(queued.labels, { run: '7' });
  assert.equal(queued.startedAt, null);

  const run = await begin(t.work, id, 0);
  assert.equal(run.files.length, 512);
  assert.equal(run.files[5]?.path, 'run/0/rank-5.dat');
  const running = await t.store.getJob(id);
  assert.equal(running.state, 'running');
  assert.equal(running.progress.filesActive, 512);
  assert.equal(running.progress.filesPending, 488);
  assert.notEqual(running.startedAt, null);

  await t.work.chunks.record(
    run,
    run.files.slice(0, 100).map((file) => result(file, { outcome: 'already_clean', size: 10 })),
  );
  const part = await t.store.getJob(id);
  assert.equal(part.progress.filesSucceeded, 100);
  assert.equal(part.progress.filesAlreadyClean, 100);
  assert.equal(part.progress.bytesDone, 1000);
  assert.notEqual(part.revision, running.revision);

  await t.work.chunks.record(
    run,
    run.files.slice(100).map((file) => result(file, { size: 10 })),
  );
  await t.work.chunks.end(run);
  await finishAll(t.work, id, 2);
  const ended = await t.store.getJob(id);
  assert.equal(ended.state, 'succeeded');
  assert.equal(ended.progress.filesSucceeded, 1000);
  assert.equal(ended.progress.filesPending, 0);
  assert.equal(ended.progress.etaSeconds, 0);
  assert.equal(ended.statusDetail, null);
  assert.notEqual(ended.finishedAt, null);
  assert.equal(sum(ended), 1000);
});

test('some good and some bad is partial, none good is failed, and the newest fault is told', async () => {
  const id = await submit(t.store, ['a', 'b', 'c']);
  await finishAll(t.work, id, 1, (file) => result(file, file.index === 1 ? { state: 'failed' } : {}));
  const partial = await t.store.getJob(id);
  assert.equal(partial.state, 'partial');
  assert.match(partial.statusDetail ?? '', /LOOKUP of b answered/);

  const bad = await submit(t.store, ['a', 'b']);
  await finishAll(t.work, bad, 1, (file) => result(file, { state: 'failed' }));
  assert.equal((await t.store.getJob(bad)).state, 'failed');
});

test('what is recorded comes back with every file, in the order of submission', async () => {
  const names = [
    Buffer.from([0x66, 0xff, 0xfe]),
    Buffer.from('line\nbreak'),
    Buffer.from('ä/ö'),
    Buffer.from(' '),
  ];
  const id = await submit(t.store, names);
  const run = await begin(t.work, id, 0);
  await t.work.chunks.record(run, [
    result(run.files[2] as never, { durationMs: 3.4, evidence: 'written-back' }),
  ]);
  await t.work.chunks.record(run, [result(run.files[0] as never, { state: 'failed', attempts: 3 })]);
  await t.work.chunks.end(run);
  const { items, nextCursor } = await t.store.listFiles(id, {}, null, 10);
  assert.equal(nextCursor, null);
  assert.deepEqual(
    items.map(({ index, path, state, attempts }) => ({ index, path, state, attempts })),
    [
      { index: 0, path: 'f\udcff\udcfe', state: 'failed', attempts: 3 },
      { index: 1, path: 'line\nbreak', state: 'active', attempts: 0 },
      { index: 2, path: 'ä/ö', state: 'succeeded', attempts: 1 },
      { index: 3, path: ' ', state: 'active', attempts: 0 },
    ],
  );
  assert.equal(items[0]?.lastError?.message, 'LOOKUP of f\udcff\udcfe answered NFS3ERR_NOENT.');
  assert.equal(items[2]?.mtime, new Date(1_700_000_000_002).toISOString());
  assert.equal(items[2]?.evidence, 'written-back');
  assert.equal(items[2]?.durationMs, 3);
});

test('details that came in several batches, from whomever, lie in one blob after the end of the chunk', async () => {
  const client = t.redis.client();
  const blobs = async (id: string) => (await client.hkeys(t.keys.details(id))).sort();
  const ends = async (id: string) =>
    (await t.store.listFiles(id, {}, null, 10)).items.map(({ state, attempts }) => [state, attempts]);

  const once = await submit(t.store, ['a', 'b']);
  const only = await begin(t.work, once, 0);
  await t.work.chunks.record(
    only,
    only.files.map((file) => result(file)),
  );
  await t.work.chunks.end(only);
  assert.deepEqual(await blobs(once), ['0.1', '0:n']);

  // What the intake said of a duplicate, what a worker recorded before it died, and what the next one did.
  const often = await submit(t.store, ['a', 'a', 'b', 'c']);
  const first = await begin(t.work, often, 0);
  await t.work.chunks.record(first, [result(first.files[0] as never, { attempts: 2 })]);
  const second = await begin(t.work, often, 0);
  await t.work.chunks.record(
    second,
    second.files.map((file) => result(file, { attempts: 3 })),
  );
  assert.deepEqual(await blobs(often), ['0.1', '0.2', '0.3', '0:n']);
  const before = await ends(often);
  await t.work.chunks.end(second);
  assert.deepEqual(await blobs(often), ['0']);
  assert.deepEqual(await ends(often), before);
  assert.deepEqual(before, [
    ['succeeded', 2],
    ['skipped', 0],
    ['succeeded', 3],
    ['succeeded', 3],
  ]);
});

test('pages of files fit together, whatever the filter and the limit', async () => {
  const id = await submit(t.store, manyPaths(3000));
  await finishAll(t.work, id, 6, (file) => result(file, file.index % 700 === 3 ? { state: 'failed' } : {}));
  const cases: [Parameters<TestStore['store']['listFiles']>[1], number, number][] = [
    [{}, 700, 3000],
    [{ states: ['failed'] }, 2, 5],
    [{ code: 'ENOENT' }, 100, 5],
    [{ code: 'EIO' }, 100, 0],
    [{ states: ['pending'] }, 100, 0],
  ];
  for (const [filter, limit, expected] of cases) {
    const found: number[] = [];
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof t.store.listFiles>> = await t.store.listFiles(
        id,
        filter,
        cursor,
        limit,
      );
      assert.ok(page.items.length <= limit);
      found.push(...page.items.map(({ index }) => index));
      cursor = page.nextCursor;
    } while (cursor);
    assert.equal(found.length, expected);
    assert.deepEqual(
      found,
      [...new Set(found)].sort((a, b) => a - b),
    );
  }
  await assert.rejects(t.store.listFiles(id, {}, 'nonsense', 10), code('VALIDATION'));
});

test('a path listed twice is skipped and points to its first entry, and does not make the job worse', async () => {
  const paths = [...manyPaths(600), 'run/0/rank-7.dat', 'x', 'x'];
  const id = await submit(t.store, paths);
  assert.equal((await t.store.getJob(id)).progress.filesSkipped, 2);
  const skipped = await t.store.listFiles(id, { states: ['skipped'] }, null, 10);
  assert.deepEqual(
    skipped.items.map(({ index, lastError }) => [index, lastError?.code, lastError?.message]),
    [
      [600, 'DUPLICATE_PATH', 'The same path is entry 7 of this list already; its result is there.'],
      [602, 'DUPLICATE_PATH', 'The same path is entry 601 of this list already; its result is there.'],
    ],
  );
  await finishAll(t.work, id, 2);
  const job = await t.store.getJob(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(job.progress.filesSucceeded, 601);
  assert.equal(sum(job), 603);
  const [group] = await t.store.errorGroups(id);
  assert.equal(group?.code, 'DUPLICATE_PATH');
  assert.equal(group?.count, 2);
  assert.equal(group?.samples.length, 2);
});

test('errors are counted by code, with at most five samples each', async () => {
  const id = await submit(t.store, manyPaths(520));
  await finishAll(t.work, id, 2, (file) =>
    file.index < 20
      ? result(file, { state: 'failed' })
      : result(file, {
          state: 'failed',
          lastError: { code: 'EACCES', nfsStatus: 13, phase: 'flush', message: `no ${file.index}` },
        }),
  );
  const groups = await t.store.errorGroups(id);
  assert.deepEqual(
    groups.map((group) => [group.code, group.count, group.retryable, group.samples.length]),
    [
      ['EACCES', 500, false, 5],
      ['ENOENT', 20, false, 5],
    ],
  );
  assert.deepEqual(groups[1]?.samples[0], {
    path: 'run/0/rank-0.dat',
    message: 'LOOKUP of run/0/rank-0.dat answered NFS3ERR_NOENT.',
  });
});

test('a job that is not there is not found, also where the id could harm', async () => {
  for (const id of [
    'job_01jd0000000000000000000000',
    'x',
    '',
    'a:b',
    '*',
    'job_01JD0000000000000000000000',
  ]) {
    await assert.rejects(t.store.getJob(id), code('JOB_NOT_FOUND'));
    await assert.rejects(t.store.getRevision(id), code('JOB_NOT_FOUND'));
    await assert.rejects(t.store.cancel(id), code('JOB_NOT_FOUND'));
    await assert.rejects(t.store.listFiles(id, {}, null, 1), code('JOB_NOT_FOUND'));
  }
});

test('an empty list is refused', async () => {
  await assert.rejects(t.store.openIntake(LOCAL_PRINCIPAL).commit(newJob()), code('EMPTY_LIST'));
});

test('an intake that is aborted leaves nothing in Redis, and one that is left alone expires', async () => {
  const before = (await t.redis.client().keys('*')).length;
  const intake = t.store.openIntake(LOCAL_PRINCIPAL);
  await addAll(intake, [...manyPaths(2000), 'run/0/rank-7.dat']);
  const keys = (await t.redis.client().keys('*:states')).length;
  assert.ok(keys > 0);
  await intake.abort();
  assert.equal((await t.redis.client().keys('*')).length, before);
  await assert.rejects(async () => intake.add(Buffer.from('x')));

  const left = t.store.openIntake(LOCAL_PRINCIPAL);
  await addAll(left, manyPaths(600));
  const client = t.redis.client();
  for (const key of await client.keys('*')) {
    if ((await client.ttl(key)) !== -1) assert.ok((await client.ttl(key)) <= 900);
  }
  const expiring = [];
  for (const key of await client.keys('*:job:*')) if ((await client.ttl(key)) > 0) expiring.push(key);
  assert.equal(expiring.length, 2);
  await left.abort();
});

test('warnings of the intake and of workers are shown once per code, with their count', async () => {
  const intake = t.store.openIntake(LOCAL_PRINCIPAL);
  await intake.add(Buffer.from('a'));
  intake.warn('BLANK_LINES', 'Blank lines were ignored.', 2);
  intake.warn('BLANK_LINES', 'Blank lines were ignored.', 1);
  const { id } = await intake.commit(newJob());
  await t.work.warn(id, 'ONLY_ACCEPTED', 'The target has not shown the dialect.', null);
  await t.work.warn(id, 'ONLY_ACCEPTED', 'The target has not shown the dialect.', null);
  assert.deepEqual((await t.store.getJob(id)).warnings, [
    { code: 'BLANK_LINES', message: 'Blank lines were ignored.', count: 3 },
    { code: 'ONLY_ACCEPTED', message: 'The target has not shown the dialect.', count: null },
  ]);
});

test('jobs are listed newest first, page by page, by state, cache, label and time', async () => {
  const fresh = await openTestStore();
  try {
    const ids: string[] = [];
    for (let i = 0; i < 25; i++) {
      ids.unshift(await submit(fresh.store, ['a'], { labels: { n: `${i % 2}` } }));
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await finishAll(fresh.work, ids[3] as string, 1);
    const found: string[] = [];
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof t.store.listJobs>> = await fresh.store.listJobs({}, cursor, 10);
      found.push(...page.items.map(({ id }) => id));
      cursor = page.nextCursor;
    } while (cursor);
    assert.deepEqual(found, ids);
    const ended = await fresh.store.listJobs({ states: ['succeeded'] }, null, 10);
    assert.deepEqual(
      ended.items.map(({ id }) => id),
      [ids[3]],
    );
    const open = await fresh.store.listJobs({ states: ['queued', 'running'] }, null, 100);
    assert.equal(open.items.length, 24);
    assert.equal((await fresh.store.listJobs({ labels: { n: '0' } }, null, 100)).items.length, 13);
    assert.equal((await fresh.store.listJobs({ cache: 'other' }, null, 100)).items.length, 0);
    const middle = await fresh.store.getJob(ids[10] as string);
    const after = await fresh.store.listJobs({ createdAfter: new Date(middle.createdAt) }, null, 100);
    assert.deepEqual(
      after.items.map(({ id }) => id),
      ids.slice(0, 10),
    );
    const earlier = await fresh.store.listJobs({ createdBefore: new Date(middle.createdAt) }, null, 100);
    assert.deepEqual(
      earlier.items.map(({ id }) => id),
      ids.slice(11),
    );
  } finally {
    await fresh.close();
  }
});

test('a cache shows how many files are queued and active, to the file', async () => {
  const start = await t.store.getCache('nas');
  const id = await submit(t.store, manyPaths(700));
  const run = await begin(t.work, id, 0);
  await t.work.chunks.record(
    run,
    run.files.slice(0, 12).map((file) => result(file)),
  );
  const now = await t.store.getCache('nas');
  assert.equal(now.filesQueued - start.filesQueued, 188);
  assert.equal(now.filesActive - start.filesActive, 500);
  assert.equal(now.jobsActive - start.jobsActive, 1);
  assert.equal(now.configured, true);
  assert.equal(now.health, 'unknown');
  await t.work.chunks.record(
    run,
    run.files.map((file) => result(file)),
  );
  await finishAll(t.work, id, 2);
  const end = await t.store.getCache('nas');
  assert.equal(end.filesActive, start.filesActive);
  assert.equal(end.filesQueued, start.filesQueued);
  assert.equal(end.jobsActive, start.jobsActive);
  await assert.rejects(t.store.getCache('nowhere'), code('CACHE_NOT_FOUND'));
});

test('an address named by a request becomes a cache of its own, also where it has colons', async () => {
  const adHocCache = { ...NAS, name: 'adhoc', addresses: ['fe80::1'] };
  const id = await submit(t.store, ['a'], { cache: 'fe80::1', adHocCache });
  const cache = await t.store.getCache('fe80::1');
  assert.equal(cache.configured, false);
  assert.deepEqual(cache.addresses, ['fe80::1']);
  assert.equal(cache.filesQueued, 1);
  const entries = await new Promise<unknown[]>((resolve) => {
    const stop = t.work.watchQueues((queues) => {
      setImmediate(() => stop());
      resolve(queues);
    });
  });
  assert.ok(entries.some((entry) => (entry as { cache: string }).cache === 'fe80::1'));
  const run = await begin(t.work, id, 0);
  assert.ok(run.job.kind === 'flush');
  assert.deepEqual(run.job.adHocCache?.addresses, ['fe80::1']);
  assert.ok(!run.job.queue.includes(':'));
});

test('pausing a cache shows in its jobs, and again when it is resumed', async () => {
  const id = await submit(t.store, ['a']);
  const before = await t.store.getJob(id);
  assert.equal((await t.store.pauseCache('nas', 'the link is full')).paused, true);
  const paused = await t.store.getJob(id);
  assert.equal(paused.paused, true);
  assert.equal(paused.pausedReason, 'the link is full');
  assert.notEqual(paused.revision, before.revision);
  assert.equal(
    (await t.work.caches.leaseSlots(NAS_QUEUE, 'w', { inFlight: 10, filesPerSecond: null }, 0, 5)).slots,
    0,
  );
  assert.equal((await t.store.resumeCache('nas')).paused, false);
  assert.equal((await t.store.getJob(id)).paused, false);
});

test('sizes and times that no number can hold are unknown, and everything else of the chunk is there', async () => {
  const id = await submit(t.store, ['a', 'b', 'c']);
  await finishAll(t.work, id, 1, (file) =>
    result(
      file,
      [
        { size: 2 ** 64, mtimeMs: 2 ** 62, durationMs: Number.NaN, attempts: -1 },
        { size: 1.5, mtimeMs: -(2 ** 60), durationMs: Number.POSITIVE_INFINITY },
        { size: 2 ** 52, mtimeMs: -86_400_000 },
      ][file.index],
    ),
  );
  const { items } = await t.store.listFiles(id, {}, null, 10);
  assert.deepEqual(
    items.map(({ size, mtime, durationMs }) => [size, mtime, durationMs]),
    [
      [null, null, null],
      [null, null, null],
      [2 ** 52, '1969-12-31T00:00:00.000Z', 12],
    ],
  );
  assert.equal((await t.store.getJob(id)).progress.bytesDone, 2 ** 52);
});
