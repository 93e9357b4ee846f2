import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { CopyError, type CopyErrorCode } from '../../src/copy/copy-error.js';
import { type CopyRequest, type CopyResult, copyFile, discardAttempt } from '../../src/copy/copy-file.js';
import { BandwidthLimit, Throttle } from '../../src/copy/throttle.js';

const within = (...paths: Buffer[]) => ({ paths, followsLinks: true });
const MIB = 1024 * 1024;

let top: string;
let folder: string;
let tests = 0;
before(async () => {
  top = await fs.mkdtemp(join(tmpdir(), 'writeback-copy-'));
});
after(() => fs.rm(top, { recursive: true, force: true }));
beforeEach(async () => {
  folder = join(top, `${tests++}`);
  await fs.mkdir(join(folder, 'in'), { recursive: true });
  await fs.mkdir(join(folder, 'out'));
});

const path = (...names: string[]): Buffer => Buffer.from(join(folder, ...names));
const never = new AbortController().signal;

function defaultRequest(overrides: Partial<CopyRequest> = {}): CopyRequest {
  return {
    source: path('in/file'),
    destination: path('out/deep/er/file'),
    roots: null,
    size: null,
    resumeAt: 0,
    resumeVersion: null,
    mode: 'in-place',
    attemptId: 'attempt-1',
    verify: 'crc32',
    bufferBytes: 65_536,
    ...overrides,
  };
}

async function write(content: Buffer | string, name = 'in/file'): Promise<void> {
  await fs.writeFile(path(name), content);
}

function copy(overrides: Partial<CopyRequest> = {}): Promise<CopyResult> {
  return copyFile(defaultRequest(overrides), new Throttle(), never);
}

async function refused(copying: Promise<unknown>, code: CopyErrorCode, message?: RegExp): Promise<void> {
  await assert.rejects(copying, (error: unknown) => {
    assert.ok(error instanceof CopyError, String(error));
    assert.equal(error.code, code, error.message);
    if (message) assert.match(error.message, message);
    return true;
  });
}

/** A file system of its own, for root only; null and a skipped test otherwise. */
async function mounted(t: TestContext, options: string): Promise<string | null> {
  const mount = join(folder, 'mount');
  await fs.mkdir(mount);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'none', mount]).status !== 0) {
    t.skip('only root can mount a file system');
    return null;
  }
  t.after(() => void spawnSync('umount', ['-l', mount]));
  return mount;
}

/** `size` lets the kernel copy, `crc32` reads and writes. */
const ways = (['in-place', 'atomic'] as const).flatMap((mode) => [
  { mode, verify: 'size' as const },
  { mode, verify: 'crc32' as const },
]);

