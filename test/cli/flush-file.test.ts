import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { CliContext } from '../../src/cli/context.js';
import { EXIT } from '../../src/cli/exit-codes.js';
import { registerFlushFile } from '../../src/cli/flush-file.js';
import { runProgram } from '../../src/cli/program.js';
import type { SimulatedCacheOptions } from '../../src/sim/server.js';
import { startFaultServer } from '../support/fault-server.js';
import { simulatedCache } from '../support/simulated-cache.js';
import { until } from '../support/until.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

interface Ran {
  code: number;
  lines: string[];
  stderr: string;
}

async function flushFile(
  args: readonly string[],
  stdin: string | Uint8Array | Readable,
  more: Partial<CliContext> = {},
): Promise<Ran> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const into = (parts: Buffer[]): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        parts.push(chunk);
        setImmediate(done);
      },
    });
  const context: CliContext = {
    stdin: stdin instanceof Readable ? stdin : Readable.from([Buffer.from(stdin)], { objectMode: false }),
    stdout: into(stdout),
    stderr: into(stderr),
    env: {},
    signal: new AbortController().signal,
    version: '0.0.0-test',
    setExitCode() {},
    ...more,
  };
  const code = await runProgram(['flush-file', ...args], context, [registerFlushFile]);
  const text = Buffer.concat(stdout).toString();
  return {
    code,
    lines: text === '' ? [] : text.replace(/\n$/, '').split('\n'),
    stderr: Buffer.concat(stderr).toString(),
  };
}

/** A simulated cache with the files given, and the arguments that lead to it. */
async function cacheWith(t: TestContext, files: readonly string[], options: SimulatedCacheOptions = {}) {
  const under = await simulatedCache(t, options, (cacheDir) => {
    for (const file of files) {
      mkdirSync(join(cacheDir, file, '..'), { recursive: true });
      writeFileSync(join(cacheDir, file), `content of ${file}`);
    }
  });
  const args = ['/cache', '127.0.0.1', '--portmap-port', String(under.sim.ports.portmap)];
  return { ...under, args };
}

