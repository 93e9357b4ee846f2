import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BrokerError } from '../../src/model/errors.js';
import { untilRedisAnswers } from '../../src/store/startup.js';
import { openJobStore } from '../../src/store/store.js';
import { until } from '../support/until.js';
import { bullWorker, manyPaths, NAS, NAS_QUEUE, openTestStore, result, submit } from './fixture.js';

test('on a Redis Cluster everything works, and every key carries the one hash tag', async () => {
  const t = await openTestStore({ redis: { cluster: true } });
  try {
    const id = await submit(t.store, [...manyPaths(1200), 'run/0/rank-1.dat'], {
      directories: [{ path: 'd', include: [], exclude: [] }],
    });
    const { revision } = await t.store.getRevision(id);
    const wait = t.store.waitForChange(id, revision, false, AbortSignal.timeout(20_000));
    const endings: string[] = [];
    t.work.watchEndings((jobId) => endings.push(jobId));
    const end = bullWorker(t, NAS_QUEUE, async (item) => {
      if ('directory' in item) {
        const run = await t.work.expansions.begin(item.jobId, item.directory);
        if (run === null || typeof run === 'string') return;
        await t.work.expansions.append(run, ['d/a', 'd/b']);
        await t.work.expansions.end(run, 2);
        return;
      }
      const run = await t.work.chunks.begin(item.jobId, item.chunk);
      if (!run) return;
      await t.work.caches.leaseSlots(NAS_QUEUE, 'w', { inFlight: 10, filesPerSecond: null }, 1, 5);
      await t.work.caches.takeStarts(NAS_QUEUE, 1000, 10);
      for (const half of [run.files.slice(0, 200), run.files.slice(200)])
        await t.work.chunks.record(
          run,
          half.map((file) => result(file)),
        );
      await t.work.chunks.end(run);
    });
    await until('the end', async () => (await t.store.getJob(id)).state === 'succeeded');
    await wait;
    await end();
    const canceled = await submit(t.store, ['a']);
    await t.store.cancel(canceled);
    await t.store.pauseCache('nas', 'x');
    await t.work.caches.hold(NAS_QUEUE, 'UNREACHABLE', 'away');
    await t.sweeper.sweep();
    await until('the message', () => endings.includes(canceled));
    assert.equal((await t.store.health()).ok, true);
    const keys = await t.redis.client().keys('*');
    assert.ok(keys.length > 10);
    assert.deepEqual(
      keys.filter((key) => !key.startsWith('{test}:')),
      [],
    );
  } finally {
    await t.close();
  }
});

test('a Redis that is less durable than it should be is told in words', async () => {
  const weak = await openTestStore({ redis: { args: ['--maxmemory-policy', 'allkeys-lru'] } });
  const { ok, warnings } = await weak.store.health();
  assert.equal(ok, true);
  assert.equal(warnings.length, 2);
  assert.match(warnings.join('\n'), /appendonly yes/);
  assert.match(warnings.join('\n'), /maxmemory-policy allkeys-lru/);
  await weak.redis.client().config('SET', 'appendonly', 'yes');
  assert.match((await weak.store.health()).warnings.join('\n'), /appendfsync everysec/);
  await weak.close();

  const good = await openTestStore({ redis: { durable: true } });
  assert.deepEqual(await good.store.health(), { ok: true, warnings: [] });
  await good.close();
});

test('while Redis reads its data the store is not healthy: what is healthy takes commands', async () => {
  const t = await openTestStore({
    // Slow to read, so that there is time to look: it answers INFO once in 1,024 keys.
    redis: { durable: true, args: ['--key-load-delay', '300', '--enable-debug-command', 'yes'] },
  });
  try {
    const id = await submit(t.store, ['a']);
    const pipeline = t.redis.client().pipeline();
    for (let i = 0; i < 4000; i++) pipeline.set(`ballast:${i}`, 'x');
    await pipeline.exec();
    await t.redis.kill();
    const watch = t.redis.client({ enableReadyCheck: false, maxRetriesPerRequest: null });
    const restarted = t.redis.restart();
    let seenLoading = false;
    await until('the store to be healthy', async () => {
      seenLoading ||= (await watch.info('persistence')).includes('loading:1');
      return (await t.store.health()).ok;
    });
    assert.equal((await t.store.getJob(id)).state, 'queued');
    await restarted;
    assert.ok(seenLoading, 'Redis was never seen loading');
  } finally {
    await t.close();
  }
});

test('a read-only replica is told as such', async () => {
  const t = await openTestStore();
  await t.redis.client().call('REPLICAOF', '127.0.0.1', '1');
  const { ok, warnings } = await t.store.health();
  assert.equal(ok, false);
  assert.match(warnings.join(), /replica.*primary/);
  await t.close();
});

test('a Redis with a password takes it from the URL, on a unix socket too, and says that it wants one', async () => {
  const t = await openTestStore();
  await t.redis.client().config('SET', 'requirepass', 'secret');
  const health = (url: string) =>
    untilRedisAnswers({ url, cluster: false }, 1000, new AbortController().signal);
  const locked = t.redis.url.replace('unix://', 'unix://:secret@localhost');
  assert.equal((await health(locked)).ok, true);
  await assert.rejects(health(t.redis.url), /does not answer: NOAUTH.*Give its password in the URL/);
  await assert.rejects(health(locked.replace('secret', 'wrong')), (error: Error) => {
    assert.match(error.message, /WRONGPASS/);
    assert.doesNotMatch(error.message, /wrong@/);
    return true;
  });
  await t.close();
});

test('a node of a Cluster that is taken for a single Redis is told as such', async () => {
  const t = await openTestStore({ redis: { cluster: true } });
  const store = await t.openStore({ redis: { url: t.redis.url, cluster: false } });
  const { ok, warnings } = await store.health();
  assert.equal(ok, false);
  assert.match(warnings.join(), /redis\.cluster: true/);
  await t.close();
});

test('a Redis that is full refuses jobs in words and keeps what it has', async () => {
  const t = await openTestStore();
  const id = await submit(t.store, ['a']);
  await t.redis.client().config('SET', 'maxmemory', '1');
  await assert.rejects(
    submit(t.store, manyPaths(2000)),
    (error) =>
      error instanceof BrokerError && error.code === 'STORE_UNAVAILABLE' && /full/.test(error.message),
  );
  assert.equal((await t.store.getJob(id)).state, 'queued');
  await t.redis.client().config('SET', 'maxmemory', '0');
  await submit(t.store, manyPaths(2000));
  await t.close();
});

test('stores with different prefixes share a Redis without seeing each other', async () => {
  const t = await openTestStore();
  const other = await t.openStore({ keyPrefix: 'other' });
  const id = await submit(t.store, ['a']);
  assert.deepEqual((await other.listJobs({}, null, 10)).items, []);
  await assert.rejects(
    other.getJob(id),
    (error) => error instanceof BrokerError && error.code === 'JOB_NOT_FOUND',
  );
  await t.close();
});

test('a URL or prefix that cannot be is refused at once', async () => {
  const open = (url: string, keyPrefix = 'p') =>
    openJobStore({ redis: { url, cluster: false }, keyPrefix, caches: [NAS] });
  await assert.rejects(open('http://localhost'), TypeError);
  await assert.rejects(open('redis://localhost/x'), TypeError);
  await assert.rejects(open('redis://localhost', 'a{b}'), TypeError);
});
