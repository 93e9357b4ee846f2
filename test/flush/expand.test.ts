import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TargetDownError } from '../../src/flush/engine.js';
import { type DirectoryToExpand, expandDirectory } from '../../src/flush/expand.js';
import type { FlushSession } from '../../src/flush/session.js';
import type { FlushOptions } from '../../src/flush/types.js';
import type { FileResult } from '../../src/model/file-result.js';
import { NfsError } from '../../src/nfs/errors.js';
import { flushAll, flushOptions, openOn } from '../support/flushing.js';
import { MemoryExport } from '../support/memory-export.js';
import { until } from '../support/until.js';

const never = new AbortController().signal;

interface Expanded {
  paths: string[];
  others: FileResult[];
}

async function expand(
  session: FlushSession,
  directory: Partial<DirectoryToExpand> = {},
  options: Partial<FlushOptions> = {},
  signal = never,
): Promise<Expanded> {
  const paths: string[] = [];
  const others: FileResult[] = [];
  const wanted = { path: '/d', include: [], exclude: [], ...directory };
  for await (const entry of expandDirectory(session, wanted, flushOptions(options), signal)) {
    if ('state' in entry) others.push(entry);
    else paths.push(entry.path);
  }
  return { paths, others };
}

async function expandIn(
  nfs: MemoryExport,
  directory: Partial<DirectoryToExpand> = {},
  options: Partial<FlushOptions> = {},
): Promise<Expanded> {
  const session = await openOn(nfs);
  try {
    return await expand(session, directory, options);
  } finally {
    await session.close();
  }
}

const names = (count: number, prefix = '/d/f') => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