describe('flush-file', () => {
  it('has every file of the list written back, tells so line by line, and ends with 0', async (t) => {
    const { args, filerDir, cacheDir } = await cacheWith(t, ['a', 'd/b c', 'd/ü']);
    const { code, lines, stderr } = await flushFile(args, '/a\n/d/b c\n/d/ü');
    assert.equal(code, EXIT.succeeded);
    assert.equal(lines.length, 4);
    for (const path of ['/a', '/d/b c', '/d/ü']) {
      const line = lines.find((each) => each.endsWith(`  ${path}`));
      assert.match(line ?? '', /^flushed {2}\d{4}-\d\d-\d\dT[\d:.]+Z {2}\d+\.\d{3} s {2}/);
      assert.deepEqual(readFileSync(join(filerDir, path)), readFileSync(join(cacheDir, path)));
    }
    assert.match(lines.at(-1) ?? '', /^3 files: 3 flushed, in /);
    assert.equal(stderr, '');
  });

  it('ends with 1 and a sentence per file if one was not flushed', async (t) => {
    const { args } = await cacheWith(t, ['a', 'd/x']);
    const { code, lines } = await flushFile(args, '/a\n/missing\n/d\n/../a\n/cache/a\n');
    assert.equal(code, EXIT.error);
    const about = (path: string) => lines.find((line) => line.includes(`  ${path}`)) ?? '';
    assert.match(about('/a'), /^flushed/);
    assert.match(about('/missing'), /^failed .*ENOENT: .*looked up \/missing below export \/cache/);
    assert.match(about('/d'), /^failed .*EISDIR/);
    assert.match(about('/../a'), /^failed .*INVALID_PATH/);
    assert.match(about('/cache/a'), /is it pathsAre: namespace\?/);
    assert.match(lines.at(-1) ?? '', /^5 files: 1 flushed, 4 failed, in /);
  });

  it('skips blank lines, drops the CR of CR LF, and tells of both', async (t) => {
    const { args } = await cacheWith(t, ['a', 'b']);
    const { code, lines, stderr } = await flushFile(args, '\n/a\r\n\r\n/b\n\n');
    assert.equal(code, EXIT.succeeded);
    assert.equal(lines.length, 3);
    assert.match(stderr, /3 empty lines skipped/);
    assert.match(stderr, /2 lines end in CR LF|1 line ends in CR LF/);
  });

  it('takes names with any byte by --null, and shows them without harm', async (t) => {
    const { args } = await cacheWith(t, ['new\nline', 'a']);
    const names = Buffer.concat([Buffer.from('/new\nline\0/a\0/'), Buffer.of(0xff), Buffer.from('\0')]);
    const { code, lines } = await flushFile([...args, '-0'], names);
    assert.equal(code, EXIT.error);
    assert.ok(lines.some((line) => /^flushed.*\/new\\nline$/.test(line)));
    assert.ok(lines.some((line) => /^failed.* {2}\/\\xff: ENOENT/.test(line)));
    assert.equal(lines.length, 4);
  });

  it('refuses a list without a path, before any call', async (t) => {
    const { args, sim } = await cacheWith(t, []);
    const calls = () => JSON.stringify(sim.stats().calls);
    const before = calls();
    for (const list of ['', '\n\r\n\n']) {
      const { code, lines, stderr } = await flushFile(args, list);
      assert.equal(code, EXIT.usage);
      assert.deepEqual(lines, []);
      assert.match(stderr, /no path in it/);
    }
    assert.equal(calls(), before);
  });

  it('refuses a wrong command line with 2', async (t) => {
    const { args } = await cacheWith(t, []);
    for (const wrong of [
      ['/cache'],
      ['cache', '127.0.0.1'],
      ['/cache', ','],
      [...args, '--threads', '0'],
      [...args, '--threads', 'many'],
      [...args, '--timeout', '-3'],
      [...args, '--dialect', 'nfs4'],
      [...args, '--paths-are', 'client'],
      [...args, '--gids', '1,x'],
    ]) {
      assert.equal((await flushFile(wrong, '/a\n')).code, EXIT.usage, wrong.join(' '));
    }
  });

  it('flushes a path twice that stands there twice', async (t) => {
    const { args } = await cacheWith(t, ['a']);
    const { code, lines } = await flushFile([...args, '--threads', '1'], '/a\n//a\n');
    assert.equal(code, EXIT.succeeded);
    assert.match(lines.at(-1) ?? '', /^2 files: 1 flushed, 1 already clean/);
  });

  it('reads paths in the other forms', async (t) => {
    const { args } = await cacheWith(t, ['d/a']);
    assert.equal((await flushFile([...args, '--paths-are', 'namespace'], '/cache/d/a\n')).code, 0);
    const client = [...args, '--paths-are', 'client', '--client-mount', '/mnt'];
    assert.equal((await flushFile(client, '/mnt/cache/d/a\n')).code, 0);
  });

  it('gives one JSON document per file and a summary by --json', async (t) => {
    const { args } = await cacheWith(t, ['a']);
    const { lines } = await flushFile(
      [...args, '--json', '--verbose'],
      Buffer.from([0x2f, 0x61, 10, 0x2f, 0xff, 10]),
    );
    const documents = lines.map((line) => JSON.parse(line));
    const flushed = documents.find(({ path }) => path === '/a');
    assert.equal(flushed.outcome, 'flushed');
    assert.equal(flushed.evidence, 'written-back');
    assert.match(flushed.mtime, /Z$/);
    assert.equal(documents.find(({ path }) => path === '/\udcff').lastError.code, 'ENOENT');
    const { summary } = documents.at(-1);
    assert.deepEqual([summary.files, summary.flushed, summary.failed, summary.complete], [2, 1, 1, true]);
    assert.ok(summary.counters.calls >= 4);
  });

  it('flushes synchronously and in the rfc1813 dialect', async (t) => {
    const { args } = await cacheWith(t, ['a', 'b']);
    assert.equal((await flushFile([...args, '--sync'], '/a\n')).code, 0);
    const { code, lines } = await flushFile([...args, '--dialect', 'rfc1813', '--verbose'], '/b\n');
    assert.equal(code, 0);
    assert.match(lines[0] ?? '', /stable {2}\/b$/);
  });

  it('warns when an OK may mean nothing', async (t) => {
    const { args } = await cacheWith(t, ['a'], { dialect: 'rfc1813' });
    const { code, stderr } = await flushFile(args, '/a\n');
    assert.equal(code, 0);
    assert.match(stderr, /1 file: OK from a server that has never shown the hpc-cache dialect/);
  });

  it('says what is wrong with the mount, once', async (t) => {
    const { args } = await cacheWith(t, ['a']);
    const wrong = await flushFile(['/other', ...args.slice(1)], '/a\n/b\n');
    assert.equal(wrong.code, EXIT.error);
    assert.deepEqual(wrong.lines, []);
    assert.match(wrong.stderr, /Cannot mount \/other; no file was flushed\. .*\/cache/);
    const server = await startFaultServer();
    await server.close();
    const ports = ['--portmap-port', String(server.port), '--connect-timeout', '0.5'];
    const closed = await flushFile(['/cache', '127.0.0.1', ...ports], '/a\n');
    assert.equal(closed.code, EXIT.error);
    assert.match(closed.stderr, /ECONNREFUSED/);
    const unresolved = await flushFile(['/cache', 'no-such-host.invalid', ...ports], '/a\n');
    assert.equal(unresolved.code, EXIT.error);
    assert.match(unresolved.stderr, /no-such-host\.invalid does not resolve/);
  });

  it('reads no more of an endless list than it works on, and ends cleanly when interrupted', async (t) => {
    const { args } = await cacheWith(t, ['a'], { flushLatencyMs: 20 });
    let produced = 0;
    const endless = Readable.from(
      (function* () {
        for (;;) {
          produced++;
          yield Buffer.from('/a\n');
        }
      })(),
      { objectMode: false },
    );
    const stopping = new AbortController();
    let lines = 0;
    const stdout = new Writable({
      write(chunk: Buffer, _encoding, done) {
        lines += chunk.toString().split('\n').length - 1;
        if (lines > 50) stopping.abort();
        done();
      },
    });
    const { code } = await flushFile([...args, '--threads', '4'], endless, {
      signal: stopping.signal,
      stdout,
    });
    assert.equal(code, EXIT.interrupted);
    assert.ok(produced < 20_000 + lines, `${produced} lines were read for ${lines}`);
  });

  it('waits for a slow reader of its output and stops when the reader is gone', async (t) => {
    const { args } = await cacheWith(t, ['a']);
    const list = Readable.from(
      (function* () {
        for (;;) yield Buffer.from('/a\n'.repeat(100));
      })(),
      { objectMode: false },
    );
    let written = 0;
    const stdout = new Writable({
      write(_chunk, _encoding, done) {
        const error = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
        setTimeout(() => done(++written > 3 ? error : null), 20);
      },
    });
    const { code, stderr } = await flushFile(args, list, { stdout });
    assert.equal(code, EXIT.brokenPipe);
    assert.doesNotMatch(stderr, /writeback:/);
  });

  it('tells of a list that broke off, and flushes what was read of it', async (t) => {
    const { args } = await cacheWith(t, ['a']);
    const broken = new PassThrough();
    broken.write('/a\n');
    void until('all to be read', () => broken.readableLength === 0).then(() =>
      broken.destroy(new Error('read EIO')),
    );
    const { code, lines, stderr } = await flushFile(args, broken);
    assert.equal(code, EXIT.error);
    assert.match(lines[0] ?? '', /^flushed/);
    assert.match(stderr, /cannot be read any further: read EIO/);
    assert.match(lines.at(-1) ?? '', /not read to its end$/);
  });
});