for (const { mode, verify } of ways) {
  const request = (overrides: Partial<CopyRequest> = {}): CopyRequest =>
    defaultRequest({ mode, verify, ...overrides });
  const copy = (overrides: Partial<CopyRequest> = {}, throttle = new Throttle()): Promise<CopyResult> =>
    copyFile(request(overrides), throttle, never);

  describe(`a copy ${mode}, verified by ${verify}`, () => {
    for (const size of [0, 1, 65_535, 65_536, 65_537, 3 * MIB + 11]) {
      test(`of ${size} bytes is identical, verified, and in directories that it makes`, async () => {
        const content = randomBytes(size);
        await write(content);
        const heard: number[] = [];
        const result = await copyFile(request(), new Throttle(), never, (bytes) => heard.push(bytes));
        assert.deepEqual(await fs.readFile(path('out/deep/er/file')), content);
        assert.equal(result.complete, true);
        assert.equal(result.durableBytes, size);
        assert.equal(result.crc32, verify === 'crc32' ? crc32(content) : null);
        assert.ok(heard.every((bytes) => bytes < size));
        assert.deepEqual(await fs.readdir(path('out/deep/er')), ['file']);
      });
    }

    test('replaces what was there, also if that was longer', async () => {
      await write('short');
      await write(randomBytes(1000), 'out/file');
      await copy({ destination: path('out/file') });
      assert.equal(await fs.readFile(path('out/file'), 'utf8'), 'short');
    });

    test('takes as many bytes as are asked for', async () => {
      await write('0123456789');
      await copy({ size: 4 });
      assert.equal(await fs.readFile(path('out/deep/er/file'), 'utf8'), '0123');
    });

    test('of a source that is too short is refused before anything is made', async () => {
      await write('0123456789');
      await refused(copy({ size: 11 }), 'SOURCE_SHORT', /has 10 bytes, 11 are expected/);
      assert.deepEqual(await fs.readdir(path('out')), []);
    });

    test('keeps any byte in names', async () => {
      const source = Buffer.concat([path('in/'), Buffer.from('/n\xff\xfe\n', 'latin1')]);
      const destination = Buffer.concat([path('out/'), Buffer.from('/d\x80/f\xc3', 'latin1')]);
      await fs.writeFile(source, 'odd');
      await copy({ source, destination });
      assert.equal(await fs.readFile(destination, 'utf8'), 'odd');
      await copy({
        source,
        destination,
        roots: { source: within(path('in')), destination: within(path('out')) },
      });
    });

    test('that is aborted finishes its burst, and goes on from there', async () => {
      const content = randomBytes(2 * MIB);
      await write(content);
      const stop = new AbortController();
      const heard: number[] = [];
      const throttle = new Throttle(new BandwidthLimit(4 * MIB));
      const first = await copyFile(request(), throttle, stop.signal, (bytes) => {
        heard.push(bytes);
        if (bytes > MIB / 2) stop.abort();
      });
      assert.equal(first.complete, false);
      assert.equal(first.durableBytes, heard.at(-1));
      assert.ok(first.durableBytes > MIB / 2 && first.durableBytes < content.length);
      const again: number[] = [];
      const second = await copyFile(
        request({ resumeAt: first.durableBytes }),
        new Throttle(),
        never,
        (bytes) => again.push(bytes),
      );
      assert.equal(again[0], first.durableBytes);
      assert.equal(second.crc32, verify === 'crc32' ? crc32(content) : null);
      assert.deepEqual(await fs.readFile(path('out/deep/er/file')), content);
    });

    test('that is resumed begins anew if what was durable is not there', async () => {
      const content = randomBytes(100_000);
      await write(content);
      const heard: number[] = [];
      await copyFile(request({ resumeAt: 50_000 }), new Throttle(), never, (bytes) => heard.push(bytes));
      assert.equal(heard[0], 0);
      assert.deepEqual(await fs.readFile(path('out/deep/er/file')), content);
    });

    test('notices a source that is written to, grows, shrinks, is replaced or removed', async () => {
      const source = path('in/file');
      const changes: [() => Promise<unknown>, RegExp][] = [
        [() => fs.appendFile(source, 'more'), /went from 200000 to 200004 bytes/],
        [() => fs.utimes(source, new Date(), new Date(1e12)), /was written to/],
        [() => fs.truncate(source, 100_000), /went from 200000 to 100000 bytes/],
        [() => fs.rename(path('in/other'), source), /was replaced/],
        [() => fs.rm(source), /was removed/],
      ];
      for (const [change, message] of changes) {
        await write(randomBytes(200_000));
        await write(randomBytes(200_000), 'in/other');
        const throttle = new Throttle(new BandwidthLimit(400_000));
        let changed: Promise<unknown> | null = null;
        const copying = copyFile(request(), throttle, never, (bytes) => {
          if (bytes > 0) changed ??= change();
          if (bytes > 0) throttle.bandwidth.bytesPerSecond = 4_000_000;
        });
        await refused(copying, 'SOURCE_CHANGED', message);
        await changed;
        if (mode === 'atomic') assert.deepEqual(await fs.readdir(path('out/deep/er')), []);
      }
    });

    if (verify === 'crc32')
      test('finds bytes that were lost at the destination', async () => {
        await write(randomBytes(300_000));
        const throttle = new Throttle(new BandwidthLimit(600_000));
        let damaged: Promise<unknown> | null = null;
        const copying = copyFile(request(), throttle, never, (bytes) => {
          if (bytes < 1000 || damaged !== null) return;
          damaged = damage();
          throttle.bandwidth.bytesPerSecond = 6_000_000;
        });
        const damage = async (): Promise<void> => {
          const [name] = await fs.readdir(path('out/deep/er'));
          const file = await fs.open(path('out/deep/er', name as string), 'r+');
          await file.write(Buffer.from('damaged'), 0, 7, 100);
          await file.close();
        };
        await refused(copying, 'VERIFY_FAILED', /CRC-32/);
      });

    test('reports a full disk, a read-only one, and what POSIX says else', async (t) => {
      await write(randomBytes(3 * MIB));
      await refused(copy({ source: path('in/none') }), 'ENOENT', /source .* no such file/);
      await refused(copy({ source: path('in/file/below') }), 'ENOTDIR');
      await refused(copy({ source: path('in') }), 'EISDIR');
      await refused(copy({ destination: path('in/file/below') }), 'ENOTDIR');
      await refused(copy({ destination: path('out', 'x'.repeat(256)) }), 'ENAMETOOLONG');
      await refused(copy({ destination: Buffer.from('relative') }), 'INVALID_PATH');
      await refused(copy({ destination: path('out\0/file') }), 'INVALID_PATH');
      const mount = await mounted(t, 'size=2m');
      if (mount === null) return;
      const destination = Buffer.from(join(mount, 'file'));
      await refused(copy({ destination }), 'ENOSPC', /file cannot be written: no space left/);
      if (mode === 'atomic') assert.deepEqual(await fs.readdir(mount), []);
      await fs.rm(destination, { force: true });
      assert.equal(spawnSync('mount', ['-o', 'remount,ro', mount]).status, 0);
      await refused(copy({ destination }), 'EROFS');
      await refused(copy({ destination: Buffer.from(join(mount, 'deep/file')) }), 'EROFS');
    });

    test('refuses devices, FIFOs and sockets without waiting for them', async () => {
      await write('x');
      assert.equal(spawnSync('mkfifo', [join(folder, 'in/fifo')]).status, 0);
      await refused(copy({ source: path('in/fifo') }), 'NOT_REGULAR');
      await refused(copy({ source: Buffer.from('/dev/zero') }), 'NOT_REGULAR');
      if (mode === 'atomic') return;
      assert.equal(spawnSync('mkfifo', [join(folder, 'out/fifo')]).status, 0);
      await refused(copy({ destination: path('out/fifo') }), 'NOT_REGULAR');
      await refused(copy({ destination: Buffer.from('/dev/full') }), 'NOT_REGULAR');
    });

    if (verify === 'size')
      test('goes beyond 4 GiB', async () => {
        const size = 5 * 1024 ** 3 + 12_345;
        const from = size - 300_000;
        const source = await fs.open(path('in/file'), 'w');
        const tail = randomBytes(size - from);
        await source.truncate(size);
        await source.write(tail, 0, tail.length, from);
        await source.close();
        await fs.mkdir(path('out/deep/er'), { recursive: true });
        const name = mode === 'atomic' ? '.file.attempt-1.part' : 'file';
        const begun = await fs.open(path('out/deep/er', name), 'w');
        await begun.truncate(from);
        await begun.close();
        const result = await copy({ resumeAt: from });
        assert.equal(result.durableBytes, size);
        const copied = await fs.open(path('out/deep/er/file'));
        try {
          assert.equal((await copied.stat()).size, size);
          const read = Buffer.alloc(tail.length);
          await copied.read(read, 0, read.length, from);
          assert.deepEqual(read, tail);
        } finally {
          await copied.close();
        }
      });
  });
}

