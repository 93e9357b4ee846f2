import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Cache, Job, JobFile } from '../../src/model/job.js';
import { startSimulatedCache } from '../../src/sim/server.js';
import { startGanesha } from '../support/ganesha.js';
import { until } from '../support/until.js';
import {
  cacheAt,
  ended,
  getJob,
  getJson,
  numbered,
  post,
  startProgram,
  startService,
  testFolder,
} from './processes.js';

/** Takes connections and never says a word. */
async function silentServer(t: TestContext): Promise<number> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    t.after(() => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const address = server.address();
  return address !== null && typeof address === 'object' ? address.port : 0;
}

test('from a POST to the bytes on the filer, with nothing configured but a cache', async (t) => {
  const folder = await testFolder(t);
  const [cacheDir, filerDir] = [join(folder, 'cache'), join(folder, 'filer')];
  await mkdir(cacheDir);
  for (let i = 0; i < 20; i++) await writeFile(join(cacheDir, `f${i}`), `content ${i}`);
  const sim = await startSimulatedCache({ cacheDir, filerDir, flushLatencyMs: 20 });
  t.after(() => sim.close());
  const service = await startService(t, { caches: [cacheAt(sim.ports)] });
  const paths = Array.from({ length: 20 }, (_, i) => `f${i}`);
  const posted = await post(service.url, { cache: 'sim', export: '/cache' }, [...paths, 'missing']);
  assert.equal(posted.state, 'queued');
  const job = await ended(service.url, posted.id);
  assert.equal(job.state, 'partial');
  for (let i = 0; i < 20; i++) {
    assert.equal(await readFile(join(filerDir, `f${i}`), 'utf8'), `content ${i}`);
  }
  const files = await getJson<{ items: JobFile[] }>(`${service.url}/v1/jobs/${job.id}/files?state=failed`);
  assert.deepEqual(
    files.items.map(({ path, lastError }) => [path, lastError?.code]),
    [['missing', 'ENOENT']],
  );
  const retried = (await (
    await fetch(`${service.url}/v1/jobs/${job.id}/retry`, { method: 'POST' })
  ).json()) as Job;
  assert.equal(retried.parentJobId, job.id);
  assert.equal((await ended(service.url, retried.id)).progress.filesFailed, 1);
  service.kill('SIGTERM');
  assert.equal(await service.ended, 0);
});

test('an address of this machine can be named without being configured', async (t) => {
  const sim = await startSimulatedCache({ syntheticFiles: 10 });
  t.after(() => sim.close());
  const service = await startService(t, { adHoc: { ports: sim.ports, dialect: 'hpc-cache' } });
  const { id } = await post(service.url, { cache: '127.0.0.1', export: '/synthetic' }, numbered(10));
  assert.equal((await ended(service.url, id)).state, 'succeeded');
});

test('hpc-cache asked of a plain NFS server: nothing is claimed beyond "accepted", and the job warns', async (t) => {
  const exported = await testFolder(t);
  for (let i = 0; i < 5; i++) await writeFile(join(exported, `f${i}`), 'x');
  const ganesha = await startGanesha({ exports: [{ path: exported }] });
  if ('skip' in ganesha) return t.skip(ganesha.skip);
  t.after(() => ganesha.stop());
  const service = await startService(t, {
    caches: [cacheAt({ mount: ganesha.mountPort, nfs: ganesha.nfsPort })],
  });
  const paths = ['f0', 'f1', 'f2', 'f3', 'f4'];
  const { id } = await post(service.url, { cache: 'sim', export: exported }, paths);
  const job = await ended(service.url, id);
  assert.equal(job.state, 'succeeded');
  assert.deepEqual(
    job.warnings.map(({ code, count }) => [code, count]),
    [['DIALECT_UNPROVEN', 5]],
  );
  const { items } = await getJson<{ items: JobFile[] }>(`${service.url}/v1/jobs/${id}/files`);
  assert.deepEqual([...new Set(items.map(({ evidence }) => evidence))], ['accepted']);
  assert.equal((await getJson<Cache>(`${service.url}/v1/caches/sim`)).dialectProven, false);
});

