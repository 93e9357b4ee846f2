import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { jobOf, type Reply, ScriptedService } from '../support/scripted-service.js';

// Compiled to build/test/cli/: the program lies in build/src.
const main = fileURLToPath(new URL('../../src/main.js', import.meta.url));

const closing: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function scripted(...args: Parameters<typeof ScriptedService.start>): Promise<ScriptedService> {
  const service = await ScriptedService.start(...args);
  closing.push(() => service.close());
  return service;
}

/** Runs a line of shell in which `$writeback` is the program. */
function shell(line: string, url: string) {
  const child = spawn('bash', ['-c', line], {
    env: { PATH: process.env.PATH, writeback: `${process.execPath} ${main}`, WRITEBACK_URL: url },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  closing.push(() => void child.kill('SIGKILL'));
  const run = { child, stdout: '', stderr: '', closed: once(child, 'close') };
  child.stdout.on('data', (data) => {
    run.stdout += data;
  });
  child.stderr.on('data', (data) => {
    run.stderr += data;
  });
  return run;
}

describe('as a process', () => {
  test('the exit status reaches the shell', async () => {
    const service = await scripted(() => ({ json: jobOf('f1', 'partial', { filesSucceeded: 2 }) }));
    const run = shell(
      '$writeback wait f1; echo $?; $writeback wait f1 --odd; echo $?; $writeback --version; echo $?',
      service.url,
    );
    await run.closed;
    assert.match(run.stdout, /^f1 partial: .*\n10\n2\n\d+\.\d+\.\d+\n0\n$/);
    assert.match(run.stderr, /unknown option '--odd'/);
  });

  test('without a service it is 69, with what to do', async () => {
    const service = await scripted(() => ({}));
    await service.close();
    const run = shell('$writeback jobs', service.url);
    const [code] = await run.closed;
    assert.equal(code, 69);
    assert.equal(run.stdout, '');
    assert.match(run.stderr, /^writeback: No answer from the service at .*connection refused.*\n$/);
  });

  test('names of the command line keep their bytes', async () => {
    const service = await scripted(() => ({ status: 202, json: jobOf('f1', 'queued') }));
    const run = shell(
      `$writeback submit --no-wait -c nas -e /e /plain $'/caf\\xe9' $'/\\xff\\xfe' $'/\\xc3\\xa9'`,
      service.url,
    );
    const [code] = await run.closed;
    assert.equal(code, 0, run.stderr);
    assert.equal(service.requests[0]?.body.toString('latin1'), '/plain\0/caf\xe9\0/\xff\xfe\0/\xc3\xa9\0');
  });

  test('a reader that goes away ends it quietly', async () => {
    const item = {
      index: 0,
      path: `/${'x'.repeat(200)}`,
      destination: null,
      state: 'pending',
      outcome: null,
      evidence: null,
      attempts: 0,
      size: null,
      mtime: null,
      durationMs: null,
      firstError: null,
      lastError: null,
    };
    const page = { items: Array.from({ length: 1000 }, () => item), nextCursor: 'more' };
    const service = await scripted((): Reply => ({ json: page }));
    const run = shell('$writeback files f1 | head -n 1; echo $PIPESTATUS', service.url);
    await run.closed;
    assert.equal(run.stdout, `pending    ${item.path}\n141\n`);
    assert.equal(run.stderr, '');
  });

  test('Ctrl-C ends a wait with 130 and says how to go on', async () => {
    const service = await scripted((_, nth): Reply | Promise<Reply> =>
      nth === 1 ? { json: jobOf('f1', 'running'), headers: { etag: '"1"' } } : new Promise(() => {}),
    );
    const run = shell('exec $writeback wait f1', service.url);
    while (service.requests.length < 2) await Promise.race([new Promise(setImmediate), run.closed]);
    run.child.kill('SIGINT');
    const [code] = await run.closed;
    assert.equal(code, 130);
    assert.match(run.stderr, /"writeback wait f1" waits again/);
  });
});
