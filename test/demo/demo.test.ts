import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

// Compiled to build/test/demo/: the program lies in build/src.
const built = fileURLToPath(new URL('../../src/', import.meta.url));
const script = fileURLToPath(new URL('../../../scripts/demo.mjs', import.meta.url));
const running: ChildProcess[] = [];
after(() => {
  for (const child of running) if (child.exitCode === null) child.kill('SIGTERM');
});

function startDemo(...args: string[]) {
  const child = spawn(process.execPath, [script, '--built', built, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  const demo = { child, stdout: '', stderr: '', closed: once(child, 'close') };
  child.stdout.on('data', (data) => {
    demo.stdout += data;
  });
  child.stderr.on('data', (data) => {
    demo.stderr += data;
  });
  return demo;
}

function folderOf(output: string): string {
  const cache = /what clients wrote: (.*)\/cache$/m.exec(output)?.[1];
  assert.ok(cache, output);
  return cache;
}

test('the demo shows what it promises, ends with 0 and leaves nothing behind', async () => {
  const demo = startDemo();
  const [status] = await demo.closed;
  const all = `${demo.stdout}\n${demo.stderr}`;
  assert.equal(status, 0, all);
  assert.match(demo.stdout, /MiB in the cache, 0 files in the store/);
  assert.match(demo.stdout, /^\w+ succeeded: 200 of 200 files written back/m);
  assert.match(demo.stdout, /200 of 200 files have the same SHA-256 on both sides/);
  assert.match(demo.stdout, /ENOENT, 1 file: .*\n +\/run42\/missing\.dat: /);
  assert.match(demo.stdout, /ENOSPC, 1 file: .*\n +\/run42\/no-room\.dat: /);
  assert.match(demo.stdout, /^\w+ succeeded: 2 of 2 files written back/m);
  assert.match(demo.stdout, /^\w+ succeeded: 3 of 3 files copied, 12\.0 MiB/m);
  assert.match(demo.stdout, /measured: [0-3]\.\d+ MiB\/s|measured: 4\.[01]\d MiB\/s/);
  assert.match(demo.stdout, /The dashboard: +http:\/\/127\.0\.0\.1:\d+\/$/m);
  assert.match(demo.stdout, /http:\/\/127\.0\.0\.1:\d+\/docs/);
  await assert.rejects(access(folderOf(demo.stdout)));
});

test('with --keep everything answers until SIGTERM, and is gone afterwards', async () => {
  const demo = startDemo('--keep');
  while (!demo.stdout.includes('Running until Ctrl-C')) {
    assert.equal(demo.child.exitCode, null, demo.stdout + demo.stderr);
    await Promise.race([once(demo.child.stdout, 'data'), demo.closed]);
  }
  const docs = /(http:\/\/127\.0\.0\.1:\d+)\/docs/.exec(demo.stdout)?.[1] ?? '';
  assert.equal((await fetch(`${docs}/docs/`)).status, 200);
  const job = /curl (\S+\/v1\/jobs\/\w+)$/m.exec(demo.stdout)?.[1] ?? '';
  assert.equal(((await (await fetch(job)).json()) as { state: string }).state, 'succeeded');
  demo.child.kill('SIGTERM');
  const [status] = await demo.closed;
  assert.equal(status, 0, demo.stderr);
  await assert.rejects(fetch(`${docs}/docs/`));
  await assert.rejects(access(join(folderOf(demo.stdout), 'cache')));
});

test('a demo that cannot do what it promises ends with 1 and says why', async () => {
  const demo = startDemo('--port', '1e6');
  const [status] = await demo.closed;
  assert.equal(status, 1);
  assert.match(demo.stderr, /The demo failed: the service/);
});
