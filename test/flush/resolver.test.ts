import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DIRECTORY_AGE_MS } from '../../src/flush/directory-cache.js';
import type { FileErrorCode } from '../../src/model/errors.js';
import { flushAll, flushOne, openOn } from '../support/flushing.js';
import { MemoryExport } from '../support/memory-export.js';
import { until } from '../support/until.js';

/** What became of one path: `ok`, or the code of its error. */
async function fate(nfs: MemoryExport, path: string, clientMount: string | null = null): Promise<string> {
  const session = await openOn(nfs);
  const outcome = await flushOne(session, path, { clientMount });
  await session.close();
  assert.equal(outcome.state === 'succeeded', outcome.lastError === null);
  return outcome.lastError?.code ?? 'ok';
}

async function message(nfs: MemoryExport, path: string): Promise<string> {
  const session = await openOn(nfs);
  const outcome = await flushOne(session, path);
  await session.close();
  return outcome.lastError?.message ?? '';
}

describe('directories', () => {
  it('are looked up once for all their files, also while the lookup is under way', async () => {
    const paths = Array.from({ length: 400 }, (_, i) => `/a/b/d${i % 4}/f${i}`);
    const nfs = new MemoryExport().file(...paths);
    const session = await openOn(nfs);
    await flushAll(session, paths);
    for (const path of ['a', 'a/b', 'a/b/d0', 'a/b/d3']) assert.equal(nfs.count('LOOKUP', path), 1, path);
    assert.equal(nfs.count('LOOKUP'), 400 + 6);
    await session.close();
  });

  it('are looked up anew by every run, so that a renamed one is not taken for what stands there now', async () => {
    const nfs = new MemoryExport().file('out/a');
    const session = await openOn(nfs);
    await flushAll(session, ['/out/a']);
    await until('a round millisecond', () => Date.now() % 5 === 0);
    await new Promise((resolve) => setTimeout(resolve, 2));
    await flushAll(session, ['/out/a']);
    assert.equal(nfs.count('LOOKUP', 'out'), 2);
    await session.close();
  });

  it('that do not exist are one LOOKUP for the files that ask together, and an error for each', async () => {
    const nfs = new MemoryExport().file('a/x');
    const session = await openOn(nfs);
    const paths = Array.from({ length: 20 }, (_, i) => `/a/gone/f${i}`);
    const outcomes = await flushAll(session, paths);
    assert.ok(outcomes.every(({ lastError }) => lastError?.code === 'ENOENT'));
    assert.equal(
      outcomes[0]?.lastError?.message,
      'LOOKUP of "gone" in /a: NFS3ERR_NOENT (2); looked up /a/gone/f0 below export /NAS (pathsAre: export)',
    );
    assert.ok(nfs.count('LOOKUP', 'a/gone') <= 2);
    await session.close();
  });

  it('that became stale are forgotten with all below, and found again', async () => {
    const nfs = new MemoryExport().file('a/b/c/f', 'a/b/c/g', 'a/x');
    const session = await openOn(nfs);
    let flushed = 0;
    nfs.answer = ({ procedure, path }) => {
      if (procedure === 'COMMIT' && path === 'a/x' && flushed++ === 0) {
        nfs.remove('a/b');
        nfs.file('a/b/c/f', 'a/b/c/g');
      }
      return undefined;
    };
    session.inFlight = 1;
    const outcomes = await flushAll(session, ['/a/b/c/f', '/a/x', '/a/b/c/g', '/a/b/c/f']);
    assert.ok(
      outcomes.every(({ state }) => state === 'succeeded'),
      JSON.stringify(outcomes.map(({ lastError }) => lastError)),
    );
    await session.close();
  });

  it('are kept for half a minute at most', () => {
    assert.ok(DIRECTORY_AGE_MS <= 30_000);
  });
});

