import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../support/until.js';
import { numbered, startRig } from './rig.js';

test('an OK of a server that never showed the dialect counts as accepted, and the job says so', async (t) => {
  const rig = await startRig(t, { synthetic: 700, sim: { dialect: 'rfc1813' } });
  rig.startWorker();
  const id = await rig.submit(numbered(700));
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.deepEqual(
    job.warnings.map(({ code, count }) => [code, count]),
    [['DIALECT_UNPROVEN', 700]],
  );
  assert.match(job.warnings[0]?.message ?? '', /dialect rfc1813/);
  const { items } = await rig.test.store.listFiles(id, {}, null, 1);
  assert.equal(items[0]?.evidence, 'accepted');
});

test('a cancel ends the files in hand at once, and those that wait', async (t) => {
  const files = numbered(1500);
  const rig = await startRig(t, { synthetic: 1500, sim: { flushLatencyMs: 600_000 } });
  rig.startWorker();
  const id = await rig.submit(files);
  await until('flushes are under way', () => rig.sim.stats().flushes.active === 256);
  await rig.test.store.cancel(id);
  const job = await rig.ended(id);
  assert.equal(job.state, 'canceled');
  assert.equal(job.progress.filesCanceled, 1500);
});

test('at the deadline of its job a file that the cache never answers about has expired', async (t) => {
  const files = numbered(20);
  const rig = await startRig(t, {
    synthetic: 20,
    sim: { faults: [{ kind: 'silent', procedures: ['COMMIT'] }] },
  });
  rig.startWorker();
  const id = await rig.submit(files, {}, { deadlineSeconds: 2 });
  const job = await rig.ended(id);
  assert.equal(job.state, 'expired');
  assert.equal(job.progress.filesExpired, 20);
});

test('a cache that goes away holds its queue and costs nothing; when it is back the job goes on by itself', async (t) => {
  const files = numbered(800);
  const rig = await startRig(t, { synthetic: 800, sim: { flushLatencyMs: 20 }, limits: { inFlight: 64 } });
  rig.startWorker();
  const id = await rig.submit(files);
  await until('some files are flushed', async () => {
    return (await rig.test.store.getJob(id)).progress.filesSucceeded > 50;
  });
  await rig.sim.close();
  await until('the cache is shown as down', async () => {
    return (await rig.test.store.getCache('sim')).health === 'down';
  });
  await until('its files are pending again', async () => {
    const { progress } = await rig.test.store.getJob(id);
    return progress.filesActive === 0 && progress.filesPending > 0;
  });
  const { statusDetail } = await rig.test.store.getJob(id);
  assert.match(statusDetail ?? '', /127\.0\.0\.1/);
  await rig.restartSim();
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(job.progress.filesSucceeded, 800);
  assert.equal((await rig.test.store.getCache('sim')).health, 'up');
});

test('a cache that was never there holds its queue until it is', async (t) => {
  const rig = await startRig(t, { synthetic: 5 });
  await rig.sim.close();
  rig.startWorker();
  const id = await rig.submit(numbered(5));
  await until('it is held', async () => (await rig.test.work.caches.getHold(rig.queue)) !== null);
  await rig.restartSim();
  assert.equal((await rig.ended(id)).state, 'succeeded');
});

test('a paused cache is left in peace: what is under way ends, the rest waits for its resumption', async (t) => {
  const files = numbered(1000);
  const rig = await startRig(t, { synthetic: 1000, sim: { flushLatencyMs: 30 }, limits: { inFlight: 20 } });
  rig.startWorker();
  const id = await rig.submit(files);
  await until('some are flushed', async () => (await rig.test.store.getJob(id)).progress.filesSucceeded > 20);
  await rig.test.store.pauseCache('sim', 'maintenance');
  await until('nothing is in hand any more', async () => {
    return (await rig.test.store.getJob(id)).progress.filesActive === 0;
  });
  const paused = await rig.test.store.getJob(id);
  const { started } = rig.sim.stats().flushes;
  assert.equal(paused.paused, true);
  assert.ok(paused.progress.filesPending > 0);
  assert.equal(paused.progress.filesSucceeded, started);
  await rig.test.store.resumeCache('sim');
  assert.equal((await rig.ended(id)).state, 'succeeded');
});

