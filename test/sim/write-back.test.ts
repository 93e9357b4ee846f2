import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import {
  getport,
  MAGIC_OFFSET,
  MAGIC_START,
  MAGIC_STATUS,
  MAGIC_SYNC,
  mnt,
  NaiveNfs,
  NaiveRpc,
  opaque,
} from '../support/naive-nfs-client.js';
import { handleOf, simulatedCache } from '../support/simulated-cache.js';
import { until } from '../support/until.js';

const OK = 0;
const NOT_SYNC = 10002;
const NOTEMPTY = 66;

test("the reference utility's calls flush a file: GETPORT, MNT, NULL, LOOKUP, COMMIT start, COMMIT status", async (t) => {
  const content = randomBytes(3_000_000);
  const { sim, filerDir } = await simulatedCache(t, { flushLatencyMs: 500 }, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'result'));
    fs.writeFileSync(path.join(cacheDir, 'result/output3.txt'), content);
  });
  const mountPort = await getport(sim.ports.portmap, 100005);
  const nfsPort = await getport(sim.ports.portmap, 100003);
  assert.deepEqual([mountPort, nfsPort], [sim.ports.mount, sim.ports.nfs]);
  const { status, handle: root, flavors } = await mnt(mountPort, '/cache');
  assert.equal(status, OK);
  assert.deepEqual(flavors, [1]);
  const rpc = await NaiveRpc.connect(nfsPort);
  t.after(() => rpc.close());
  await rpc.call(100003, 3, 0);
  const fsinfo = await rpc.call(100003, 3, 19, opaque(root));
  assert.equal(fsinfo.u32(), OK);
  const nfs = new NaiveNfs(rpc);
  const directory = await nfs.lookup(root, 'result');
  const { handle } = await nfs.lookup(directory.handle as Buffer, 'output3.txt');
  const file = handle as Buffer;
  const started = await nfs.commit(file, MAGIC_OFFSET, MAGIC_START);
  assert.equal(started.status, NOT_SYNC);
  assert.deepEqual([started.before?.size, started.after?.size], [3_000_000n, 3_000_000n]);
  assert.equal(await nfs.status(file), NOT_SYNC);
  await until('flushed', async () => (await nfs.status(file)) === OK);
  assert.deepEqual(fs.readFileSync(path.join(filerDir, 'result/output3.txt')), content);
  const { status: last, after, verifier } = await nfs.commit(file, MAGIC_OFFSET, MAGIC_STATUS);
  assert.deepEqual([last, after?.size, verifier?.length], [OK, 3_000_000n, 16]);
});

test('every cell of the reply table of the magic COMMIT', async (t) => {
  const under = await simulatedCache(t, { flushLatencyMs: 500 }, (cacheDir) => {
    fs.writeFileSync(path.join(cacheDir, 'file'), 'one');
  });
  const { nfs, cacheDir } = under;
  const file = await handleOf(under, 'file');
  assert.equal(await nfs.status(file), NOTEMPTY, 'dirty, and no flush runs');
  assert.equal(await nfs.start(file), NOT_SYNC, 'started');
  assert.equal(await nfs.start(file), NOT_SYNC, 'joined');
  assert.equal(await nfs.status(file), NOT_SYNC, 'still flushing');
  await until('flushed', async () => (await nfs.status(file)) !== NOT_SYNC);
  assert.equal(await nfs.status(file), OK, 'flushed');
  assert.equal(await nfs.start(file), OK, 'clean already');
  assert.equal(await nfs.sync(file), OK, 'clean already');
  assert.equal(under.sim.stats().flushes.started, 1);
  fs.writeFileSync(path.join(cacheDir, 'file'), 'two');
  assert.equal(await nfs.status(file), NOTEMPTY, 'dirty again, with the same size');
  assert.equal(await nfs.sync(file), OK, 'synchronous: the reply comes when it is on the filer');
  assert.equal(fs.readFileSync(path.join(under.filerDir, 'file'), 'utf8'), 'two');
  assert.equal(await nfs.status(file), OK);
});

test('a count or an offset beside the magic ones is a plain COMMIT and says nothing about the filer', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => fs.writeFileSync(path.join(cacheDir, 'file'), 'x'));
  const file = await handleOf(under, 'file');
  for (const [offset, count] of [
    [0n, 0],
    [MAGIC_OFFSET, 0],
    [0n, MAGIC_SYNC],
    [MAGIC_OFFSET + 1n, MAGIC_START],
  ] as const) {
    assert.equal((await under.nfs.commit(file, offset, count)).status, OK);
  }
  assert.equal(under.sim.stats().flushes.started, 0);
  assert.deepEqual(fs.readdirSync(under.filerDir), []);
});

