import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BrokerError } from '../../src/model/errors.js';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { chunkItemId } from '../../src/store/keys.js';
import { until } from '../support/until.js';
import {
  begin,
  bullWorker,
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
  t = await openTestStore({ store: { retentionMs: 60_000 }, sweeper: { goneMs: 60_000 } });
});
after(() => t.close());

const code = (wanted: string) => (error: unknown) => error instanceof BrokerError && error.code === wanted;
const options = (deadlineSeconds: number) => ({ options: { ...newJob().options, deadlineSeconds } });

test('a job canceled before anything began ends at once, and cancel can be said again', async () => {
  const id = await submit(t.store, manyPaths(70_000));
  const job = await t.store.cancel(id);
  assert.equal(job.state, 'canceled');
  assert.equal(job.progress.filesCanceled, 70_000);
  assert.match(job.statusDetail ?? '', /70000 files are not done/);
  assert.equal(await t.work.chunks.begin(id, 0), null);
  assert.equal((await t.store.cancel(id)).revision, job.revision);
  const [group] = await t.store.errorGroups(id);
  assert.deepEqual([group?.code, group?.count, group?.samples.length], ['CANCELED', 70_000, 5]);
  const { items } = await t.store.listFiles(id, { code: 'CANCELED' }, null, 1);
  assert.equal(items[0]?.lastError?.code, 'CANCELED');
});

test('a job canceled at work waits for what its workers have in hand, and they are told', async () => {
  const id = await submit(t.store, manyPaths(1000));
  const run = await begin(t.work, id, 0);
  const told: string[] = [];
  const stop = t.work.watchEndings((jobId, why) => told.push(`${jobId} ${why}`));
  await until('the subscription', async () => (await t.redis.client().pubsub('CHANNELS')).length > 0);
  const canceling = await t.store.cancel(id);
  assert.equal(canceling.state, 'canceling');
  assert.equal(canceling.progress.filesActive, 512);
  assert.equal(canceling.progress.filesCanceled, 488);
  await until('the message', () => told.includes(`${id} canceled`));
  stop();
  assert.equal((await t.work.chunks.record(run, [result(run.files[0] as never)])).state, 'canceling');
  const reply = await t.work.chunks.record(
    run,
    run.files.slice(1).map((file) => result(file, { state: 'canceled' })),
  );
  assert.equal(reply.state, 'canceled');
  const job = await t.store.getJob(id);
  assert.equal(job.progress.filesSucceeded, 1);
  assert.equal(job.progress.filesCanceled, 999);
});

test('a worker learns of a cancel also when the message was lost', async () => {
  const id = await submit(t.store, manyPaths(10));
  const run = await begin(t.work, id, 0);
  const client = t.redis.client();
  await client.hset(t.keys.job(id), 'ending', 'canceled', 'state', 'canceling');
  await client.sadd(t.keys.ending, id);
  const told: string[] = [];
  const stop = t.work.watchEndings((jobId, why) => told.push(`${jobId} ${why}`));
  await until('to be told', () => told.includes(`${id} canceled`));
  stop();
  await t.work.chunks.record(
    run,
    run.files.map((file) => result(file)),
  );
});

test('a chunk released into a canceled job ends it', async () => {
  const id = await submit(t.store, manyPaths(10));
  const run = await begin(t.work, id, 0);
  await t.store.cancel(id);
  await t.work.chunks.release(run);
  assert.equal((await t.store.getJob(id)).state, 'canceled');
});

test('a canceled job whose worker died is ended by the sweeper, after two looks', async () => {
  const id = await submit(t.store, manyPaths(10));
  await begin(t.work, id, 0);
  await t.store.cancel(id);
  await t.sweeper.sweep();
  assert.equal((await t.store.getJob(id)).state, 'canceling');
  await t.sweeper.sweep();
  assert.equal((await t.store.getJob(id)).state, 'canceled');
});

test('the sweeper leaves a canceled chunk to the worker that holds its lock', async () => {
  const id = await submit(t.store, manyPaths(10));
  await begin(t.work, id, 0);
  const lock = t.keys.bullLock(NAS_QUEUE, chunkItemId(id, 0));
  await t.redis.client().set(lock, 'held');
  await t.store.cancel(id);
  for (let i = 0; i < 3; i++) await t.sweeper.sweep();
  assert.equal((await t.store.getJob(id)).state, 'canceling');
  await t.redis.client().del(lock);
  for (let i = 0; i < 2; i++) await t.sweeper.sweep();
  assert.equal((await t.store.getJob(id)).state, 'canceled');
});

test('a cancel that was cut short is finished by the sweeper', async () => {
  const id = await submit(t.store, manyPaths(2000));
  const client = t.redis.client();
  // What a crash right after the first script leaves behind.
  await client.hset(t.keys.job(id), 'ending', 'canceled', 'state', 'canceling');
  await client.sadd(t.keys.ending, id);
  await t.sweeper.sweep();
  const job = await t.store.getJob(id);
  assert.equal(job.state, 'canceled');
  assert.equal(job.progress.filesCanceled, 2000);
});

test('a job that succeeded before the cancel came stays as it is', async () => {
  const id = await submit(t.store, ['a']);
  await finishAll(t.work, id, 1);
  assert.equal((await t.store.cancel(id)).state, 'succeeded');
});