test('a worker that is told to end lets flushes under way end and gives the rest back at once', async (t) => {
  const files = numbered(1200);
  const rig = await startRig(t, { synthetic: 1200, sim: { flushLatencyMs: 50 }, limits: { inFlight: 40 } });
  const first = rig.startWorker();
  const id = await rig.submit(files);
  await until('some are flushed', async () => (await rig.test.store.getJob(id)).progress.filesSucceeded > 40);
  assert.equal(await first.close(10_000), true);
  const left = await rig.test.store.getJob(id);
  assert.equal(left.progress.filesActive, 0);
  // What was begun was also counted: nothing is begun twice.
  assert.equal(left.progress.filesSucceeded, rig.sim.stats().flushes.started);
  assert.ok(left.progress.filesPending > 0);
  rig.startWorker();
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(rig.sim.stats().flushes.started, 1200);
});

test('flushes that do not end within the grace time are given back too', async (t) => {
  const files = numbered(10);
  const rig = await startRig(t, { synthetic: 10, sim: { flushLatencyMs: 600_000 } });
  const first = rig.startWorker();
  const id = await rig.submit(files);
  await until('flushes are under way', () => rig.sim.stats().flushes.active === 10);
  assert.equal(await first.close(100), true);
  assert.equal((await rig.test.store.getJob(id)).progress.filesPending, 10);
  rig.sim.setFlushLimits({ latencyMs: 0 });
  await rig.test.store.cancel(id);
  assert.equal((await rig.ended(id)).state, 'canceled');
});

test('a directory whose expansion was cut off is expanded to its end, each file once', async (t) => {
  const slow = { kind: 'slow', delayMs: 50, procedures: ['READDIRPLUS'] } as const;
  const rig = await startRig(t, { synthetic: 3000, sim: { faults: [slow] } });
  const first = rig.startWorker();
  const id = await rig.submit([], { directories: [{ path: '/', include: [], exclude: [] }] });
  await until('some are found', async () => (await rig.test.store.getJob(id)).progress.filesTotal >= 512);
  await first.close(0);
  rig.startWorker();
  const job = await rig.ended(id);
  assert.equal(job.progress.filesTotal, 3000);
  assert.equal(job.progress.filesSucceeded, 3000);
});

test('a chunk that kills its worker again and again is given up, in words', async (t) => {
  const rig = await startRig(t, { synthetic: 600 });
  const id = await rig.submit(numbered(600));
  const redis = rig.test.redis.client();
  const item = `${rig.test.work.bullPrefix}:${rig.queue}:${id}-0`;
  await until('it is queued', async () => (await redis.exists(item)) === 1);
  await redis.hset(item, 'stc', 6);
  rig.startWorker();
  const job = await rig.ended(id);
  assert.equal(job.state, 'partial');
  const [group] = await rig.test.store.errorGroups(id);
  assert.equal(group?.code, 'WORKER_LOST');
  assert.equal(group?.count, 512);
});

test('a restart of the NFS server under a job is a warning on it', async (t) => {
  const files = numbered(200);
  const rig = await startRig(t, { synthetic: 200, sim: { flushLatencyMs: 10 }, limits: { inFlight: 8 } });
  rig.startWorker({ holdAfterMs: 10_000 });
  const id = await rig.submit(files);
  await until('some are flushed', async () => (await rig.test.store.getJob(id)).progress.filesSucceeded > 8);
  await rig.sim.close();
  await rig.restartSim();
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.ok(job.warnings.some(({ code }) => code === 'SERVER_RESTARTED'));
});

test('a chunk whose workers died twice is tried again all the same', async (t) => {
  const rig = await startRig(t, { synthetic: 20 });
  const id = await rig.submit(numbered(20));
  const redis = rig.test.redis.client();
  const item = `${rig.test.work.bullPrefix}:${rig.queue}:${id}-0`;
  await until('it is queued', async () => (await redis.exists(item)) === 1);
  await redis.hset(item, 'stc', 2);
  rig.startWorker();
  assert.equal((await rig.ended(id)).progress.filesSucceeded, 20);
});