test('a copy on the filer has the bytes, the mode and the time of its source, and nothing else is left there', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'a/b'), { recursive: true });
    fs.chmodSync(path.join(cacheDir, 'a/b'), 0o710);
    for (const [name, size] of [
      ['empty', 0],
      ['small', 65536],
      ['large', 2_500_001],
    ] as const) {
      fs.writeFileSync(path.join(cacheDir, 'a/b', name), randomBytes(size), { mode: 0o640 });
    }
    fs.utimesSync(path.join(cacheDir, 'a/b/small'), 1_000_000_000, 1_234_567_890.123);
  });
  for (const name of ['empty', 'small', 'large']) {
    assert.equal(await under.nfs.sync(await handleOf(under, `a/b/${name}`)), OK);
    const source = path.join(under.cacheDir, 'a/b', name);
    const copy = path.join(under.filerDir, 'a/b', name);
    assert.ok(fs.readFileSync(copy).equals(fs.readFileSync(source)));
    assert.equal(fs.statSync(copy).mode, fs.statSync(source).mode);
    assert.ok(Math.abs(fs.statSync(copy).mtimeMs - fs.statSync(source).mtimeMs) < 0.01);
  }
  assert.equal(fs.statSync(path.join(under.filerDir, 'a/b')).mode & 0o7777, 0o710);
  assert.deepEqual(fs.readdirSync(path.join(under.filerDir, 'a/b')).sort(), ['empty', 'large', 'small']);
  assert.equal(under.sim.stats().flushes.bytesWritten, 65536 + 2_500_001);
});

test('what a crash left on the filer under a temporary name is overwritten', async (t) => {
  const under = await simulatedCache(t, { flushLatencyMs: 200 }, (cacheDir) => {
    fs.writeFileSync(path.join(cacheDir, 'file'), 'content');
  });
  const file = await handleOf(under, 'file');
  await under.nfs.start(file);
  await until('temporary copy', () => fs.readdirSync(under.filerDir).length === 1);
  const temporary = fs.readdirSync(under.filerDir)[0] as string;
  await until('flushed', async () => (await under.nfs.status(file)) === OK);
  fs.writeFileSync(path.join(under.filerDir, temporary), 'left by a crash, and longer than the file');
  fs.writeFileSync(path.join(under.cacheDir, 'file'), 'changed');
  assert.equal(await under.nfs.sync(file), OK);
  assert.deepEqual(fs.readdirSync(under.filerDir), ['file']);
  assert.equal(fs.readFileSync(path.join(under.filerDir, 'file'), 'utf8'), 'changed');
});

test('a write during a flush leaves the file dirty (66); the filer has the whole old version, then the new one', async (t) => {
  const under = await simulatedCache(t, { flushLatencyMs: 1000 }, (cacheDir) => {
    fs.writeFileSync(path.join(cacheDir, 'file'), 'first');
  });
  const file = await handleOf(under, 'file');
  assert.equal(await under.nfs.start(file), NOT_SYNC);
  await until('copied under a temporary name', () => fs.readdirSync(under.filerDir).length === 1);
  await until('copy complete', () => {
    const [name] = fs.readdirSync(under.filerDir);
    return fs.statSync(path.join(under.filerDir, name as string)).mode % 0o1000 === 0o644;
  });
  fs.writeFileSync(path.join(under.cacheDir, 'file'), 'other');
  assert.equal(await under.nfs.status(file), NOT_SYNC);
  await until('ended', async () => (await under.nfs.status(file)) !== NOT_SYNC);
  assert.equal(await under.nfs.status(file), NOTEMPTY);
  assert.equal(fs.readFileSync(path.join(under.filerDir, 'file'), 'utf8'), 'first');
  assert.equal(await under.nfs.start(file), NOT_SYNC);
  await until('flushed', async () => (await under.nfs.status(file)) === OK);
  assert.equal(fs.readFileSync(path.join(under.filerDir, 'file'), 'utf8'), 'other');
});

test('never more flushes at once than allowed, each with its latency, and all of them end', async (t) => {
  const names = Array.from({ length: 40 }, (_, i) => `file-${i}`);
  const under = await simulatedCache(t, { flushLatencyMs: 40, flushConcurrency: 4 }, (cacheDir) => {
    for (const name of names) fs.writeFileSync(path.join(cacheDir, name), name);
  });
  const handles = await Promise.all(names.map((name) => handleOf(under, name)));
  const begun = performance.now();
  const replies = await Promise.all(handles.map((handle) => under.nfs.start(handle)));
  assert.deepEqual(new Set(replies), new Set([NOT_SYNC]));
  await until('all flushed', () => under.sim.stats().flushes.finished === 40);
  // A lower bound: ten rounds of four, each at least 40 ms. Timers may fire up to a millisecond early.
  assert.ok(performance.now() - begun >= 10 * 39);
  const { started, failed, active, waiting, maxActive } = under.sim.stats().flushes;
  assert.deepEqual(
    { started, failed, active, waiting, maxActive },
    { started: 40, failed: 0, active: 0, waiting: 0, maxActive: 4 },
  );
  for (const handle of handles) assert.equal(await under.nfs.status(handle), OK);
});

