import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openGaugeReader } from '../../src/store/gauges.js';
import { newJobId, timeOfId } from '../../src/store/job-id.js';
import { until } from '../support/until.js';
import { NAS, openTestStore, submit } from './fixture.js';

test('an id tells when it was made', () => {
  assert.equal(timeOfId(`${newJobId(1_764_000_000_123)}-17`), 1_764_000_000_123);
  assert.equal(timeOfId('job_x'), null);
});

test('what was counted for an address is still there when the address is forgotten', async () => {
  const t = await openTestStore({ store: { retentionMs: 1 } });
  const reader = openGaugeReader({
    redis: { url: t.redis.url, cluster: t.redis.cluster },
    keyPrefix: 'test',
    caches: [NAS],
  });
  try {
    const { name: _, ...target } = NAS;
    const id = await submit(t.store, ['a', 'b'], { cache: '10.9.9.9', adHocCache: { ...target, name: 'x' } });
    const addresses = async () => (await reader.caches()).find(({ cache }) => cache === null);
    assert.equal((await addresses())?.filesPending, 2);
    assert.ok(((await addresses())?.nextJobAgeMs ?? -1) >= 0);
    await t.store.cancel(id);
    await until('the address is forgotten', async () => {
      await t.sweeper.sweep();
      return Object.keys(await t.redis.client().hgetall(t.keys.queues)).length === 0;
    });
    const left = await addresses();
    assert.equal(left?.filesPending, 0);
    assert.equal(left?.files.canceled, 2);
    assert.deepEqual([left?.jobs.queued, left?.jobs.canceled], [1, 1]);
  } finally {
    reader.close();
    await t.close();
  }
});

test('a store that is away is told without an error, and the caches cannot be read', async () => {
  const reader = openGaugeReader({
    redis: { url: 'redis://127.0.0.1:1', cluster: false },
    keyPrefix: 'test',
    caches: [NAS],
  });
  assert.deepEqual(await reader.store(), { ok: false, roundTripMs: null, warnings: 0 });
  await assert.rejects(reader.caches(), { code: 'STORE_UNAVAILABLE' });
  reader.close();
});
