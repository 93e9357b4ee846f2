import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type JobOwner, NO_QUOTAS } from '../../src/model/principal.js';
import { until } from '../support/until.js';
import { numbered, startRig } from './rig.js';

const ALL = [{ path: '/', include: [], exclude: [] }];
const ADA: JobOwner = { name: 'ada', identity: null, quotas: { ...NO_QUOTAS, queuedFiles: 600 } };

for (const chunksPerCache of [1, 4]) {
  test(`a directory larger than the quota of its principal is flushed, and never more of it waits (${chunksPerCache} chunks at a time)`, async (t) => {
    const rig = await startRig(t, { synthetic: 2000, sim: { flushLatencyMs: 20 } });
    const redis = rig.test.redis.client();
    rig.startWorker({ chunksPerCache });
    const id = await rig.submit([], { directories: ALL }, {}, ADA);
    let most = 0;
    let over = false;
    const sampled = (async () => {
      while (!over) {
        const waiting = await redis.hget(`${rig.test.keys.tag}:usage:ada`, 'filesQueued');
        most = Math.max(most, Number(waiting ?? 0));
      }
    })();
    const job = await rig.ended(id);
    over = true;
    await sampled;
    assert.equal(job.state, 'succeeded');
    assert.equal(job.progress.filesSucceeded, 2000);
    assert.equal(rig.sim.stats().flushes.started, 2000);
    assert.ok(most <= 600, `${most} files waited`);
  });
}

test('a directory that waits for room when its worker ends is finished by another, each file once', async (t) => {
  const rig = await startRig(t, { synthetic: 1500 });
  const { store } = rig.test;
  // Of a cache that nobody serves.
  const other = await rig.submit(numbered(590), { cache: 'away' }, {}, ADA);
  const id = await rig.submit([], { directories: ALL }, {}, ADA);
  const first = rig.startWorker();
  await until('it waits for room', async () =>
    /as many as it may/.test((await store.getJob(id)).statusDetail ?? ''),
  );
  await until(
    'what there was room for is done',
    async () => (await store.getJob(id)).progress.filesSucceeded > 0,
  );
  await first.close(0);
  rig.startWorker();
  await store.cancel(other);
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(job.progress.filesTotal, 1500);
  assert.equal(rig.sim.stats().flushes.started, 1500);
});

test('a waiting directory is canceled at once', async (t) => {
  const rig = await startRig(t, { synthetic: 700 });
  const { store } = rig.test;
  await rig.submit(numbered(600), { cache: 'away' }, {}, { ...ADA, quotas: NO_QUOTAS });
  const most = { ...ADA, quotas: { ...NO_QUOTAS, queuedFiles: 601 } };
  const id = await rig.submit([], { directories: ALL }, {}, most);
  rig.startWorker();
  await until('it waits for room', async () =>
    /as many as it may/.test((await store.getJob(id)).statusDetail ?? ''),
  );
  await store.cancel(id);
  assert.equal((await rig.ended(id)).state, 'canceled');
});
