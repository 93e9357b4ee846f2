import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type SimulatedCache, startSimulatedCache } from '../../src/sim/server.js';
import { runCli } from '../support/cli.js';

// Compiled to build/test/cli/: the program lies in build/src.
const main = fileURLToPath(new URL('../../src/main.js', import.meta.url));

let folder = '';
let url = '';
let cache: SimulatedCache | undefined;
let service: ChildProcess | undefined;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'writeback-restart-'));
  await mkdir(join(folder, 'cache'));
  cache = await startSimulatedCache({
    cacheDir: join(folder, 'cache'),
    filerDir: join(folder, 'filer'),
    permissions: 'ignored',
  });
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  const config = {
    http: { host: '127.0.0.1', port },
    dataDir: join(folder, 'data'),
    caches: [
      {
        name: 'sim',
        addresses: [cache.address],
        dialect: 'hpc-cache',
        exports: ['/cache'],
        ports: cache.ports,
      },
    ],
  };
  await writeFile(join(folder, 'config.yaml'), JSON.stringify(config));
});
after(async () => {
  if (service && service.exitCode === null && service.signalCode === null) {
    service.kill('SIGTERM');
    await once(service, 'exit');
  }
  await cache?.close();
  await rm(folder, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return address !== null && typeof address === 'object' ? address.port : 0;
}

async function startService(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [main, 'serve', '--config', join(folder, 'config.yaml')], {
    env: { PATH: process.env.PATH, HOME: folder },
    stdio: 'ignore',
  });
  service = child;
  const readyBy = Date.now() + 30_000;
  while (
    !(await fetch(`${url}/readyz`).then(
      (answer) => answer.ok,
      () => false,
    ))
  ) {
    assert.equal(child.exitCode, null, 'the service ended');
    assert.ok(Date.now() < readyBy, 'the service is not ready');
    await delay(50);
  }
  return child;
}

test('a wait goes on when the whole service was killed and is started again', async () => {
  const names = Array.from({ length: 20 }, (_, i) => `file-${i}`);
  for (const name of names) await writeFile(join(folder, 'cache', name), `content of ${name}`);
  const first = await startService();
  assert.equal((await runCli(['caches', 'pause', 'sim', '-r', 'until after the crash'], { url })).code, 0);
  const target = ['--cache', 'sim', '--export', '/cache'];
  let told = '';
  const running = runCli(['submit', ...target, ...names], { url, onStderr: (text) => (told += text) });
  while (!told.includes('paused: until after the crash')) await delay(20);

  first.kill('SIGKILL');
  await once(first, 'exit');
  while (!told.includes('trying again')) await delay(20);
  await startService();
  assert.equal((await runCli(['caches', 'resume', 'sim'], { url })).code, 0);

  const run = await running;
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stdout.toString(), /succeeded: 20 of 20 files written back/);
  for (const name of names) {
    assert.equal(await readFile(join(folder, 'filer', name), 'utf8'), `content of ${name}`);
  }
});
