import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type SimulatedCache, startSimulatedCache } from '../../src/sim/server.js';
import { startRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { cacheAt, ended, getJob, numbered, post, startService } from './processes.js';

const FILES = 3000;
const QUERY = { cache: 'sim', export: '/synthetic' };

async function synthetic(t: TestContext, flushLatencyMs: number): Promise<SimulatedCache> {
  const sim = await startSimulatedCache({ syntheticFiles: FILES, flushLatencyMs, flushConcurrency: 10_000 });
  t.after(() => sim.close());
  return sim;
}

async function shared(t: TestContext, sim: SimulatedCache) {
  const redis = await startRedis({ durable: true });
  t.after(() => redis.stop());
  return {
    redis: { url: redis.url },
    worker: { lockSeconds: 2, stalledCheckSeconds: 1, shutdownGraceSeconds: 5 },
    caches: [cacheAt(sim.ports, { limits: { inFlight: 200 } })],
  };
}

async function someDone(url: string, id: string): Promise<void> {
  await until('some files are flushed', async () => (await getJob(url, id)).progress.filesSucceeded >= 200);
}

test('kill -9 of a worker in mid-job: another one ends the job, every file counted once', async (t) => {
  const sim = await synthetic(t, 100);
  const config = await shared(t, sim);
  const api = await startService(t, config, ['--role', 'api']);
  const first = await startService(t, config, ['--role', 'worker']);
  const { id } = await post(api.url, QUERY, numbered(FILES));
  await someDone(api.url, id);
  first.kill('SIGKILL');
  assert.equal(await first.ended, 'SIGKILL');
  const before = await getJob(api.url, id);
  assert.ok(before.progress.filesActive > 0);
  await startService(t, config, ['--role', 'worker']);
  const job = await ended(api.url, id);
  assert.equal(job.state, 'succeeded');
  assert.equal(job.progress.filesSucceeded, FILES);
});

test('kill -9 of the API right after its 202: the job runs, and another API shows its end', async (t) => {
  const sim = await synthetic(t, 5);
  const config = await shared(t, sim);
  const first = await startService(t, config, ['--role', 'api']);
  const { id } = await post(first.url, QUERY, numbered(FILES));
  first.kill('SIGKILL');
  await first.ended;
  await startService(t, config, ['--role', 'worker']);
  const api = await startService(t, config, ['--role', 'api']);
  assert.equal((await ended(api.url, id)).progress.filesSucceeded, FILES);
});

test('SIGTERM of a worker in mid-job: it ends in order, its files go on elsewhere, none is flushed twice', async (t) => {
  const sim = await synthetic(t, 100);
  const config = await shared(t, sim);
  const api = await startService(t, config, ['--role', 'api']);
  const first = await startService(t, config, ['--role', 'worker']);
  const { id } = await post(api.url, QUERY, numbered(FILES));
  await someDone(api.url, id);
  first.kill('SIGTERM');
  assert.equal(await first.ended, 0);
  assert.equal((await getJob(api.url, id)).progress.filesActive, 0);
  await startService(t, config, ['--role', 'worker']);
  assert.equal((await ended(api.url, id)).state, 'succeeded');
  assert.equal(sim.stats().flushes.started, FILES);
});
