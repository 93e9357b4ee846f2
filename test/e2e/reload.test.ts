import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { startSimulatedCache } from '../../src/sim/server.js';
import { until } from '../support/until.js';
import { cacheAt, ended, getJson, numbered, post, startService } from './processes.js';

test('SIGHUP: caches come, change and go while the service runs, and a fault in the file changes nothing', async (t) => {
  const sim = await startSimulatedCache({ syntheticFiles: 100 });
  t.after(() => sim.close());
  const first = { ...cacheAt(sim.ports), name: 'first' };
  const service = await startService(t, { caches: [first] });
  const names = async () => {
    const { items } = await getJson<{ items: { name: string; limits: { inFlight: number } }[] }>(
      `${service.url}/v1/caches`,
    );
    return items.map(({ name, limits }) => `${name} ${limits.inFlight}`);
  };
  const reload = async (config: unknown, sentence: RegExp) => {
    const before = service.log().length;
    await writeFile(service.configFile, typeof config === 'string' ? config : JSON.stringify(config));
    service.kill('SIGHUP');
    await until('it says what became of it', () => sentence.test(service.log().slice(before)));
  };
  assert.deepEqual(await names(), ['first 256']);
  await reload(
    {
      ...service.config,
      caches: [
        { ...first, limits: { inFlight: 10 } },
        { ...first, name: 'second' },
      ],
    },
    /"live":\["caches"\],"atRestart":\[\]/,
  );
  assert.deepEqual(await names(), ['first 10', 'second 256']);
  for (const cache of ['first', 'second']) {
    const { id } = await post(service.url, { cache, export: '/synthetic' }, numbered(100));
    assert.equal((await ended(service.url, id)).state, 'succeeded');
  }

  await reload('caches: [', /was not read again, and nothing has changed/);
  await reload({ ...service.config, caches: [{ name: '1' }] }, /nothing has changed: .*caches\[0\]\.name/);
  assert.deepEqual(await names(), ['first 10', 'second 256']);

  await reload(
    {
      ...service.config,
      caches: [{ ...first, name: 'second' }],
      log: { level: 'debug' },
      limits: { globs: 7 },
    },
    /only after a restart: limits\.globs/,
  );
  assert.deepEqual(await names(), ['second 256']);
  const refused = await fetch(`${service.url}/v1/flushes?cache=first&export=/synthetic`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: 'a',
  });
  assert.equal(refused.status, 422);
  const { id } = await post(service.url, { cache: 'second', export: '/synthetic' }, numbered(100));
  assert.equal((await ended(service.url, id)).state, 'succeeded');
  service.kill('SIGTERM');
  assert.equal(await service.ended, 0);
});