describe('an atomic copy', () => {
  test('has permissions and time of its source, but not its set-uid bit', async () => {
    await write('x');
    await fs.chmod(path('in/file'), 0o4640);
    await fs.utimes(path('in/file'), 1_600_000_000.25, 1_600_000_001.123_456_7);
    await copy({ mode: 'atomic' });
    const [source, { mode, mtimeNs }] = await Promise.all([
      fs.stat(path('in/file'), { bigint: true }),
      fs.stat(path('out/deep/er/file'), { bigint: true }),
    ]);
    assert.equal(mode & 0o7777n, 0o640n);
    if (process.platform === 'linux') assert.equal(mtimeNs, source.mtimeNs);
  });

  test('onto a directory or a FIFO is refused before a byte is copied', async () => {
    await write('new');
    await fs.mkdir(path('out/directory'));
    assert.equal(spawnSync('mkfifo', [join(folder, 'out/fifo')]).status, 0);
    for (const [name, code] of [
      ['directory', 'EISDIR'],
      ['fifo', 'NOT_REGULAR'],
    ] as const) {
      const heard: number[] = [];
      const request = defaultRequest({ mode: 'atomic', destination: path('out', name) });
      await refused(
        copyFile(request, new Throttle(), never, (bytes) => heard.push(bytes)),
        code,
        /the destination .*(directory|fifo) is/,
      );
      assert.deepEqual(heard, []);
    }
    assert.deepEqual((await fs.readdir(path('out'))).sort(), ['directory', 'fifo']);
  });

  test('that is resumed does not write to a file that somebody linked to its temporary name', async () => {
    await write(randomBytes(1000));
    await write(Buffer.alloc(500), 'precious');
    for (const plant of [fs.link, fs.symlink]) {
      await plant(join(folder, 'precious'), path('out/.file.attempt-1.part'));
      await copy({ mode: 'atomic', destination: path('out/file'), resumeAt: 500 });
      assert.deepEqual(await fs.readFile(path('precious')), Buffer.alloc(500));
      assert.deepEqual(await fs.readFile(path('out/file')), await fs.readFile(path('in/file')));
    }
  });

  test('shows nothing but the old file until it is complete, and leaves the old one when it fails', async () => {
    await write('old', 'out/file');
    await write(randomBytes(500_000));
    const stop = new AbortController();
    const seen: string[] = [];
    const throttle = new Throttle(new BandwidthLimit(1_000_000));
    await copyFile(
      defaultRequest({ mode: 'atomic', destination: path('out/file') }),
      throttle,
      stop.signal,
      (bytes) => {
        if (bytes > 100_000) stop.abort();
      },
    );
    seen.push(await fs.readFile(path('out/file'), 'utf8'));
    assert.deepEqual(seen, ['old']);
    assert.deepEqual((await fs.readdir(path('out'))).sort(), ['.file.attempt-1.part', 'file']);
  });

  test('can be cleaned up late without touching another attempt or the file', async () => {
    const destination = path('out/file');
    for (const name of ['file', '.file.attempt-1.part', '.file.attempt-2.part', '.other.attempt-1.part']) {
      await write(name, `out/${name}`);
    }
    await discardAttempt({ destination, roots: null, attemptId: 'attempt-1' });
    assert.deepEqual((await fs.readdir(path('out'))).sort(), [
      '.file.attempt-2.part',
      '.other.attempt-1.part',
      'file',
    ]);
    await discardAttempt({ destination, roots: null, attemptId: 'attempt-1' });
    await discardAttempt({ destination: path('nowhere/file'), roots: null, attemptId: 'attempt-1' });
    await refused(discardAttempt({ destination, roots: null, attemptId: '../x' }), 'EINVAL');
  });

  test('works for the longest names, and two of them do not meet', async () => {
    await write('one');
    const names = [`${'n'.repeat(254)}1`, `${'n'.repeat(254)}2`];
    await Promise.all(names.map((name) => copy({ mode: 'atomic', destination: path('out', name) })));
    assert.deepEqual((await fs.readdir(path('out'))).sort(), names);
  });

  test('replaces a link instead of writing through it', async () => {
    await write('new');
    await write('precious', 'in/precious');
    await fs.symlink(join(folder, 'in/precious'), path('out/file'));
    await copy({ mode: 'atomic', destination: path('out/file') });
    assert.equal(await fs.readFile(path('in/precious'), 'utf8'), 'precious');
    assert.ok((await fs.lstat(path('out/file'))).isFile());
  });
});