test('at its deadline a job expires what is pending, also with no worker anywhere', async () => {
  const id = await submit(t.store, manyPaths(700), options(0.05));
  await until('the end', async () => {
    await t.sweeper.sweep();
    return (await t.store.getJob(id)).state === 'expired';
  });
  const job = await t.store.getJob(id);
  assert.equal(job.progress.filesExpired, 700);
  assert.equal((await t.store.listFiles(id, {}, null, 1)).items[0]?.lastError?.code, 'DEADLINE');
  assert.equal((await t.store.errorGroups(id))[0]?.code, 'DEADLINE');
});

test('a chunk taken up after the deadline is not begun, and a worker at work is told by its next record', async () => {
  const id = await submit(t.store, manyPaths(600), options(0.2));
  const run = await begin(t.work, id, 0);
  await until('the deadline', async () => (await t.work.chunks.begin(id, 1)) === null);
  assert.equal((await t.work.chunks.record(run, [result(run.files[0] as never)])).state, 'expired');
  await t.work.chunks.record(
    run,
    run.files.map((file) => result(file, { state: 'expired' })),
  );
  const job = await t.store.getJob(id);
  assert.equal(job.state, 'expired');
  assert.equal(job.progress.filesSucceeded, 1);
  assert.equal(job.progress.filesExpired, 599);
});

test('files that expire by their own time make a job partial or failed, not expired', async () => {
  const id = await submit(t.store, ['a', 'b']);
  await finishAll(t.work, id, 1, (file) => result(file, file.index === 0 ? {} : { state: 'expired' }));
  assert.equal((await t.store.getJob(id)).state, 'partial');
});

test('a commit that could not be handed to the queue is handed over by the sweeper', async () => {
  const id = await submit(t.store, manyPaths(600));
  const client = t.redis.client();
  // What a crash between the commit and the queue leaves behind.
  await client.del(...(await client.keys(`{test}:${NAS_QUEUE}:*`)));
  await client.hset(t.keys.job(id), 'chunksQueued', 0);
  await client.zadd(t.keys.outbox, 1, id);
  await t.sweeper.sweep();
  assert.equal(await client.exists(t.keys.bullJob(NAS_QUEUE, chunkItemId(id, 1))), 1);
  assert.equal(await client.zscore(t.keys.outbox, id), null);
  await t.store.cancel(id);
});

test('chunks that vanished from the queue are queued again, and then the job ends', async () => {
  const id = await submit(t.store, manyPaths(1500));
  const client = t.redis.client();
  await client.del(...(await client.keys(`{test}:${NAS_QUEUE}:*`)));
  const end = bullWorker(t, NAS_QUEUE, async (item) => {
    if (!('chunk' in item)) return;
    const run = await t.work.chunks.begin(item.jobId, item.chunk);
    if (run)
      await t.work.chunks.record(
        run,
        run.files.map((file) => result(file)),
      );
  });
  await t.sweeper.sweep();
  await until('the second look', async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await t.sweeper.sweep();
    return (await t.store.getJob(id)).state === 'succeeded';
  });
  await end();
});

test('an ended job is kept for its retention, then it is gone, and nothing of it is left but that', async () => {
  const kept = await submit(t.store, ['a']);
  const id = await submit(t.store, manyPaths(600));
  await finishAll(t.work, kept, 1);
  await finishAll(t.work, id, 2);
  const { goneAt, finishedAt } = await t.store.getJob(id);
  assert.equal(Date.parse(goneAt ?? '') - Date.parse(finishedAt ?? ''), 60_000);
  await t.sweeper.sweep();
  assert.equal((await t.store.getJob(id)).state, 'succeeded');
  const client = t.redis.client();
  await client.hset(t.keys.job(id), 'goneAt', 1);
  await client.zadd(t.keys.retention, 1, id);
  await t.sweeper.sweep();
  for (const call of [
    () => t.store.getJob(id),
    () => t.store.cancel(id),
    () => t.store.retry(id, LOCAL_PRINCIPAL),
    () => t.store.listFiles(id, {}, null, 1),
  ]) {
    await assert.rejects(call, code('JOB_GONE'));
  }
  assert.deepEqual(await client.keys(`*${id}*`), [t.keys.gone(id)]);
  assert.ok((await client.pttl(t.keys.gone(id))) > 0);
  assert.equal((await t.store.getJob(kept)).state, 'succeeded');
  const listed = await t.store.listJobs({}, null, 1000);
  assert.ok(!listed.items.some((job) => job.id === id));
});

test('an address of which no job is left is forgotten', async () => {
  const adHocCache = { ...NAS, addresses: ['127.0.0.9'] };
  const id = await submit(t.store, ['a'], { cache: '127.0.0.9', adHocCache });
  await t.store.cancel(id);
  const client = t.redis.client();
  await client.hset(t.keys.job(id), 'goneAt', 1);
  await client.zadd(t.keys.retention, 1, id);
  await until('the address to be forgotten', async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await t.sweeper.sweep();
    return !(await t.store.listCaches()).some(({ name }) => name === '127.0.0.9');
  });
  assert.deepEqual(await client.keys('*127.0.0.9*'), []);
});

test('of many sweepers one works at a time, and another goes on when it is gone', async () => {
  const other = t.openSweeper();
  await t.sweeper.sweep();
  const id = await submit(t.store, ['a'], options(0.001));
  await other.sweep();
  assert.equal((await t.store.getJob(id)).state, 'queued');
  await t.redis.client().del(t.keys.sweeper);
  await until('the end', async () => {
    await other.sweep();
    return (await t.store.getJob(id)).state === 'expired';
  });
  await t.redis.client().del(t.keys.sweeper);
});
