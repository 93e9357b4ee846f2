import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { startSimulatedCache } from '../../src/sim/server.js';
import { type ServiceProcess, startService, testFolder } from '../e2e/processes.js';
import { type Family, parseExposition, sampleValue } from '../support/exposition.js';
import { startRedis } from '../support/redis.js';
import { until } from '../support/until.js';

async function simulated(t: TestContext, files: number) {
  const folder = await testFolder(t);
  const cacheDir = join(folder, 'cache');
  await mkdir(cacheDir);
  for (let i = 0; i < files; i++) await writeFile(join(cacheDir, `f${i}`), 'content');
  const sim = await startSimulatedCache({ cacheDir, filerDir: join(folder, 'filer') });
  t.after(() => sim.close());
  return sim;
}

async function metricsUrl(worker: ServiceProcess): Promise<string> {
  let url = '';
  await until('it tells where its metrics are', () => {
    url = /"metricsUrl":"([^"]+)"/.exec(worker.log())?.[1] ?? '';
    return url !== '';
  });
  return url;
}

async function scrape(url: string): Promise<Map<string, Family>> {
  const response = await fetch(`${url}/metrics`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  return parseExposition(await response.text());
}

async function submit(url: string, body: Record<string, unknown>, untilTerminal = true): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const sent = await fetch(`${url}/v1/flushes`, { method: 'POST', headers, body: JSON.stringify(body) });
  const job = (await sent.json()) as { id: string };
  assert.equal(sent.status, 202, JSON.stringify(job));
  if (untilTerminal)
    await fetch(`${url}/v1/jobs/${job.id}?until=terminal`, { headers: { prefer: 'wait=30' } });
}

test('one process shows everything: jobs, files, evidence, latencies, slots, itself', async (t) => {
  const sim = await simulated(t, 5);
  const target = { addresses: [sim.address], dialect: 'hpc-cache', ports: sim.ports };
  const service = await startService(t, {
    caches: [
      { name: 'sim', ...target, limits: { inFlight: 64 } },
      { name: 'unused', ...target },
    ],
    adHoc: { networks: ['127.0.0.0/8'], ports: sim.ports },
  });
  const files = ['/f0', '/f1', '/f2', '/f3', '/missing'];
  await submit(service.url, { cache: 'sim', export: '/cache', files });
  // Nothing listens there: these wait.
  for (const cache of ['127.0.0.2', '127.0.0.3']) {
    await submit(service.url, { cache, dialect: 'hpc-cache', export: '/cache', files: ['/f4'] }, false);
  }
  const families = await scrape(service.url);
  const value = (name: string, labels?: Record<string, string>) => sampleValue(families, name, labels);

  const sims = { cache: 'sim' };
  assert.equal(value('writeback_jobs_total', { ...sims, state: 'queued', kind: 'flush' }), 1);
  assert.equal(value('writeback_jobs_total', { ...sims, state: 'partial' }), 1);
  assert.equal(value('writeback_files_total', { ...sims, outcome: 'flushed' }), 4);
  assert.equal(value('writeback_files_total', { ...sims, outcome: 'failed' }), 1);
  assert.equal(value('writeback_worker_file_errors_total', { ...sims, code: 'ENOENT' }), 1);
  assert.equal(value('writeback_flush_duration_seconds_count', { ...sims, outcome: 'flushed' }), 4);
  assert.ok((value('writeback_rpc_duration_seconds_count', { ...sims, procedure: 'NFS3 COMMIT' }) ?? 0) >= 8);
  assert.equal(value('writeback_worker_connections', sims), 1);
  assert.equal(value('writeback_worker_chunks_total', { ...sims, end: 'done' }), 1);
  assert.equal(value('writeback_cache_files_pending', sims), 0);
  assert.equal(value('writeback_cache_files_active', sims), 0);
  assert.equal(value('writeback_cache_slots_limit', sims), 64);
  assert.equal(value('writeback_cache_dialect_proven', sims), 1);
  assert.equal(value('writeback_cache_up', sims), 1);
  assert.equal(value('writeback_cache_up', { cache: 'unused' }), null);
  assert.equal(value('writeback_store_up'), 1);
  assert.ok((value('writeback_store_round_trip_seconds') ?? 0) > 0);
  assert.ok((value('process_resident_memory_bytes') ?? 0) > 1e7);
  assert.ok((value('nodejs_eventloop_lag_p99_seconds') ?? 0) > 0);
  const requests = { method: 'POST', route: '/v1/flushes', status: '202' };
  assert.equal(value('writeback_http_request_duration_seconds_count', requests), 3);

  const evidence = families
    .get('writeback_worker_files_total')
    ?.samples.filter(({ labels }) => labels.cache === 'sim' && labels.state === 'succeeded')
    .reduce((sum, sample) => sum + sample.value, 0);
  assert.equal(evidence, 4);

  // However many addresses requests name, they are one.
  assert.equal(value('writeback_jobs_total', { cache: 'ad-hoc', state: 'queued' }), 2);
  assert.equal(value('writeback_cache_jobs_active', { cache: 'ad-hoc' }), 2);
  const names = new Set(
    [...families.values()].flatMap(({ samples }) => samples.map(({ labels }) => labels.cache)),
  );
  assert.deepEqual([...names].filter((name) => name !== undefined).sort(), ['ad-hoc', 'sim', 'unused']);
});