describe('only regular files', () => {
  it('get a COMMIT: a FIFO and a directory do not', async () => {
    const cases: [string, FileErrorCode][] = [
      ['/fifo', 'NOT_REGULAR'],
      ['/dir', 'EISDIR'],
      ['/', 'EISDIR'],
      ['/to-fifo', 'NOT_REGULAR'],
      ['/to-dir', 'EISDIR'],
      ['/file/below', 'ENOTDIR'],
      ['/fifo/below', 'ENOTDIR'],
    ];
    for (const givesAttributes of [true, false]) {
      const nfs = new MemoryExport().file('file').fifo('fifo').directory('dir');
      nfs.link('to-fifo', 'fifo').link('to-dir', './dir');
      nfs.givesAttributes = givesAttributes;
      for (const [path, code] of cases) assert.equal(await fate(nfs, path), code, path);
      assert.equal(nfs.count('COMMIT'), 0);
      assert.equal(await fate(nfs, '/file'), 'ok');
    }
  });

  it('are told from what they are not in words', async () => {
    const nfs = new MemoryExport().fifo('a/fifo').directory('a/dir');
    assert.match(await message(nfs, '/a/fifo'), /^"\/a\/fifo" is a FIFO; looked up/);
    assert.match(await message(nfs, '/a/dir'), /^"\/a\/dir" is a directory/);
    assert.match(await message(nfs, '/a/fifo/x'), /^"\/a\/fifo" is a FIFO, not a directory/);
  });

  it('may have names that are not UTF-8', async () => {
    const nfs = new MemoryExport().file('d\udcff/f\udce9');
    assert.equal(await fate(nfs, '/d\udcff/f\udce9'), 'ok');
    assert.equal(await fate(nfs, '/d\udcff/fé'), 'ENOENT');
  });
});

