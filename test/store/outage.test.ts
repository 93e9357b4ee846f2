import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BrokerError } from '../../src/model/errors.js';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { until } from '../support/until.js';
import {
  addAll,
  begin,
  finishAll,
  manyPaths,
  newJob,
  openTestStore,
  result,
  submit,
  type TestStore,
} from './fixture.js';

const unavailable = (error: unknown) =>
  error instanceof BrokerError && error.code === 'STORE_UNAVAILABLE' && error.retryAfterSeconds !== undefined;

async function using(options: Parameters<typeof openTestStore>[0], work: (t: TestStore) => Promise<void>) {
  const t = await openTestStore(options);
  try {
    await work(t);
  } finally {
    await t.close();
  }
}

/** Everything the API may ask, all at once: each must fail by itself, within seconds. */
async function assertAllFail(t: TestStore, id: string): Promise<void> {
  const calls: (() => Promise<unknown>)[] = [
    () => t.store.getJob(id),
    () => t.store.getRevision(id),
    () => t.store.listJobs({}, null, 10),
    () => t.store.listFiles(id, {}, null, 10),
    () => t.store.errorGroups(id),
    () => t.store.cancel(id),
    () => t.store.retry(id, LOCAL_PRINCIPAL),
    () => t.store.listCaches(),
    () => t.store.getCache('nas'),
    () => t.store.pauseCache('nas', 'x'),
    () => t.store.resumeCache('nas'),
    () => t.store.waitForChange(id, 'x', false, AbortSignal.timeout(20_000)),
    async () => {
      const intake = t.store.openIntake(LOCAL_PRINCIPAL);
      try {
        await addAll(intake, manyPaths(3000));
        await intake.commit(newJob());
      } finally {
        await intake.abort();
      }
    },
  ];
  const startedAt = Date.now();
  const outcomes = await Promise.allSettled(calls.map((call) => call()));
  assert.ok(Date.now() - startedAt < 10_000);
  for (const [i, outcome] of outcomes.entries()) {
    assert.ok(
      outcome.status === 'rejected' && unavailable(outcome.reason),
      `call ${i}: ${JSON.stringify(outcome)}`,
    );
  }
  const health = await t.store.health();
  assert.equal(health.ok, false);
}

async function assertAllWork(t: TestStore): Promise<void> {
  await until('the store to work again', async () => (await t.store.health()).ok);
  const id = await submit(t.store, manyPaths(600));
  await finishAll(t.work, id, 2);
  assert.equal((await t.store.getJob(id)).state, 'succeeded');
  await t.store.pauseCache('nas', 'x');
  await t.store.resumeCache('nas');
}

test('with Redis frozen every call of the API fails within seconds, and works again when it thaws', () =>
  using({}, async (t) => {
    const id = await submit(t.store, ['a']);
    t.redis.freeze();
    await assertAllFail(t, id);
    t.redis.thaw();
    await assertAllWork(t);
  }));

test('with Redis down every call of the API fails at once, and works again when it is back', () =>
  using({ redis: { durable: true } }, async (t) => {
    const id = await submit(t.store, ['a']);
    await t.redis.kill();
    await assertAllFail(t, id);
    await t.redis.restart();
    await assertAllWork(t);
    assert.equal((await t.store.getJob(id)).state, 'queued');
  }));

test('a store that was opened while Redis was down works as soon as Redis is there', () =>
  using({ redis: { durable: true } }, async (t) => {
    const id = await submit(t.store, ['a']);
    await t.redis.kill();
    const late = await t.openStore();
    await assert.rejects(late.getJob(id), unavailable);
    await assert.rejects(late.pauseCache('nas', 'x'), unavailable);
    await t.redis.restart();
    await until('the store to work', async () => (await late.health()).ok);
    assert.equal((await late.getJob(id)).state, 'queued');
    await late.pauseCache('nas', 'x');
    await late.resumeCache('nas');
    const id2 = await submit(late, ['b']);
    assert.equal((await late.getJob(id2)).state, 'queued');
  }));