test('limits can be changed while flushes wait', async (t) => {
  const names = Array.from({ length: 12 }, (_, i) => `file-${i}`);
  const under = await simulatedCache(t, { flushLatencyMs: 60_000, flushConcurrency: 2 }, (cacheDir) => {
    for (const name of names) fs.writeFileSync(path.join(cacheDir, name), name);
  });
  for (const name of names) await under.nfs.start(await handleOf(under, name));
  assert.equal(under.sim.stats().flushes.waiting, 10);
  under.sim.setFlushLimits({ latencyMs: 0, concurrency: 10 });
  await until('those that waited are flushed', () => under.sim.stats().flushes.finished === 10);
  assert.equal(under.sim.stats().flushes.active, 2);
});

test('after a restart handles are good, clean files are clean, dirty ones dirty, and the write verifier is another', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'a/b/c'), { recursive: true });
    fs.writeFileSync(path.join(cacheDir, 'a/b/c/clean'), 'clean');
    fs.writeFileSync(path.join(cacheDir, 'a/b/c/dirty'), 'dirty');
    fs.writeFileSync(path.join(cacheDir, 'a/b/c/removed'), 'removed');
  });
  const clean = await handleOf(under, 'a/b/c/clean');
  const dirty = await handleOf(under, 'a/b/c/dirty');
  const removed = await handleOf(under, 'a/b/c/removed');
  const { root } = under;
  const { verifier } = await under.nfs.commit(clean);
  assert.equal((await under.nfs.commit(clean)).verifier, verifier);
  assert.equal(await under.nfs.sync(clean), OK);
  fs.rmSync(path.join(under.cacheDir, 'a/b/c/removed'));
  fs.writeFileSync(path.join(under.cacheDir, 'a/b/c/removed'), 'a new file of the same name');
  await under.restart();
  assert.ok(under.root.equals(root));
  assert.equal(await under.nfs.status(clean), OK);
  assert.equal(await under.nfs.status(dirty), NOTEMPTY);
  assert.equal((await under.nfs.getattr(removed)).status, 70);
  assert.notEqual((await under.nfs.commit(clean)).verifier, verifier);
});

test('a removed, replaced or renamed file gives STALE, also while it is being flushed', async (t) => {
  const names = ['removed', 'replaced', 'renamed', 'flushing'];
  const under = await simulatedCache(t, { flushLatencyMs: 500 }, (cacheDir) => {
    for (const name of names) fs.writeFileSync(path.join(cacheDir, name), name);
  });
  const [removed, replaced, renamed, flushing] = await Promise.all(
    names.map((name) => handleOf(under, name)),
  );
  const at = (name: string) => path.join(under.cacheDir, name);
  const waiting = under.nfs.sync(flushing as Buffer);
  await until('flush begun', () => under.sim.stats().flushes.active === 1);
  fs.rmSync(at('removed'));
  fs.writeFileSync(at('new'), 'new');
  fs.renameSync(at('new'), at('replaced'));
  fs.renameSync(at('renamed'), at('elsewhere'));
  fs.rmSync(at('flushing'));
  assert.equal(await under.nfs.start(removed as Buffer), 70);
  assert.equal((await under.nfs.getattr(replaced as Buffer)).status, 70);
  assert.equal((await under.nfs.commit(renamed as Buffer)).status, 70);
  assert.equal(await waiting, 70);
});

test('a plain server (rfc1813) answers the magic COMMIT with OK at once and moves nothing', async (t) => {
  const under = await simulatedCache(t, { dialect: 'rfc1813', flushLatencyMs: 60_000 }, (cacheDir) => {
    fs.writeFileSync(path.join(cacheDir, 'file'), 'x');
  });
  const file = await handleOf(under, 'file');
  assert.deepEqual(
    [await under.nfs.start(file), await under.nfs.status(file), await under.nfs.sync(file)],
    [0, 0, 0],
  );
  assert.equal((await under.nfs.commit(file)).status, OK);
  assert.deepEqual(fs.readdirSync(under.filerDir), []);
});

