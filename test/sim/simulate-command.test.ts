import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { runProgram } from '../../src/cli/program.js';
import { registerSimulate } from '../../src/cli/simulate.js';
import { mnt, NaiveNfs, NaiveRpc } from '../support/naive-nfs-client.js';
import { until } from '../support/until.js';

interface Running {
  ended: Promise<number>;
  abort: () => void;
  /** What was written so far. */
  stdout: () => string;
  stderr: () => string;
}

function run(...args: string[]): Running {
  const controller = new AbortController();
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const context = {
    stdin,
    stdout,
    stderr,
    env: {},
    signal: controller.signal,
    version: '0.0.0',
    setExitCode: () => {},
  };
  const ended = runProgram(['simulate', ...args], context, [registerSimulate]);
  return { ended, abort: () => controller.abort(), stdout: collected(stdout), stderr: collected(stderr) };
}

function collected(stream: PassThrough): () => string {
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  return () => text;
}

function folders(t: TestContext): { cacheDir: string; filerDir: string } {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'writeback-simulate-'));
  t.after(() => fs.rmSync(scratch, { recursive: true, force: true }));
  fs.mkdirSync(path.join(scratch, 'cache'));
  return { cacheDir: path.join(scratch, 'cache'), filerDir: path.join(scratch, 'filer') };
}

test('it prints its ports as one line of JSON, serves with the faults asked for, and ends when told to', async (t) => {
  const { cacheDir, filerDir } = folders(t);
  fs.writeFileSync(path.join(cacheDir, 'file'), 'content');
  const running = run(
    ...['--cache-dir', cacheDir, '--filer-dir', filerDir, '--export', '/NAS', '--flush-latency', '0'],
    ...['--fault', 'jukebox,times=1,path=/file'],
  );
  await until('listening', () => running.stdout().endsWith('\n'));
  const { event, simulated, addresses, ports, exports } = JSON.parse(running.stdout());
  assert.deepEqual([event, simulated, addresses, exports], ['listening', true, ['127.0.0.1'], ['/NAS']]);
  const { handle: root } = await mnt(ports.mount, '/NAS');
  const nfs = new NaiveNfs(await NaiveRpc.connect(ports.nfs));
  const { handle } = await nfs.lookup(root, 'file');
  assert.equal(await nfs.sync(handle as Buffer), 10008);
  assert.equal(await nfs.sync(handle as Buffer), 0);
  assert.equal(fs.readFileSync(path.join(filerDir, 'file'), 'utf8'), 'content');
  running.abort();
  assert.equal(await running.ended, 0);
  await nfs.rpc.closed;
  await until('told', () => running.stdout().trimEnd().includes('\n'));
  const last = JSON.parse(running.stdout().trimEnd().split('\n')[1] as string);
  assert.deepEqual([last.event, last.flushes.finished, last.calls.COMMIT], ['ended', 1, 2]);
  assert.match(running.stderr(), /simulated cache, for demonstrations, development and tests/);
});

test('what cannot work is told in words, with an exit status', async (t) => {
  const { cacheDir, filerDir } = folders(t);
  const both = ['--cache-dir', cacheDir, '--filer-dir', filerDir];
  const cases: (readonly [string[], number, RegExp])[] = [
    [[], 1, /needs two folders/],
    [
      ['--cache-dir', '/nowhere/at/all', '--filer-dir', filerDir],
      1,
      /\/nowhere\/at\/all: the folder is not there/,
    ],
    [['--cache-dir', cacheDir, '--filer-dir', path.join(cacheDir, 'inside')], 1, /must lie apart/],
    [[...both, '--export', '/a=../..'], 1, /leads out of/],
    [[...both, '--export', '/a', '--export', '/a'], 1, /is there twice/],
    [[...both, '--export', 'a'], 2, /begins with a slash/],
    [[...both, '--fault', 'explode'], 2, /is no fault/],
    [[...both, '--nfs-port', '70000'], 2, /between 0 and 65535/],
    [[...both, '--dialect', 'smb'], 2, /hpc-cache, rfc1813/],
    [[...both, '--listen', '192.0.2.1'], 1, /192\.0\.2\.1/],
  ];
  for (const [args, exitCode, words] of cases) {
    const running = run(...args);
    assert.equal(await running.ended, exitCode, args.join(' '));
    await until('told', () => words.test(running.stderr()));
  }
});