test('what was committed when Redis is killed is there to the last file when it is back', () =>
  using({ redis: { durable: true } }, async (t) => {
    const acknowledged: string[] = [];
    // Killed amid a row of commits: all that were acknowledged must be there, whole.
    const submitting = (async () => {
      for (;;) acknowledged.push(await submit(t.store, [...manyPaths(700), 'run/0/rank-3.dat']));
    })().catch(() => {});
    await until('some commits', () => acknowledged.length >= 5);
    await t.redis.kill();
    await submitting;
    await t.redis.restart();
    await until('the store to work', async () => (await t.store.health()).ok);
    await until('the hand-over', async () => {
      // The sweeper's own connection may still be on its way back.
      await t.sweeper.sweep().catch(() => {});
      return (await t.redis.client().zcard(t.keys.outbox)) === 0;
    });
    for (const id of acknowledged) {
      const job = await t.store.getJob(id);
      assert.equal(job.progress.filesTotal, 701);
      assert.equal(job.progress.filesPending, 700);
      assert.equal((await t.store.listFiles(id, {}, null, 1000)).items.length, 701);
      await finishAll(t.work, id, 2);
      assert.equal((await t.store.getJob(id)).state, 'succeeded');
    }
  }));

test('a worker waits out the absence of Redis, and what it then records counts once', () =>
  using({ redis: { durable: true } }, async (t) => {
    const id = await submit(t.store, manyPaths(600));
    const run = await begin(t.work, id, 0);
    await t.work.chunks.record(
      run,
      run.files.slice(0, 100).map((file) => result(file)),
    );
    await t.redis.kill();
    const recorded = t.work.chunks.record(
      run,
      run.files.map((file) => result(file)),
    );
    const waits = t.store.waitForChange(id, 'x', true, AbortSignal.timeout(20_000)).catch(() => {});
    await t.redis.restart();
    assert.equal((await recorded).accepted, 412);
    await finishAll(t.work, id, 2);
    await waits;
    const job = await t.store.getJob(id);
    assert.equal(job.state, 'succeeded');
    assert.equal(job.progress.filesSucceeded, 600);
  }));

test('who waits for a change while Redis goes and comes still learns of it', () =>
  using({ redis: { durable: true } }, async (t) => {
    const id = await submit(t.store, ['a']);
    const { revision } = await t.store.getRevision(id);
    const wait = t.store.waitForChange(id, revision, true, AbortSignal.timeout(20_000));
    await t.redis.kill();
    await t.redis.restart();
    await until('the store to work', async () => (await t.store.health()).ok);
    await finishAll(t.work, id, 1);
    await wait;
    await until('the end', async () => (await t.store.getJob(id).catch(() => null))?.state === 'succeeded');
  }));

test('a sweeper outlives the absence of Redis', () =>
  using({ redis: { durable: true } }, async (t) => {
    const errors: unknown[] = [];
    const sweeper = t.openSweeper({ intervalMs: 10, onError: (error) => errors.push(error) });
    sweeper.start();
    await t.redis.kill();
    await t.redis.restart();
    await until('the store to work', async () => (await t.store.health()).ok);
    const id = await submit(t.store, ['a'], { options: { ...newJob().options, deadlineSeconds: 0.01 } });
    await until('the end', async () => (await t.store.getJob(id)).state === 'expired');
    assert.deepEqual(errors, []);
  }));

test('everything closes while Redis is down or frozen, and what waits is rejected', async () => {
  for (const away of ['kill', 'freeze'] as const) {
    const t = await openTestStore();
    const id = await submit(t.store, ['a']);
    const run = await begin(t.work, id, 0);
    await t.redis[away]();
    const pending = [
      t.work.chunks.record(run, [result(run.files[0] as never)]),
      t.work.caches.hold('cache-nas', 'UNREACHABLE', 'away'),
      t.store.waitForChange(id, 'x', true, AbortSignal.timeout(20_000)),
      t.sweeper.sweep(),
    ];
    const settled = Promise.allSettled(pending);
    const startedAt = Date.now();
    await Promise.all([t.store.close(), t.work.close(), t.sweeper.close()]);
    const outcomes = await settled;
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      Array(4).fill('rejected'),
    );
    assert.ok(Date.now() - startedAt < 8000);
    await t.redis.stop();
  }
});