test('a flush never writes through a symbolic link on the filer, and its failure is told', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir, filerDir) => {
    fs.mkdirSync(path.join(cacheDir, 'out'));
    fs.writeFileSync(path.join(cacheDir, 'out/file'), 'x');
    fs.mkdirSync(path.join(filerDir, '../elsewhere'));
    fs.symlinkSync('../elsewhere', path.join(filerDir, 'out'));
  });
  const file = await handleOf(under, 'out/file');
  assert.equal(await under.nfs.sync(file), 20);
  assert.equal(await under.nfs.status(file), 20, 'the error of the last flush');
  assert.deepEqual(fs.readdirSync(path.join(under.filerDir, '../elsewhere')), []);
});

test('only regular files are committed: a directory, a symbolic link and a FIFO are refused at once', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'directory'));
    fs.symlinkSync('/etc/hostname', path.join(cacheDir, 'link'));
    execFileSync('mkfifo', [path.join(cacheDir, 'fifo')]);
  });
  assert.equal(await under.nfs.start(await handleOf(under, 'directory')), 21);
  assert.equal(await under.nfs.start(await handleOf(under, 'link')), 22);
  assert.equal(await under.nfs.start(await handleOf(under, 'fifo')), 22);
  assert.equal((await under.nfs.commit(await handleOf(under, 'fifo'))).status, 22);
  assert.equal((await under.nfs.read(await handleOf(under, 'link'), 0n, 100)).status, 22);
});

test('close gives up what waits and leaves no temporary file', async (t) => {
  const under = await simulatedCache(t, { flushLatencyMs: 60_000, flushConcurrency: 1 }, (cacheDir) => {
    fs.writeFileSync(path.join(cacheDir, 'a'), 'a');
    fs.writeFileSync(path.join(cacheDir, 'b'), 'b');
  });
  await under.nfs.start(await handleOf(under, 'a'));
  await under.nfs.start(await handleOf(under, 'b'));
  await until('temporary copy', () => fs.readdirSync(under.filerDir).length === 1);
  await under.sim.close();
  assert.deepEqual(fs.readdirSync(under.filerDir), []);
});

test('two mount addresses are one cache: the same ports, handles and flushes', async (t) => {
  const under = await simulatedCache(
    t,
    { addresses: ['127.0.0.1', '127.0.0.2'], flushLatencyMs: 500 },
    (cacheDir) => {
      fs.writeFileSync(path.join(cacheDir, 'file'), 'x');
    },
  );
  const file = await handleOf(under, 'file');
  const other = new NaiveNfs(await NaiveRpc.connect(under.sim.ports.nfs, '127.0.0.2'));
  t.after(() => other.rpc.close());
  assert.equal(await getport(under.sim.ports.portmap, 100003, '127.0.0.2'), under.sim.ports.nfs);
  assert.equal(await under.nfs.start(file), NOT_SYNC);
  assert.equal(await other.status(file), NOT_SYNC);
  await until('flushed', async () => (await other.status(file)) === OK);
  assert.equal(await under.nfs.status(file), OK);
  assert.equal(under.sim.stats().flushes.started, 1);
});

test('several exports have folders of their own; their files do not mix', async (t) => {
  const under = await simulatedCache(
    t,
    {
      exports: [
        { path: '/cache', subdir: 'one' },
        { path: '/other/two', subdir: 'two' },
      ],
    },
    (cacheDir) => {
      for (const name of ['one', 'two']) {
        fs.mkdirSync(path.join(cacheDir, name));
        fs.writeFileSync(path.join(cacheDir, name, 'file'), name);
      }
    },
  );
  const two = await mnt(under.sim.ports.mount, '/other/two');
  const file = await under.nfs.lookup(two.handle, 'file');
  assert.equal(await under.nfs.sync(file.handle as Buffer), OK);
  assert.equal(fs.readFileSync(path.join(under.filerDir, 'two/file'), 'utf8'), 'two');
  assert.deepEqual(fs.readdirSync(path.join(under.filerDir, 'one')), []);
});

test('a synthetic export has as many files as asked for, flushes them in order and moves nothing', async (t) => {
  const under = await simulatedCache(t, { syntheticFiles: 5000, flushLatencyMs: 10 });
  const { handle: root } = await mnt(under.sim.ports.mount, '/synthetic');
  assert.equal((await under.nfs.list(root, true, 65536)).size, 5000);
  const { handle } = await under.nfs.lookup(root, 'file-0004999');
  const file = handle as Buffer;
  assert.equal(await under.nfs.status(file), NOTEMPTY);
  assert.equal(await under.nfs.start(file), NOT_SYNC);
  await until('flushed', async () => (await under.nfs.status(file)) === OK);
  assert.equal(await under.nfs.start(file), OK);
  assert.equal((await under.nfs.lookup(root, 'file-0005000')).status, 2);
  assert.equal(under.sim.stats().flushes.bytesWritten, 0);
});