describe('symbolic links', () => {
  it('that lead out of the directories a job is confined to are not followed, nor once another job has', async () => {
    const nfs = new MemoryExport()
      .file('alice/a', 'alice/sub/b', 'bob/secret', 'bob/deep/c')
      .link('alice/stolen', '../bob/secret')
      .link('alice/theirs', '../bob')
      .link('alice/sub/far', '/NAS/bob/deep')
      .link('alice/mine', 'sub');
    const session = await openOn(nfs);
    const inside = ['/alice/a', '/alice/sub/b', '/alice/mine/b'];
    const outside = ['/alice/stolen', '/alice/theirs/secret', '/alice/theirs/deep/c', '/alice/sub/far/c'];
    const confined = { confinedTo: ['/alice'] };
    const codes = async (options: { confinedTo?: string[] }) =>
      (await flushAll(session, [...inside, ...outside], options)).map(({ path, lastError }) => [
        path,
        lastError?.code ?? 'ok',
      ]);
    const expected = [
      ...inside.map((path) => [path, 'ok']),
      ...outside.map((path) => [path, 'LINK_NOT_ALLOWED']),
    ];
    assert.deepEqual((await codes(confined)).sort(), expected.sort());
    // The session knows these directories from now on, by the names that lead over the links.
    assert.ok((await codes({})).every(([, code]) => code === 'ok'));
    assert.deepEqual((await codes(confined)).sort(), expected.sort());
    await session.close();
  });

  it('within the export are followed, of files and of directories', async () => {
    const nfs = new MemoryExport()
      .file('data/run5/out', 'data/top', 'top')
      .link('latest', 'data/run5')
      .link('data/here', 'run5/./out')
      .link('data/run5/up', '../top')
      .link('data/run5/up2', '../..//top')
      .link('chain', 'latest/out')
      .link('through', 'latest/../top');
    for (const path of ['/latest/out', '/data/here', '/latest/up', '/latest/up2', '/chain', '/through']) {
      assert.equal(await fate(nfs, path), 'ok', path);
    }
    // `latest/..` is data, not the root: the name in the text is a link itself.
    assert.equal(nfs.calls.filter(({ procedure }) => procedure === 'COMMIT').at(-1)?.path, 'data/top');
  });

  it('that are shared by many files are read once', async () => {
    const paths = Array.from({ length: 100 }, (_, i) => `/latest/f${i}`);
    const nfs = new MemoryExport().file(...paths.map((path) => path.replace('latest', 'run5')));
    nfs.link('latest', 'run5');
    const session = await openOn(nfs);
    const outcomes = await flushAll(session, paths);
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
    assert.equal(nfs.count('READLINK'), 1);
    await session.close();
  });

  it('that dangle, lead in a circle, or out of the export are errors of their own', async () => {
    const nfs = new MemoryExport()
      .file('d/x')
      .link('dangling', 'nowhere/x')
      .link('a', 'b')
      .link('b', 'a')
      .link('self', 'self/self')
      .link('d/dd', '../d/dd/y')
      .link('out', '../x')
      .link('d/out', '../../x')
      .link('abs', '/etc/passwd')
      .link('dir-out', '..');
    const cases: [string, FileErrorCode][] = [
      ['/dangling', 'ENOENT'],
      ['/a', 'ELOOP'],
      ['/a/x', 'ELOOP'],
      ['/self', 'ELOOP'],
      ['/self/x', 'ELOOP'],
      ['/d/dd', 'ELOOP'],
      ['/out', 'OUTSIDE_EXPORT'],
      ['/d/out', 'OUTSIDE_EXPORT'],
      ['/abs', 'OUTSIDE_EXPORT'],
      ['/dir-out/x', 'OUTSIDE_EXPORT'],
    ];
    for (const [path, code] of cases) assert.equal(await fate(nfs, path), code, path);
    assert.match(await message(nfs, '/abs'), /the symbolic link "abs" in \/ leads to "\/etc\/passwd"/);
    assert.match(await message(nfs, '/d/out'), /leads to "\.\.\/\.\.\/x", above the export/);
  });

  it('in circles do not make files wait for each other', async () => {
    const nfs = new MemoryExport().link('a', 'b/x').link('b', 'c/x').link('c', 'a/x').file('ok');
    const session = await openOn(nfs);
    const outcomes = await flushAll(session, ['/a/f', '/b/f', '/c/f', '/a/f', '/ok'], {
      fileTimeoutMs: 5000,
    });
    assert.deepEqual(
      outcomes.map(({ lastError }) => lastError?.code),
      ['ELOOP', 'ELOOP', 'ELOOP', 'ELOOP', undefined],
    );
    await session.close();
  });

  it('40 in a row are followed, 41 are not', async () => {
    const nfs = new MemoryExport().file('l0');
    for (let i = 1; i <= 41; i++) nfs.link(`l${i}`, `l${i - 1}`);
    assert.equal(await fate(nfs, '/l40'), 'ok');
    assert.equal(await fate(nfs, '/l41'), 'ELOOP');
  });

  it('cannot make a lookup explode', async () => {
    const nfs = new MemoryExport().directory('l0');
    for (let i = 1; i <= 30; i++) nfs.link(`l${i}`, `l${i - 1}/../l${i - 1}/../l${i - 1}`);
    const before = nfs.calls.length;
    await fate(nfs, '/l30/x');
    assert.ok(nfs.calls.length - before < 500, `${nfs.calls.length - before} calls`);
  });

  it('that are absolute are followed where they lie within the client mount or the namespace', async () => {
    const nfs = new MemoryExport()
      .file('d/x')
      .link('by-client', '/mnt/cache/NAS/d/x')
      .link('by-namespace', '/NAS/./d//x')
      .link('elsewhere', '/mnt/cache/OTHER/x')
      .link('sneaky', '/NAS/../x');
    assert.equal(await fate(nfs, '/by-client', '/mnt/cache'), 'ok');
    assert.equal(await fate(nfs, '/by-client', null), 'OUTSIDE_EXPORT');
    assert.equal(await fate(nfs, '/by-namespace'), 'ok');
    assert.equal(await fate(nfs, '/elsewhere', '/mnt/cache'), 'OUTSIDE_EXPORT');
    assert.equal(await fate(nfs, '/sneaky'), 'OUTSIDE_EXPORT');
  });
});