test('a server that never answers: every file has expired at the deadline of the job, and the service ends', async (t) => {
  const port = await silentServer(t);
  const service = await startService(t, {
    worker: { holdAfterSeconds: 1 },
    caches: [cacheAt({ mount: port, nfs: port })],
  });
  const query = { cache: 'sim', export: '/synthetic', deadlineSeconds: '4' };
  const { id } = await post(service.url, query, numbered(700));
  await until('it tells why it waits', async () => {
    return (await getJson<Cache>(`${service.url}/v1/caches/sim`)).health === 'down';
  });
  assert.match((await getJob(service.url, id)).statusDetail ?? '', /127\.0\.0\.1/);
  const job = await ended(service.url, id);
  assert.equal(job.state, 'expired');
  assert.equal(job.progress.filesExpired, 700);
  service.kill('SIGTERM');
  assert.equal(await service.ended, 0);
});

test('what cannot be started is told in a sentence and an exit status', async (t) => {
  const fails = async (args: string[]): Promise<[number | string, string]> => {
    const { ended: end, log } = startProgram(t, args);
    return [await end, log()];
  };
  const folder = await testFolder(t);
  const [role, roleText] = await fails(['serve', '--role', 'worker', '--data-dir', join(folder, 'a')]);
  assert.equal(role, 2);
  assert.match(roleText, /set --redis-url/);

  await writeFile(join(folder, 'bad.yaml'), 'caches: [{nmae: x}]');
  const [config, configText] = await fails(['serve', '--config', join(folder, 'bad.yaml')]);
  assert.equal(config, 2);
  assert.match(configText, /caches\[0\]\.nmae: .*Did you mean "name"/);

  const taken = String(await silentServer(t));
  const [port, portText] = await fails(['serve', '--port', taken, '--data-dir', join(folder, 'b')]);
  assert.equal(port, 69);
  assert.match(portText, /is in use\. Give another port/);

  await writeFile(join(folder, 'away.yaml'), '{"redis": {"startTimeoutSeconds": 1}}');
  const away = [
    'serve',
    '--redis-url',
    'redis://user:secret@127.0.0.1:1',
    '--config',
    join(folder, 'away.yaml'),
  ];
  const [redis, redisText] = await fails(away);
  assert.equal(redis, 69);
  assert.match(redisText, /Redis at redis:\/\/user:…@127\.0\.0\.1:1 does not answer: .*ECONNREFUSED/);
  assert.doesNotMatch(redisText, /secret/);
});

test('a second service on the same data directory is refused and harms nothing', async (t) => {
  const dataDir = join(await testFolder(t), 'data');
  const first = await startService(t, { dataDir });
  const second = startProgram(t, ['serve', '--port', '0', '--data-dir', dataDir]);
  assert.equal(await second.ended, 69);
  assert.match(second.log(), new RegExp(`in use by another service \\(process ${first.pid}\\)`));
  assert.equal((await fetch(`${first.url}/readyz`)).status, 200);
});

test('a second signal ends a service that is still letting flushes end', async (t) => {
  const sim = await startSimulatedCache({ syntheticFiles: 5, flushLatencyMs: 600_000 });
  t.after(() => sim.close());
  const service = await startService(t, { caches: [cacheAt(sim.ports)] });
  await post(service.url, { cache: 'sim', export: '/synthetic' }, numbered(5));
  await until('flushes are under way', () => sim.stats().flushes.active === 5);
  service.kill('SIGTERM');
  await until('it is ending', () => service.log().includes('"ending"'));
  const refused = await fetch(`${service.url}/v1/flushes?cache=sim&export=/synthetic`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: 'file-0000000',
  });
  assert.equal(refused.status, 503);
  service.kill('SIGTERM');
  assert.equal(await service.ended, 128 + 15);
});