describe('allowed roots', () => {
  const roots = (): CopyRequest['roots'] => ({
    source: within(path('in')),
    destination: within(path('out')),
  });
  const confined = (overrides: Partial<CopyRequest>): Promise<CopyResult> =>
    copy({ roots: roots(), destination: path('out/file'), ...overrides });

  for (const mode of ['in-place', 'atomic'] as const) {
    test(`hold ${mode}: paths, ".." and links that lead out are refused, and nothing is made there`, async () => {
      await write('secret', 'secret');
      await write('inside');
      await fs.symlink('../secret', path('in/link'));
      await fs.symlink(folder, path('in/up'));
      await fs.symlink(folder, path('out/up'));
      await fs.symlink('..', path('out/dots'));
      await refused(confined({ mode, source: path('secret') }), 'OUTSIDE_ROOTS');
      await refused(confined({ mode, source: Buffer.from(`${folder}/in/../secret`) }), 'INVALID_PATH');
      await refused(confined({ mode, source: path('in/link') }), 'OUTSIDE_ROOTS');
      await refused(confined({ mode, source: path('in/up/secret') }), 'OUTSIDE_ROOTS');
      await refused(confined({ mode, source: path('in') }), 'OUTSIDE_ROOTS');
      await refused(confined({ mode, source: Buffer.from(`${folder}/inside`) }), 'OUTSIDE_ROOTS');
      await refused(confined({ mode, destination: path('made') }), 'OUTSIDE_ROOTS');
      await refused(confined({ mode, destination: path('out/up/made/file') }), 'OUTSIDE_ROOTS');
      await refused(confined({ mode, destination: path('out/dots/made/file') }), 'OUTSIDE_ROOTS');
      await assert.rejects(fs.stat(path('made')), { code: 'ENOENT' });
      if (mode === 'in-place') {
        await fs.symlink(join(folder, 'secret'), path('out/file'));
        await refused(confined({ mode }), 'OUTSIDE_ROOTS');
      }
      assert.equal(await fs.readFile(path('secret'), 'utf8'), 'secret');
    });
  }

  test('links that stay inside are followed, as any program would', async () => {
    await fs.mkdir(path('in/real/deep'), { recursive: true });
    await write('found', 'in/real/deep/file');
    await fs.symlink('real', path('in/a'));
    await fs.symlink(join(folder, 'in/a/deep'), path('in/b'));
    // ".." behind a link leaves the directory that the link leads to: this is in/real/../real/deep/file.
    await fs.symlink('b/../../real/deep/file', path('in/c'));
    await fs.symlink('volume', path('out/link'));
    for (const name of ['in/a/deep/file', 'in/b/file', 'in/c']) {
      await fs.rm(path('out/volume'), { recursive: true, force: true });
      await fs.mkdir(path('out/volume'));
      await confined({ source: path(name), destination: path('out/link/new/file') });
      assert.equal(await fs.readFile(path('out/volume/new/file'), 'utf8'), 'found');
    }
  });

  test('no link is followed for who may not, wherever it leads; the root itself may be one', async () => {
    await fs.mkdir(path('in/real'));
    await write('found', 'in/real/file');
    await fs.symlink('real', path('in/dir'));
    await fs.symlink('real/file', path('in/link'));
    await fs.mkdir(path('out/real'));
    await fs.symlink('real', path('out/dir'));
    await fs.symlink('in', path('alias'));
    const strict = (root: Buffer) => ({ paths: [root], followsLinks: false });
    const roots = { source: strict(path('alias')), destination: strict(path('out')) };
    const from = (name: string) => path('alias', name);
    for (const mode of ['in-place', 'atomic'] as const) {
      const strictly = (source: Buffer, to = 'out/copy') =>
        copy({ mode, roots, source, destination: path(to) });
      await refused(strictly(from('link')), 'OUTSIDE_ROOTS', /link is a symbolic link/);
      await refused(strictly(from('dir/file')), 'OUTSIDE_ROOTS', /dir is a symbolic link/);
      await refused(strictly(from('real/file'), 'out/dir/copy'), 'OUTSIDE_ROOTS');
      await refused(strictly(from('real/file'), 'out/dir/new/copy'), 'OUTSIDE_ROOTS');
      await strictly(from('real/file'));
      await strictly(from('real/file'), 'out/new/copy');
    }
    assert.deepEqual(await fs.readdir(path('out/real')), []);
    assert.equal(await fs.readFile(path('out/new/copy'), 'utf8'), 'found');
  });

  test('a circle of links ends', async () => {
    await fs.symlink('two', path('in/one'));
    await fs.symlink('one', path('in/two'));
    await refused(confined({ source: path('in/one') }), 'ELOOP');
    await refused(confined({ source: path('in/one/file') }), 'ELOOP');
  });

  test('a root may itself be reached through a link', async () => {
    await write('x');
    await fs.symlink('in', path('alias'));
    await copy({
      source: path('alias/file'),
      destination: path('out/file'),
      roots: { source: within(path('alias')), destination: within(path('out')) },
    });
    assert.equal(await fs.readFile(path('out/file'), 'utf8'), 'x');
  });

  test('a directory that is swapped for a link in the middle leads nowhere', async () => {
    await fs.mkdir(path('elsewhere'));
    await write('secret', 'elsewhere/file');
    await fs.mkdir(path('in/dir'));
    await write('inside', 'in/dir/file');
    const swapping = spawnSwapper(join(folder, 'in/dir'), join(folder, 'elsewhere'));
    try {
      let copied = 0;
      for (let i = 0; i < 300; i++) {
        try {
          await confined({ source: path('in/dir/file'), destination: path('out/file'), verify: 'size' });
          copied++;
          assert.equal(await fs.readFile(path('out/file'), 'utf8'), 'inside');
        } catch (error) {
          assert.ok(error instanceof CopyError, String(error));
          assert.ok(
            ['OUTSIDE_ROOTS', 'ENOENT', 'SOURCE_CHANGED', 'ENOTDIR'].includes(error.code),
            String(error),
          );
        }
      }
      assert.ok(copied > 0);
    } finally {
      swapping.kill('SIGKILL');
      await once(swapping, 'exit');
    }
  });
});