describe('an expansion', () => {
  it('gives every regular file below the directory once, at any depth', async () => {
    const files = [...names(30), ...names(30, '/d/sub/deep/f'), ...names(5, '/d/other/f')];
    const nfs = new MemoryExport().file(...files, '/e/not').directory('/d/empty');
    nfs.pageEntries = 7;
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual(paths.sort(), [...files].sort());
    assert.deepEqual(others, []);
    assert.equal(nfs.count('LOOKUP'), 1);
    assert.equal(nfs.count('GETATTR'), 0);
  });

  it('gives paths in the form that was asked for, so that they can be flushed as they are', async () => {
    const forms = [
      ['export', '/d/', '/d/f0'],
      ['export', 'd', '/d/f0'],
      ['export', '/', '/d/f0'],
      ['namespace', '/NAS//d', '/NAS/d/f0'],
      ['client', '/mnt/NAS/./d', '/mnt/NAS/d/f0'],
    ] as const;
    for (const [pathsAre, path, expected] of forms) {
      const session = await openOn(new MemoryExport().file('/d/f0'));
      const { paths } = await expand(session, { path }, { pathsAre, clientMount: '/mnt' });
      assert.deepEqual(paths, [expected]);
      const [outcome] = await flushAll(session, paths, { pathsAre, clientMount: '/mnt' });
      assert.equal(outcome?.state, 'succeeded');
      await session.close();
    }
  });

  it('takes what its globs include and not what they exclude, and does not read what is excluded whole', async () => {
    const nfs = new MemoryExport().file(
      '/d/a.dat',
      '/d/b.txt',
      '/d/x/a.dat',
      '/d/tmp/a.dat',
      '/d/tmp/y/a.dat',
    );
    const { paths } = await expandIn(nfs, { include: ['**/*.dat'], exclude: ['tmp/**'] });
    assert.deepEqual(paths.sort(), ['/d/a.dat', '/d/x/a.dat']);
    assert.equal(nfs.count('READDIRPLUS', 'd/tmp'), 0);
    assert.equal(nfs.count('READDIRPLUS', 'd/x'), 1);
  });

  it('shows what it leaves out: links, FIFOs, devices; but not what was not asked for', async () => {
    const nfs = new MemoryExport()
      .file('/d/a', '/d/sub/b')
      .link('/d/l', 'a')
      .link('/d/up', '..')
      .fifo('/d/sub/p');
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual(paths.sort(), ['/d/a', '/d/sub/b']);
    assert.deepEqual(
      others.map(({ path, state, lastError }) => `${path} ${state} ${lastError?.code}`).sort(),
      ['/d/l skipped NOT_REGULAR', '/d/sub/p skipped NOT_REGULAR', '/d/up skipped NOT_REGULAR'],
    );
    assert.match(others.find(({ path }) => path === '/d/l')?.lastError?.message ?? '', /not followed/);
    assert.deepEqual((await expandIn(nfs, { include: ['a'] })).others, []);
  });

  it('follows a link that it was asked to expand', async () => {
    const nfs = new MemoryExport().file('/run5/a').link('/d', 'run5');
    assert.deepEqual((await expandIn(nfs)).paths, ['/d/a']);
  });

  it('begins anew after BAD_COOKIE, without giving anything twice', async () => {
    const files = names(50);
    const nfs = new MemoryExport().file(...files);
    nfs.pageEntries = 10;
    let bad = 0;
    nfs.answer = ({ cursor }) => (cursor?.cookieLow === 30 && bad++ < 3 ? 10003 : undefined);
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual(paths, files);
    assert.deepEqual(others, []);
    assert.equal(bad, 4);
  });

  it('gives up a directory whose cookies stay bad, with what it found before', async () => {
    const nfs = new MemoryExport().file(...names(50));
    nfs.pageEntries = 10;
    nfs.answer = ({ cursor }) => (cursor?.cookieLow === 30 ? 10003 : undefined);
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual(paths, names(28));
    assert.deepEqual(
      others.map(({ path, state, lastError }) => [path, state, lastError?.nfsStatus]),
      [['/d', 'failed', 10003]],
    );
  });

  it('does without READDIRPLUS, without handles and without attributes', async () => {
    const files = ['/d/a', '/d/sub/b', '/d/sub/deep/c'];
    for (const [plus, handles, attributes] of [
      [false, false, true],
      [false, false, false],
      [true, false, true],
      [true, true, false],
      [true, false, false],
    ] as const) {
      const nfs = new MemoryExport().file(...files).fifo('/d/p');
      nfs.givesHandles = handles;
      nfs.givesAttributes = attributes;
      nfs.answer = ({ procedure }) => (procedure === 'READDIRPLUS' && !plus ? 10004 : undefined);
      const { paths, others } = await expandIn(nfs);
      assert.deepEqual(paths.sort(), files, `${plus} ${handles} ${attributes}`);
      assert.equal(others.length, 1);
      assert.equal(nfs.count('READDIRPLUS'), plus ? 3 : 1);
    }
  });

  it('passes over an entry that is removed meanwhile', async () => {
    const nfs = new MemoryExport().file('/d/a', '/d/b');
    nfs.givesAttributes = false;
    nfs.givesHandles = false;
    nfs.answer = ({ procedure, path }) => {
      if (procedure === 'LOOKUP' && path === 'd/a') nfs.remove('d/a');
      return undefined;
    };
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual([paths, others], [['/d/b'], []]);
  });

  it('passes over a directory that is removed meanwhile', async () => {
    const nfs = new MemoryExport().file('/d/gone/a', '/d/b');
    nfs.answer = ({ procedure, path }) => {
      if (procedure === 'READDIRPLUS' && path === 'd/gone') nfs.remove('d/gone');
      return undefined;
    };
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual([paths, others], [['/d/b'], []]);
  });

  it('gets over faults that pass, however many a long listing meets', async () => {
    const nfs = new MemoryExport().file(...names(60));
    nfs.pageEntries = 5;
    let calls = 0;
    nfs.answer = ({ procedure }) => (procedure === 'READDIRPLUS' && calls++ % 2 === 0 ? 5 : undefined);
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual([paths, others], [names(60), []]);
  });

  it('does not take a name that no file can have', async () => {
    const nfs = new MemoryExport().file('/d/ok', `/d/${'x'.repeat(256)}`);
    const page = nfs.readdirplus.bind(nfs);
    nfs.readdirplus = async (dir, cursor, limit) => {
      const got = await page(dir, cursor, limit);
      const entry = got.entries.find(({ name }) => name.toString() === 'ok');
      if (entry !== undefined) got.entries.push({ ...entry, name: Buffer.from('../../etc/passwd') });
      return got;
    };
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual(paths, ['/d/ok']);
    assert.deepEqual(
      others.map(({ lastError }) => lastError?.code),
      ['PROTOCOL_ERROR', 'PROTOCOL_ERROR'],
    );
  });

  it('stops where the listing leads in a circle', async () => {
    const nfs = new MemoryExport().file(...names(10));
    nfs.pageEntries = 4;
    const page = nfs.readdirplus.bind(nfs);
    nfs.readdirplus = async (dir, cursor, limit) => {
      const got = await page(dir, cursor, limit);
      return cursor.cookieLow === 8 && got.next === null
        ? { ...got, next: { cookieHigh: 0, cookieLow: 4, verifier: Buffer.alloc(8) } }
        : got;
    };
    const { paths, others } = await expandIn(nfs);
    assert.equal(new Set(paths).size, paths.length);
    assert.equal(others[0]?.lastError?.code, 'PROTOCOL_ERROR');
    assert.match(others[0]?.lastError?.message ?? '', /circle/);
  });

  it('tells of a directory that cannot be read and goes on with the others', async () => {
    const nfs = new MemoryExport().file('/d/a', '/d/closed/x', '/d/open/y');
    nfs.answer = ({ procedure, path }) =>
      procedure === 'READDIRPLUS' && path === 'd/closed' ? 13 : undefined;
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual(paths.sort(), ['/d/a', '/d/open/y']);
    assert.deepEqual(
      others.map(({ index, path, state, lastError }) => [
        index,
        path,
        state,
        lastError?.code,
        lastError?.phase,
      ]),
      [[-1, '/d/closed', 'failed', 'EACCES', 'expand']],
    );
  });

  it('of what is no directory, is not there, or is no path at all is one error', async () => {
    const nfs = new MemoryExport().file('/d/a');
    for (const [path, code] of [
      ['/d/a', 'ENOTDIR'],
      ['/e', 'ENOENT'],
      ['/d/../d', 'INVALID_PATH'],
      ['', 'INVALID_PATH'],
    ] as const) {
      const { paths, others } = await expandIn(nfs, { path });
      assert.deepEqual(paths, []);
      assert.deepEqual(
        others.map(({ path: where, state, lastError }) => [where, state, lastError?.code]),
        [[path, 'failed', code]],
      );
    }
    assert.match(
      (await expandIn(nfs, { path: '/NAS/d' })).others[0]?.lastError?.message ?? '',
      /pathsAre: namespace/,
    );
    assert.equal((await expandIn(nfs, { exclude: [''] })).others[0]?.state, 'failed');
  });

  it('looks a directory up again that became stale, and gives what is left', async () => {
    const nfs = new MemoryExport().file(...names(20));
    nfs.pageEntries = 10;
    let stale = 0;
    nfs.answer = ({ cursor }) => {
      if (cursor?.cookieLow === 10 && stale++ === 0) nfs.newHandles();
      return undefined;
    };
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual([paths, others], [names(20), []]);
    assert.equal(nfs.count('REMOUNT'), 1);
  });

  it('waits on JUKEBOX, and ends at its time', async () => {
    const nfs = new MemoryExport().file('/d/a');
    let jukebox = 0;
    nfs.answer = ({ procedure }) => (procedure === 'READDIRPLUS' && jukebox++ < 3 ? 10008 : undefined);
    assert.deepEqual((await expandIn(nfs)).paths, ['/d/a']);
    nfs.answer = ({ procedure }) => (procedure === 'READDIRPLUS' ? 10008 : undefined);
    const { others } = await expandIn(nfs, {}, { fileTimeoutMs: 200 });
    assert.deepEqual(
      others.map(({ state, lastError }) => [state, lastError?.code, lastError?.nfsStatus]),
      [['expired', 'DEADLINE', 10008]],
    );
    nfs.answer = ({ procedure }) => (procedure === 'READDIRPLUS' ? 'hang' : undefined);
    assert.equal((await expandIn(nfs, {}, { fileTimeoutMs: 200 })).others[0]?.state, 'expired');
  });

  it('hands back when the target does not answer, and fails when it refuses', async () => {
    const nfs = new MemoryExport().file('/d/a');
    nfs.answer = ({ procedure }) => (procedure === 'READDIRPLUS' ? 'hang' : undefined);
    const options = { whenDown: 'hand-back', holdAfterMs: 200 } as const;
    await assert.rejects(expandIn(nfs, {}, options), TargetDownError);
    const refusing = await openOn(nfs, {
      mount: async () => {
        throw new NfsError('EXPORT_NOT_FOUND', 'no such export');
      },
    });
    const { others } = await expand(refusing, {}, options);
    assert.deepEqual(
      others.map(({ state, lastError }) => [state, lastError?.code]),
      [['failed', 'EXPORT_NOT_FOUND']],
    );
    await refusing.close();
  });

  it('that is aborted says so, and is never taken for complete', async () => {
    const nfs = new MemoryExport().file(...names(100));
    nfs.pageEntries = 10;
    const abort = new AbortController();
    nfs.answer = ({ cursor }) => (cursor?.cookieLow === 50 ? 'hang' : undefined);
    const session = await openOn(nfs);
    void until('a call without an answer', () => nfs.hanging === 1).then(() =>
      abort.abort(new Error('stop here')),
    );
    await assert.rejects(expand(session, {}, {}, abort.signal), /stop here/);
    assert.equal(session.wheel.waiting, 0);
    await session.close();
  });

  it('goes no deeper than a tree can be', async () => {
    const nfs = new MemoryExport().file(`/d/${'x/'.repeat(300)}f`, '/d/a');
    const { paths, others } = await expandIn(nfs);
    assert.deepEqual(paths, ['/d/a']);
    assert.equal(others[0]?.lastError?.code, 'ENAMETOOLONG');
  });
});
