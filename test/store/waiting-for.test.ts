import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { cacheConfigSchema } from '../../src/model/cache.js';
import { queueName } from '../../src/store/keys.js';
import { begin, finishAll, manyPaths, NAS_QUEUE, openTestStore, submit, type TestStore } from './fixture.js';

let t: TestStore;
before(async () => {
  t = await openTestStore();
});
afterEach(async () => {
  await t.work.caches.serves(NAS_QUEUE, 'w1', false);
});
after(() => t.close());

const detail = async (id: string) => (await t.store.getJob(id)).statusDetail ?? '';

/** As if the job's deadline had passed; the sweeper settles what nobody has in hand. */
async function expire(id: string): Promise<void> {
  const client = t.redis.client();
  await client.hset(t.keys.job(id), 'deadlineAt', 1);
  await client.zadd(t.keys.deadlines, 'XX', 1, id);
  for (let round = 0; round < 3; round++) await t.sweeper.sweep();
}

test('a job whose cache no running worker serves says so, and how to start one, until one is there', async () => {
  const id = await submit(t.store, ['a']);
  assert.equal(
    await detail(id),
    'No running worker serves cache nas (none was ever seen); the job waits for one: writeback serve --role worker, with this cache in its configuration',
  );
  assert.equal((await t.store.getCache('nas')).workers, 0);

  const { revision } = await t.store.getRevision(id);
  const told = t.store.waitForChange(id, revision, false, AbortSignal.timeout(20_000));
  await t.work.caches.serves(NAS_QUEUE, 'w1', true);
  await told;
  assert.equal(await detail(id), '');
  await t.work.caches.serves(NAS_QUEUE, 'w2', true);
  assert.equal((await t.store.getCache('nas')).workers, 2);

  await t.work.caches.serves(NAS_QUEUE, 'w1', false);
  assert.equal(await detail(id), '', 'another one is still there');
  await t.work.caches.serves(NAS_QUEUE, 'w2', false);
  assert.match(await detail(id), /^No running worker serves cache nas \(the last was seen at \d{4}-.*Z\)/);
  await t.store.cancel(id);
});

test('a worker that was killed is missed after a while, though it said nothing', async () => {
  const id = await submit(t.store, ['a']);
  await t.work.caches.serves(NAS_QUEUE, 'w1', true);
  await t.sweeper.sweep();
  assert.equal(await detail(id), '');
  await t.redis.client().zadd(t.keys.servers(NAS_QUEUE), 1, 'w1');
  await t.sweeper.sweep();
  assert.match(await detail(id), /^No running worker serves cache nas/);
  await t.store.cancel(id);
});

test('the pause of a cache is told before the want of a worker, that before a hold', async () => {
  const id = await submit(t.store, ['a']);
  await t.work.caches.hold(NAS_QUEUE, 'UNREACHABLE', 'refused');
  assert.match(await detail(id), /^No running worker/);
  await t.store.pauseCache('nas', 'upgrade');
  assert.match(await detail(id), /^Cache nas is paused: upgrade/);
  await t.store.resumeCache('nas');
  await t.work.caches.serves(NAS_QUEUE, 'w1', true);
  assert.match(await detail(id), /^Cache nas has been unreachable since/);
  await t.work.caches.up(NAS_QUEUE);
  await t.store.cancel(id);
});

test('a worker that has not heard that an address was forgotten leaves nothing of it behind', async () => {
  const queue = queueName('10.0.0.9', true);
  await t.work.caches.serves(queue, 'w1', true, true);
  const client = t.redis.client();
  assert.equal(await client.exists(t.keys.cache(queue), t.keys.servers(queue)), 0);

  const adHocCache = cacheConfigSchema.parse({
    name: 'address',
    addresses: ['10.0.0.9'],
    dialect: 'rfc1813',
  });
  const id = await submit(t.store, ['a'], { cache: '10.0.0.9', adHocCache });
  assert.match(await detail(id), /one: writeback serve --role worker$/);
  await t.work.caches.serves(queue, 'w1', true, true);
  assert.equal(await detail(id), '');
  assert.equal((await t.store.getCache('10.0.0.9')).workers, 1);
  await t.store.cancel(id);
});

