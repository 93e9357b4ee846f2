import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { flushFiles } from '../../src/flush/engine.js';
import { expandDirectory } from '../../src/flush/expand.js';
import type { FlushSession } from '../../src/flush/session.js';
import type { FileResult } from '../../src/model/file-result.js';
import { pathBytes } from '../../src/model/pathname.js';
import { filesOf, flushAll, flushOne, flushOptions, openSession, targetAt } from '../support/flushing.js';
import { type Ganesha, startGanesha } from '../support/ganesha.js';
import { until } from '../support/until.js';

const MANY = 2000;

describe('against NFS-Ganesha', () => {
  let ganesha: Ganesha | null = null;
  let skip = '';
  let folder = '';

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'wb-flush-'));
    const tree = join(folder, 'export');
    for (const name of ['dir/sub', 'many']) mkdirSync(join(tree, name), { recursive: true });
    for (const name of ['file', 'dir/a', 'dir/b.txt', 'dir/sub/c', 'outside-target']) {
      writeFileSync(join(tree, name), `content of ${name}`);
    }
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/dir/n`), Buffer.of(0xff, 0xe9)]), 'x');
    execFileSync('mkfifo', [join(tree, 'dir/fifo')]);
    symlinkSync('dir/sub', join(tree, 'link-dir'));
    symlinkSync('../file', join(tree, 'dir/link-file'));
    symlinkSync('nowhere', join(tree, 'dangling'));
    symlinkSync('../../etc/hostname', join(tree, 'link-out'));
    symlinkSync('/etc/hostname', join(tree, 'link-abs'));
    symlinkSync('loop', join(tree, 'loop'));
    for (let i = 0; i < MANY; i++) writeFileSync(join(tree, 'many', `f${i}`), 'x');
    const started = await startGanesha({ exports: [{ path: tree }] });
    if ('skip' in started) skip = started.skip;
    else ganesha = started;
  });

  after(async () => {
    await ganesha?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function session(
    t: TestContext,
    more: Parameters<typeof targetAt>[2] = {},
    onEvent: (type: string) => void = () => {},
  ): Promise<FlushSession | null> {
    if (ganesha === null) {
      t.skip(skip);
      return null;
    }
    const opened = await openSession(
      targetAt([ganesha.host], { portmap: ganesha.portmapPort }, more),
      join(folder, 'export'),
      { onEvent: ({ type }) => onEvent(type) },
    );
    t.after(() => opened.close());
    return opened;
  }

  it('every kind of path ends as what it is', async (t) => {
    const opened = await session(t);
    if (opened === null) return;
    const expected: [string, string][] = [
      ['/file', 'flushed'],
      ['dir//./a', 'flushed'],
      ['/link-dir/c', 'flushed'],
      ['/dir/link-file', 'flushed'],
      ['/dir/n\udcff\udce9', 'flushed'],
      ['/dir', 'EISDIR'],
      ['/', 'EISDIR'],
      ['/missing', 'ENOENT'],
      ['/missing/x', 'ENOENT'],
      ['/file/x', 'ENOTDIR'],
      ['/dir/fifo', 'NOT_REGULAR'],
      ['/dangling', 'ENOENT'],
      ['/link-out', 'OUTSIDE_EXPORT'],
      ['/link-abs', 'OUTSIDE_EXPORT'],
      ['/loop', 'ELOOP'],
      ['/../../etc/hostname', 'INVALID_PATH'],
      ['/fi\0le', 'INVALID_PATH'],
      ['', 'INVALID_PATH'],
      [`/${'x'.repeat(256)}`, 'ENAMETOOLONG'],
      [`/${'x'.repeat(255)}`, 'ENOENT'],
      [`${folder}/export/file`, 'ENOENT'],
    ];
    const outcomes = await flushAll(
      opened,
      expected.map(([path]) => path),
      { fileTimeoutMs: 10_000 },
    );
    assert.deepEqual(
      outcomes.map(({ outcome, lastError }) => outcome ?? lastError?.code),
      expected.map(([, end]) => end),
    );
    assert.equal(outcomes[0]?.evidence, 'stable');
    assert.equal(outcomes[0]?.size, 'content of file'.length);
    assert.ok(Math.abs((outcomes[0]?.mtimeMs ?? 0) - Date.now()) < 3_600_000);
    assert.match(outcomes.at(-1)?.lastError?.message ?? '', /is it pathsAre: namespace\?$/);
    const namespace = await flushOne(opened, `${folder}/export/file`, { pathsAre: 'namespace' });
    assert.equal(namespace.state, 'succeeded');
  });

  it('a flush in the hpc-cache dialect claims no more than "accepted", in both modes', async (t) => {
    const opened = await session(t);
    if (opened === null) return;
    for (const mode of ['async', 'sync'] as const) {
      const outcome = await flushOne(opened, '/file', { dialect: 'hpc-cache', mode });
      assert.deepEqual([outcome.state, outcome.evidence], ['succeeded', 'accepted']);
    }
    assert.equal(opened.dialectProven, false);
  });

  it('a directory is expanded in pages, and what it holds is flushed', async (t) => {
    const opened = await session(t);
    if (opened === null) return;
    const paths: string[] = [];
    const others: FileResult[] = [];
    const directory = { path: '/', include: [], exclude: ['link*', 'dangling', 'loop'] };
    for await (const entry of expandDirectory(
      opened,
      directory,
      flushOptions(),
      new AbortController().signal,
    )) {
      if ('state' in entry) others.push(entry);
      else paths.push(entry.path);
    }
    assert.equal(paths.length, MANY + 6);
    assert.equal(new Set(paths).size, paths.length);
    assert.ok(paths.includes('/dir/n\udcff\udce9'));
    assert.deepEqual(others.map(({ path, state }) => `${path} ${state}`).sort(), [
      '/dir/fifo skipped',
      '/dir/link-file skipped',
    ]);
    const outcomes = await flushAll(opened, paths);
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
    assert.ok(paths.every((path) => pathBytes(path).length > 0));
  });

  it('20 gids are cut to 16, with a warning', async (t) => {
    const events: string[] = [];
    const gids = Array.from({ length: 20 }, (_, i) => 1000 + i);
    const opened = await session(t, { credential: { uid: 0, gid: 0, gids } }, (type) => events.push(type));
    if (opened === null) return;
    assert.equal((await flushOne(opened, '/file')).state, 'succeeded');
    assert.ok(events.includes('warning'));
  });

  it('a restart of three seconds costs no file', async (t) => {
    const events: string[] = [];
    const opened = await session(t, { callTimeoutMs: 2000 }, (type) => events.push(type));
    if (opened === null || ganesha === null) return;
    opened.filesPerSecond = 300;
    let ended = 0;
    let restarted: Promise<void> | null = null;
    const paths = Array.from({ length: MANY }, (_, i) => `/many/f${i}`);
    const run = flushFiles(
      opened,
      filesOf(paths),
      flushOptions({ fileTimeoutMs: 60_000 }),
      new AbortController().signal,
    );
    for await (const { state, lastError } of run) {
      assert.equal(state, 'succeeded', lastError?.message);
      ended++;
      if (ended === 300) {
        restarted = ganesha.restart(3000);
        void until('the outage to be noticed', () => events.includes('down')).then(() => {
          opened.filesPerSecond = null;
        });
      }
    }
    await restarted;
    assert.equal(ended, MANY);
    assert.deepEqual(
      events.filter((type) => type !== 'warning'),
      ['down', 'up', 'server-restarted'],
    );
  });
});