/** Swaps a directory for a link and back, as fast as it can. */
function spawnSwapper(directory: string, target: string): ChildProcess {
  return spawn(process.execPath, [
    '-e',
    `const fs = require('node:fs');
     const [directory, target] = process.argv.slice(1);
     for (;;) {
       fs.renameSync(directory, directory + '.aside');
       fs.symlinkSync(target, directory);
       fs.unlinkSync(directory);
       fs.renameSync(directory + '.aside', directory);
     }`,
    directory,
    target,
  ]);
}

test('a file with more bytes than can be counted exactly is refused', async (t) => {
  if (spawnSync('truncate', ['-s', '9P', join(folder, 'in/file')]).status !== 0) {
    return t.skip('this file system has no files of that size');
  }
  for (const mode of ['in-place', 'atomic'] as const) await refused(copy({ mode }), 'EFBIG');
  assert.deepEqual(await fs.readdir(path('out')), []);
});

test('a copy onto itself is refused, and costs nothing', async () => {
  await write('itself');
  await refused(copy({ destination: path('in/file') }), 'EINVAL', /the same file/);
  await fs.link(path('in/file'), path('in/other'));
  await refused(copy({ destination: path('in/other') }), 'EINVAL', /the same file/);
  assert.equal(await fs.readFile(path('in/file'), 'utf8'), 'itself');
});

test('no descriptor stays open, whatever happens', { skip: process.platform !== 'linux' }, async () => {
  await write(randomBytes(200_000));
  const roots = { source: within(path('in')), destination: within(path('out')) };
  for (const mode of ['in-place', 'atomic'] as const) {
    await copy({ mode });
    await copy({ mode, roots });
    await copy({ mode, roots, size: 1e6 }).catch(() => undefined);
    await copy({ mode, roots, destination: path('in/file/x') }).catch(() => undefined);
    await copy({ mode, roots, source: path('in/none/x') }).catch(() => undefined);
  }
  for (const descriptor of await fs.readdir('/proc/self/fd')) {
    const target = await fs.readlink(`/proc/self/fd/${descriptor}`).catch(() => '');
    assert.ok(!target.startsWith(folder), `${target} is still open`);
  }
});