test('a worker has a listener of its own, and the API tells what waits while no worker runs', async (t) => {
  const redis = await startRedis({ durable: true });
  t.after(() => redis.stop());
  const sim = await simulated(t, 3);
  const config = {
    redis: { url: redis.url },
    caches: [{ name: 'sim', addresses: [sim.address], dialect: 'hpc-cache', ports: sim.ports }],
    worker: { metricsPort: 0 },
  };
  const api = await startService(t, config, ['--role', 'api']);
  const body = JSON.stringify({ cache: 'sim', export: '/cache', files: ['/f0', '/f1', '/f2'] });
  const headers = { 'content-type': 'application/json' };
  await fetch(`${api.url}/v1/flushes`, { method: 'POST', headers, body });
  const before = await scrape(api.url);
  assert.equal(sampleValue(before, 'writeback_cache_files_pending', { cache: 'sim' }), 3);
  assert.ok((sampleValue(before, 'writeback_cache_queue_age_seconds', { cache: 'sim' }) ?? 0) > 0);
  assert.equal(before.has('writeback_worker_files_total'), false);

  const worker = await startService(t, config, ['--role', 'worker']);
  const url = await metricsUrl(worker);
  const health = await fetch(`${url}/healthz`);
  assert.deepEqual([health.status, ((await health.json()) as { status: string }).status], [200, 'ok']);
  assert.equal((await fetch(`${url}/v1/jobs`)).status, 404);
  assert.equal((await fetch(`${url}/metrics`, { method: 'POST' })).status, 405);
  await until(
    'the queue is empty',
    async () => sampleValue(await scrape(api.url), 'writeback_cache_files_pending', { cache: 'sim' }) === 0,
  );
  await until('all are counted', async () => {
    const families = await scrape(url);
    const ended = families.get('writeback_worker_files_total')?.samples ?? [];
    return ended.reduce((sum, { value }) => sum + value, 0) === 3;
  });
  const own = await scrape(url);
  assert.equal(own.has('writeback_cache_files_pending'), false);
  assert.equal(sampleValue(own, 'writeback_store_up'), 1);

  // A store that is silent is told as such, soon, and nothing is made up.
  redis.freeze();
  try {
    for (const each of [api.url, url]) {
      const families = await scrape(each);
      assert.equal(sampleValue(families, 'writeback_store_up'), 0);
      assert.equal(sampleValue(families, 'writeback_store_round_trip_seconds'), null);
    }
    assert.deepEqual((await scrape(api.url)).get('writeback_cache_files_pending')?.samples, []);
  } finally {
    redis.thaw();
  }
  await until('Redis is back', async () => sampleValue(await scrape(api.url), 'writeback_store_up') === 1);
  worker.kill('SIGTERM');
  assert.equal(await worker.ended, 0, worker.log());
});

test('a port for metrics that is taken stops the start with the setting to change', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  const config = { redis: { url: redis.url }, worker: { metricsPort: 0 } };
  const first = await startService(t, config, ['--role', 'worker']);
  const port = Number(new URL(await metricsUrl(first)).port);
  await assert.rejects(
    startService(t, { ...config, worker: { metricsPort: port } }, ['--role', 'worker']),
    /worker\.metricsPort/,
  );
});