describe('the process of flush-file', () => {
  async function run(
    args: readonly string[],
    stdin: string,
    during: (child: ReturnType<typeof spawn>) => void = () => {},
  ) {
    const child = spawn(process.execPath, [MAIN, 'flush-file', ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += String(chunk);
    });
    child.stderr.on('data', (chunk) => {
      stderr += String(chunk);
    });
    child.stdin.on('error', () => {});
    child.stdin.write(stdin);
    const closed = once(child, 'close');
    during(child);
    const [code] = (await closed) as [number];
    return { code, stdout, stderr };
  }

  it('ends when a server never answers, with an outcome for every file', async (t) => {
    const server = await startFaultServer((call) => call.name === 'NFS3 LOOKUP');
    t.after(() => server.close());
    const paths = Array.from({ length: 500 }, (_, i) => `/f${i}\n`).join('');
    const ports = ['--nfs-port', String(server.port), '--mount-port', String(server.port)];
    const { code, stdout, stderr } = await run(
      ['/export', '127.0.0.1', ...ports, '--timeout', '1', '--threads', '500'],
      paths,
      (child) => child.stdin?.end(),
    );
    assert.equal(code, EXIT.error, stderr);
    assert.match(stdout, /0 flushed/);
    const expired = stdout.split('\n').filter((line) => /^expired .*no answer from 127\.0\.0\.1/.test(line));
    assert.equal(expired.length, 500, stderr);
  });

  it('ends with a summary at SIGINT, though its list is still open', async (t) => {
    const { args, sim } = await cacheWith(t, ['a', 'b'], { flushLatencyMs: 60_000 });
    const { code, stdout } = await run(args, '/a\n/b\n', (child) => {
      void until('four COMMITs', () => (sim.stats().calls.COMMIT ?? 0) >= 4).then(() => child.kill('SIGINT'));
    });
    assert.equal(code, EXIT.interrupted);
    assert.match(stdout, /^canceled .*\/a: CANCELED: canceled: still flushing after \d+ polls?$/m);
    assert.match(stdout, /2 files: 0 flushed, 2 canceled, in .*; interrupted$/m);
  });
});
