import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type SimulatedCache, startSimulatedCache } from '../../src/sim/server.js';
import { startRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { cacheAt, ended, getJob, numbered, post, startService, testFolder } from './processes.js';

const FILES = 3000;
const QUERY = { cache: 'sim', export: '/synthetic' };

async function synthetic(t: TestContext, flushLatencyMs: number): Promise<SimulatedCache> {
  const sim = await startSimulatedCache({ syntheticFiles: FILES, flushLatencyMs, flushConcurrency: 10_000 });
  t.after(() => sim.close());
  return sim;
}

async function someDone(url: string, id: string): Promise<void> {
  await until('some files are flushed', async () => (await getJob(url, id)).progress.filesSucceeded >= 200);
}

test('kill -9 of a whole service with its private Redis: started again it ends its jobs', async (t) => {
  const sim = await synthetic(t, 100);
  const config = {
    dataDir: join(await testFolder(t), 'data'),
    worker: { lockSeconds: 2, stalledCheckSeconds: 1 },
    caches: [cacheAt(sim.ports, { limits: { inFlight: 200 } })],
  };
  const first = await startService(t, config);
  const { id } = await post(first.url, QUERY, numbered(FILES));
  await someDone(first.url, id);
  first.kill('SIGKILL');
  await first.ended;
  const second = await startService(t, config);
  assert.equal((await ended(second.url, id)).progress.filesSucceeded, FILES);
  second.kill('SIGTERM');
  assert.equal(await second.ended, 0);
});

test('kill -9 of Redis in mid-job, and its return: the job goes on, every file counted once', async (t) => {
  const sim = await synthetic(t, 100);
  const redis = await startRedis({ durable: true });
  t.after(() => redis.stop());
  const config = {
    redis: { url: redis.url },
    worker: { lockSeconds: 2, stalledCheckSeconds: 1 },
    caches: [cacheAt(sim.ports, { limits: { inFlight: 200 } })],
  };
  const service = await startService(t, config);
  const { id } = await post(service.url, QUERY, numbered(FILES));
  await someDone(service.url, id);
  await redis.kill();
  await until('it says so', async () => (await fetch(`${service.url}/v1/jobs/${id}`)).status === 503);
  await redis.restart();
  await until('it answers again', async () => (await fetch(`${service.url}/v1/jobs/${id}`)).status === 200);
  assert.equal((await ended(service.url, id)).progress.filesSucceeded, FILES);
});

test('with Redis away a service still ends within its time', async (t) => {
  const sim = await synthetic(t, 100);
  const redis = await startRedis();
  t.after(() => redis.stop());
  const service = await startService(t, {
    redis: { url: redis.url },
    worker: { shutdownGraceSeconds: 1 },
    caches: [cacheAt(sim.ports, { limits: { inFlight: 20 } })],
  });
  const { id } = await post(service.url, QUERY, numbered(FILES));
  await until('it works', async () => (await getJob(service.url, id)).progress.filesActive > 0);
  await redis.kill();
  service.kill('SIGTERM');
  assert.equal(await service.ended, 1);
});