test('files that expire while their cache is held tell since when and why, first and last', async () => {
  await t.work.caches.serves(NAS_QUEUE, 'w1', true);
  const id = await submit(t.store, manyPaths(3));
  const run = await begin(t.work, id, 0);
  assert.equal(run.hold, null);
  await t.work.chunks.release(run);
  await t.work.caches.hold(NAS_QUEUE, 'NOT_REGISTERED', 'The port mapper does not know NFS.');
  const again = await begin(t.work, id, 0);
  assert.equal(again.hold?.code, 'NOT_REGISTERED');
  assert.equal(again.hold?.message, 'The port mapper does not know NFS.');
  assert.ok((again.hold?.since ?? 0) > 1_600_000_000_000);
  await t.work.chunks.release(again);

  await expire(id);
  const job = await t.store.getJob(id);
  assert.equal(job.state, 'expired');
  assert.match(
    job.statusDetail ?? '',
    /3 files are not done: its cache has been unreachable since .*Z \(The port mapper does not know NFS\)\.$/,
  );
  // What holds the cache later is not what held this job.
  await t.work.caches.up(NAS_QUEUE);
  const { items } = await t.store.listFiles(id, {}, null, 10);
  for (const { firstError, lastError } of items) {
    assert.deepEqual(firstError, {
      code: 'NOT_REGISTERED',
      nfsStatus: null,
      phase: 'mount',
      message: 'The port mapper does not know NFS.',
    });
    assert.equal(lastError?.code, 'DEADLINE');
    assert.match(
      lastError?.message ?? '',
      /its cache has been unreachable since .*\(The port mapper does not/,
    );
  }
  const [group] = await t.store.errorGroups(id);
  assert.deepEqual([group?.code, group?.count], ['DEADLINE', 3]);
  assert.match(group?.samples[0]?.message ?? '', /unreachable since/);
});

test('files that expire while their cache is paused, or nobody serves it, tell that', async () => {
  const unserved = await submit(t.store, ['a']);
  await expire(unserved);
  await t.work.caches.serves(NAS_QUEUE, 'w1', true);
  const paused = await submit(t.store, ['a']);
  await t.store.pauseCache('nas', 'upgrade until 14:00');
  await expire(paused);
  await t.store.resumeCache('nas');
  const turn = await submit(t.store, ['a']);
  await expire(turn);
  const messages: string[] = [];
  for (const id of [unserved, paused, turn]) {
    const { items } = await t.store.listFiles(id, {}, null, 1);
    messages.push(items[0]?.lastError?.message ?? '');
    assert.deepEqual(items[0]?.firstError, items[0]?.lastError);
  }
  assert.match(messages[0] ?? '', /done: no running worker served its cache \(the last was seen at/);
  assert.match(messages[1] ?? '', /done: its cache was paused: upgrade until 14:00\.$/);
  assert.match(messages[2] ?? '', /before this file was done\.$/);
});

test('a file that is spelled in two ways is one file, and the list says which entry it is', async () => {
  const paths = ['run/a', '/run/a', './run//a', 'run/./a/', 'run/b', 'run/../run/a'];
  const id = await submit(t.store, paths);
  const { items } = await t.store.listFiles(id, {}, null, 10);
  assert.deepEqual(
    items.map(({ path, state }) => [path, state]),
    paths.map((path, i) => [path, i >= 1 && i <= 3 ? 'skipped' : 'pending']),
  );
  assert.match(items[3]?.lastError?.message ?? '', /The same path is entry 0/);
  await finishAll(t.work, id, 1);
  const { progress } = await t.store.getJob(id);
  assert.deepEqual([progress.filesSucceeded, progress.filesSkipped, progress.filesTotal], [3, 3, 6]);
});
