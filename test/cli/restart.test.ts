import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { startSimulatedCache } from '../../src/sim/server.js';
import { cacheAt, startService, testFolder } from '../e2e/processes.js';
import { runCli } from '../support/cli.js';
import { freePort } from '../support/free-ports.js';
import { until } from '../support/until.js';

test('a wait goes on when the whole service was killed and is started again', async (t) => {
  const folder = await testFolder(t);
  await mkdir(join(folder, 'cache'));
  const cache = await startSimulatedCache({
    cacheDir: join(folder, 'cache'),
    filerDir: join(folder, 'filer'),
    permissions: 'ignored',
  });
  t.after(() => cache.close());
  const names = Array.from({ length: 20 }, (_, i) => `file-${i}`);
  for (const name of names) await writeFile(join(folder, 'cache', name), `content of ${name}`);
  const config = {
    http: { port: await freePort() },
    dataDir: join(folder, 'data'),
    caches: [cacheAt(cache.ports, { exports: ['/cache'] })],
  };
  const first = await startService(t, config);
  const { url } = first;
  assert.equal((await runCli(['caches', 'pause', 'sim', '-r', 'until after the crash'], { url })).code, 0);
  const target = ['--cache', 'sim', '--export', '/cache'];
  let told = '';
  const running = runCli(['submit', ...target, ...names], { url, onStderr: (text) => (told += text) });
  await until('the pause to be told', () => told.includes('paused: until after the crash'));

  first.kill('SIGKILL');
  await first.ended;
  await until('the outage to be told', () => told.includes('trying again'));
  await startService(t, config);
  assert.equal((await runCli(['caches', 'resume', 'sim'], { url })).code, 0);

  const run = await running;
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stdout.toString(), /succeeded: 20 of 20 files written back/);
  for (const name of names) {
    assert.equal(await readFile(join(folder, 'filer', name), 'utf8'), `content of ${name}`);
  }
});
