import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DirectoryListing } from '../../src/sim/directory-listing.js';
import { nameHash, RecentMap } from '../../src/sim/handles.js';
import { RpcServer } from '../../src/sim/rpc-server.js';
import {
  AUTH_NONE,
  authSys,
  type Bytes,
  getport,
  mnt,
  NaiveNfs,
  NaiveRpc,
  opaque,
  readPostOp,
  u32,
  u64,
} from '../support/naive-nfs-client.js';
import { type CacheUnderTest, handleOf, simulatedCache } from '../support/simulated-cache.js';
import { until } from '../support/until.js';

const OK = 0;

test('names that are no names are refused, and nothing leads out of the export', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.writeFileSync(path.join(cacheDir, '../secret'), 'secret');
    fs.mkdirSync(path.join(cacheDir, 'directory'));
    fs.symlinkSync('..', path.join(cacheDir, 'out'));
  });
  const directory = await handleOf(under, 'directory');
  const refusals: (readonly [string | Buffer, number])[] = [
    ['', 13],
    ['..', 13],
    ['../secret', 22],
    ['directory/..', 22],
    [Buffer.from('a\0b'), 22],
    ['x'.repeat(256), 63],
    ['x'.repeat(255), 2],
  ];
  for (const [name, status] of refusals) {
    assert.equal((await under.nfs.lookup(under.root, name)).status, status, JSON.stringify(name));
    if (name !== '..') assert.equal((await under.nfs.lookup(directory, name)).status, status);
  }
  assert.ok((await under.nfs.lookup(directory, '.')).handle?.equals(directory));
  const link = await handleOf(under, 'out');
  assert.equal((await under.nfs.lookup(link, 'secret')).status, 20, 'a symbolic link is no directory');
  for (const file of ['/cache/..', '/cache/../..', '/cache/directory/../..', '/cache/out']) {
    assert.notEqual((await mnt(under.sim.ports.mount, file)).status, OK, file);
  }
});

test('a directory that is replaced by a symbolic link is stale, not followed', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'directory'));
    fs.mkdirSync(path.join(cacheDir, '../elsewhere'));
    fs.writeFileSync(path.join(cacheDir, '../elsewhere/secret'), 'secret');
  });
  const directory = await handleOf(under, 'directory');
  fs.rmdirSync(path.join(under.cacheDir, 'directory'));
  fs.symlinkSync('../elsewhere', path.join(under.cacheDir, 'directory'));
  assert.equal((await under.nfs.lookup(directory, 'secret')).status, 70);
});

test('names are bytes: one that is no UTF-8 is listed, found, read and flushed', async (t) => {
  const name = Buffer.from([0x66, 0xff, 0xfe, 0x80, 0x2e, 0x64]);
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.writeFileSync(Buffer.concat([Buffer.from(`${cacheDir}/`), name]), 'bytes');
  });
  assert.deepEqual([...(await under.nfs.list(under.root, true)).keys()], [name.toString('latin1')]);
  const { handle } = await under.nfs.lookup(under.root, name);
  assert.equal((await under.nfs.read(handle as Buffer, 0n, 100)).data.toString(), 'bytes');
  assert.equal(await under.nfs.sync(handle as Buffer), OK);
  const copy = Buffer.concat([Buffer.from(`${under.filerDir}/`), name]);
  assert.equal(fs.readFileSync(copy, 'utf8'), 'bytes');
});

test('20,000 files in one directory are listed once each, while others come and go', async (t) => {
  const names = Array.from({ length: 20_000 }, (_, i) => `file-${i}`);
  const under = await simulatedCache(t, {}, (cacheDir) => {
    for (const name of names) fs.closeSync(fs.openSync(path.join(cacheDir, name), 'w'));
  });
  let turns = 0;
  const churn = setInterval(() => {
    fs.writeFileSync(path.join(under.cacheDir, `new-${turns++}`), '');
    if (turns > 1) fs.rmSync(path.join(under.cacheDir, `new-${turns - 2}`));
  }, 20);
  t.after(() => clearInterval(churn));
  const listed = await under.nfs.list(under.root, true, 1 << 20);
  assert.ok(names.every((name) => listed.has(name)));
  clearInterval(churn);
  const plain = await under.nfs.list(under.root, false, 32 << 10);
  assert.deepEqual([...plain.keys()].sort(), fs.readdirSync(under.cacheDir).sort());
});

test('a directory can be listed in pages of a few entries; too small a page and a foreign verifier are refused', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => {
    for (let i = 0; i < 50; i++) fs.writeFileSync(path.join(cacheDir, `file-${i}`), '');
  });
  assert.equal((await under.nfs.list(under.root, true, 500)).size, 50);
  assert.equal((await under.nfs.list(under.root, false, 200)).size, 50);
  await assert.rejects(under.nfs.list(under.root, true, 120), /status 10005/);
  const args = Buffer.concat([opaque(under.root), u64(5n), Buffer.alloc(8, 1), u32(4096)]);
  assert.equal((await under.nfs.rpc.call(100003, 3, 16, args)).u32(), 10003);
});

test('cookies tell names with the same hash apart', () => {
  const byHash = new Map<number, Buffer>();
  const collisions: Buffer[] = [];
  for (let i = 0; collisions.length < 4; i++) {
    const name = Buffer.from(`name-${i}`);
    const other = byHash.get(nameHash(name));
    if (other) collisions.push(other, name);
    else byHash.set(nameHash(name), name);
  }
  const listing = new DirectoryListing([...collisions, Buffer.from('alone')]);
  const seen: string[] = [];
  for (let cookie = 0, more = true; more; ) {
    const next = listing.entriesAfter(cookie).next();
    more = !next.done;
    if (next.done) break;
    seen.push(next.value.name.toString());
    assert.ok(next.value.cookie > cookie && next.value.cookie > 2);
    cookie = next.value.cookie;
  }
  assert.deepEqual(seen.sort(), [...collisions.map(String), 'alone'].sort());
});

test('100,000 names: every cookie leads to the next name, and a cookie whose name is gone to the one after it', () => {
  const names = Array.from({ length: 100_000 }, (_, i) => Buffer.from(`file-${i}`));
  const entries = [...new DirectoryListing(names).entriesAfter(0)];
  assert.equal(new Set(entries.map(({ name }) => name.toString())).size, 100_000);
  const remaining = new DirectoryListing(names.filter((_, i) => i % 2 === 0));
  for (let i = 0; i < entries.length - 2; i += 997) {
    const expected = entries.slice(i + 1).find(({ name }) => Number(name.toString().slice(5)) % 2 === 0);
    assert.deepEqual(
      remaining.entriesAfter((entries[i] as { cookie: number }).cookie).next().value,
      expected,
    );
  }
});

test('what was used lately is remembered in bounded memory', () => {
  const recent = new RecentMap<number>(10);
  for (let i = 0; i < 1000; i++) {
    recent.set(`key-${i}`, i);
    assert.equal(recent.get('key-0') ?? 0, 0);
  }
  assert.equal(recent.get('key-999'), 999);
  assert.equal(recent.get('key-0'), 0, 'used all the time');
  assert.equal(recent.get('key-500'), undefined);
});

test('handles have at most 64 bytes at any depth, and 22 directories deep they survive a restart', async (t) => {
  const deep = Array.from({ length: 30 }, (_, i) => `level-${i}`);
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, ...deep), { recursive: true });
  });
  const found = await handleOf(under, deep.slice(0, 22).join('/'));
  const tooDeep = await handleOf(under, deep.join('/'));
  assert.ok(found.length <= 64 && tooDeep.length <= 64);
  assert.equal((await under.nfs.getattr(tooDeep)).status, OK);
  await under.restart();
  assert.equal((await under.nfs.getattr(found)).status, OK);
  assert.equal((await under.nfs.getattr(tooDeep)).status, 70);
});

test('a handle that this server never gave out is BADHANDLE or STALE, whatever is in it', async (t) => {
  const under = await simulatedCache(t);
  for (let length = 0; length <= 64; length++) {
    const { status } = await under.nfs.getattr(randomBytes(length));
    assert.ok(status === 10001 || status === 70, `${length} bytes: ${status}`);
    const tampered = Buffer.from(under.root);
    const at = length % tampered.length;
    tampered[at] = (tampered[at] as number) ^ 0x55;
    if (at < 2 || at > 3) assert.notEqual((await under.nfs.getattr(tampered)).status, OK, `byte ${at}`);
  }
});

test('permissions go by the mode bits for the uid and gids of the call, unless they are switched off', async (t) => {
  const options = { permissions: 'enforced' } as const;
  const under = await simulatedCache(t, options, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'closed'), { mode: 0o700 });
    fs.writeFileSync(path.join(cacheDir, 'closed/file'), 'x');
    fs.writeFileSync(path.join(cacheDir, 'private'), 'x', { mode: 0o600 });
    fs.writeFileSync(path.join(cacheDir, 'public'), 'x', { mode: 0o644 });
    fs.writeFileSync(path.join(cacheDir, 'grouped'), 'x', { mode: 0o640 });
    if (process.getuid?.() === 0) fs.chownSync(path.join(cacheDir, 'grouped'), 0, 4321);
  });
  const closed = await handleOf(under, 'closed');
  const [hidden, open, grouped] = [
    await handleOf(under, 'private'),
    await handleOf(under, 'public'),
    await handleOf(under, 'grouped'),
  ];
  const access = async (handle: Buffer): Promise<number> => {
    const reply = await under.nfs.rpc.call(100003, 3, 4, Buffer.concat([opaque(handle), u32(0x3f)]));
    assert.equal(reply.u32(), OK);
    readPostOp(reply);
    return reply.u32();
  };
  under.nfs.rpc.credential = authSys(12345, 12345);
  assert.equal((await under.nfs.lookup(closed, 'file')).status, 13);
  await assert.rejects(under.nfs.list(closed, true), /status 13/);
  assert.equal((await under.nfs.read(hidden, 0n, 1)).status, 13);
  assert.equal(await under.nfs.start(hidden), 13);
  assert.equal((await under.nfs.read(open, 0n, 1)).status, OK);
  assert.deepEqual([await access(closed), await access(hidden), await access(open)], [0, 0, 1]);
  under.nfs.rpc.credential = AUTH_NONE;
  assert.equal((await under.nfs.read(hidden, 0n, 1)).status, 13);
  if (process.getuid?.() === 0) {
    under.nfs.rpc.credential = authSys(12345, 1, [4320, 4321]);
    assert.equal((await under.nfs.read(grouped, 0n, 1)).status, OK);
  }
  await under.restart({ permissions: 'ignored' });
  under.nfs.rpc.credential = authSys(12345, 12345);
  assert.equal((await under.nfs.read(hidden, 0n, 1)).status, OK);
  await under.restart({ squash: 'root' });
  assert.equal((await under.nfs.read(hidden, 0n, 1)).status, 13, 'root is nobody');
});

test('READ gives any part of a file and says where it ends', async (t) => {
  const content = randomBytes(2_200_000);
  const under = await simulatedCache(t, {}, (cacheDir) =>
    fs.writeFileSync(path.join(cacheDir, 'file'), content),
  );
  const file = await handleOf(under, 'file');
  const first = await under.nfs.read(file, 0n, 0xffffffff);
  assert.deepEqual([first.data.length, first.eof], [128 << 10, false]);
  const middle = await under.nfs.read(file, 1_000_001n, 7);
  assert.ok(middle.data.equals(content.subarray(1_000_001, 1_000_008)));
  const end = await under.nfs.read(file, 2_199_999n, 100);
  assert.ok(end.eof && end.data.equals(content.subarray(2_199_999)));
  for (const beyond of [2_200_000n, 1n << 40n, (1n << 64n) - 1n]) {
    const { status, data, eof } = await under.nfs.read(file, beyond, 100);
    assert.deepEqual([status, data.length, eof], [OK, 0, true]);
  }
  assert.equal((await under.nfs.read(under.root, 0n, 1)).status, 21);
});

test('FSINFO, FSSTAT, PATHCONF and READLINK are answered to their last byte', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) =>
    fs.symlinkSync('over/there', path.join(cacheDir, 'link')),
  );
  for (const [procedure, bytes] of [
    [18, 6 * 8 + 4],
    [19, 7 * 4 + 8 + 8 + 4],
    [20, 6 * 4],
  ] as const) {
    const reply = await under.nfs.rpc.call(100003, 3, procedure, opaque(under.root));
    assert.equal(reply.u32(), OK);
    assert.equal(readPostOp(reply)?.type, 2);
    assert.equal(reply.left, bytes, `procedure ${procedure}`);
  }
  const reply = await under.nfs.rpc.call(100003, 3, 5, opaque(await handleOf(under, 'link')));
  assert.equal(reply.u32(), OK);
  assert.equal(readPostOp(reply)?.type, 5);
  assert.equal(reply.opaque().toString(), 'over/there');
  assert.equal((await under.nfs.rpc.call(100003, 3, 5, opaque(under.root))).u32(), 22);
});

test('procedures that would change files answer ROFS, with as many absent attributes as RFC 1813 has', async (t) => {
  const under = await simulatedCache(t);
  const words: Record<number, number> = { 2: 2, 7: 2, 8: 2, 9: 2, 10: 2, 11: 2, 12: 2, 13: 2, 14: 4, 15: 3 };
  for (const [procedure, count] of Object.entries(words)) {
    const reply = await under.nfs.rpc.call(100003, 3, Number(procedure), opaque(under.root));
    assert.deepEqual([reply.u32(), reply.left], [30, 4 * count], `procedure ${procedure}`);
  }
});

test('MOUNT lists exports and mounts, forgets them on request, and mounts directories below an export', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'a/b'), { recursive: true });
    fs.writeFileSync(path.join(cacheDir, 'file'), '');
  });
  const { mount } = under.sim.ports;
  const below = await mnt(mount, '/cache/a/b');
  assert.ok(below.handle.equals(await handleOf(under, 'a/b')));
  assert.ok((await mnt(mount, '//cache/./'.replace('./', ''))).handle.equals(under.root));
  assert.equal((await mnt(mount, '/cache/none')).status, 2);
  assert.equal((await mnt(mount, '/cache/file')).status, 20);
  assert.equal((await mnt(mount, '/')).status, 2);
  const rpc = await NaiveRpc.connect(mount);
  t.after(() => rpc.close());
  const dump = async (): Promise<string[]> => {
    const reply = await rpc.call(100005, 3, 2);
    const paths: string[] = [];
    while (reply.u32() === 1) {
      assert.equal(reply.opaque().toString(), '127.0.0.1');
      paths.push(reply.opaque().toString());
    }
    return paths;
  };
  assert.deepEqual(await dump(), ['/cache', '/cache/a/b', '//cache/']);
  await rpc.call(100005, 3, 3, opaque('/cache/a/b'));
  assert.deepEqual(await dump(), ['/cache', '//cache/']);
  await rpc.call(100005, 3, 4);
  assert.deepEqual(await dump(), []);
  const exports = await rpc.call(100005, 3, 5);
  assert.deepEqual(
    [exports.u32(), exports.opaque().toString(), exports.u32(), exports.u32()],
    [1, '/cache', 0, 0],
  );
});

test('the port mapper knows what is there over TCP, in versions 2, 3 and 4', async (t) => {
  const under = await simulatedCache(t);
  const { portmap, mount, nfs } = under.sim.ports;
  assert.equal(await getport(portmap, 100003), nfs);
  assert.equal(await getport(portmap, 100004), 0);
  const rpc = await NaiveRpc.connect(portmap);
  t.after(() => rpc.close());
  assert.equal((await rpc.call(100000, 2, 3, u32(100003, 3, 17, 0))).u32(), 0, 'not over UDP');
  assert.equal((await rpc.call(100000, 2, 3, u32(100003, 4, 6, 0))).u32(), 0, 'not version 4');
  const dump = await rpc.call(100000, 2, 4);
  const entries: string[] = [];
  while (dump.u32() === 1) entries.push([dump.u32(), dump.u32(), dump.u32(), dump.u32()].join());
  assert.ok(entries.includes(`100003,3,6,${nfs}`) && entries.includes(`100005,3,6,${mount}`));
  for (const version of [3, 4]) {
    const getaddr = (netid: string) =>
      rpc
        .call(100000, version, 3, Buffer.concat([u32(100003, 3), opaque(netid), opaque(''), opaque('')]))
        .then((reply) => reply.opaque().toString());
    assert.equal(await getaddr('tcp'), `127.0.0.1.${nfs >> 8}.${nfs & 255}`);
    assert.equal(await getaddr('tcp6'), '');
    assert.equal(await getaddr('udp'), '');
  }
});

test('what RPC refuses is refused with its own words', async (t) => {
  const under = await simulatedCache(t);
  const { rpc } = under.nfs;
  const words = async (reply: Promise<Bytes>): Promise<number[]> => {
    const bytes = await reply;
    return Array.from({ length: bytes.left / 4 }, () => bytes.u32());
  };
  const none = Buffer.alloc(0);
  assert.deepEqual(await words(rpc.callRaw(100003, 3, 99, none)), [1, 0, 0, 0, 3], 'PROC_UNAVAIL');
  assert.deepEqual(await words(rpc.callRaw(100003, 4, 0, none)), [1, 0, 0, 0, 2, 3, 3], 'PROG_MISMATCH');
  assert.deepEqual(await words(rpc.callRaw(100005, 3, 0, none)), [1, 0, 0, 0, 1], 'PROG_UNAVAIL');
  assert.deepEqual(await words(rpc.callRaw(100003, 3, 0, none, 3)), [1, 1, 0, 2, 2], 'RPC_MISMATCH');
  assert.deepEqual(
    await words(rpc.callRaw(100003, 3, 1, u32(64))),
    [1, 0, 0, 0, 4],
    'GARBAGE_ARGS: cut short',
  );
  assert.deepEqual(
    await words(rpc.callRaw(100003, 3, 1, u32(0, 0))),
    [1, 0, 0, 0, 4],
    'GARBAGE_ARGS: too long',
  );
  assert.deepEqual(await words(rpc.callRaw(100003, 3, 1, u32(65))), [1, 0, 0, 0, 4], 'GARBAGE_ARGS: handle');
  rpc.credential = Buffer.concat([u32(6), opaque(Buffer.alloc(20))]);
  assert.deepEqual(await words(rpc.callRaw(100003, 3, 0, none)), [1, 1, 1, 5], 'AUTH_TOOWEAK');
  rpc.credential = Buffer.concat([u32(1), opaque(Buffer.alloc(8, 255))]);
  assert.deepEqual(await words(rpc.callRaw(100003, 3, 0, none)), [1, 1, 1, 1], 'AUTH_BADCRED');
});

test('hostile bytes close their own connection; the server lives on and serves others', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => fs.writeFileSync(path.join(cacheDir, 'file'), 'x'));
  const call = Buffer.concat([u32(1, 0, 2, 100003, 3, 1), AUTH_NONE, AUTH_NONE, opaque(under.root)]);
  const hostile: Buffer[] = [
    Buffer.from('GET / HTTP/1.1\r\nHost: cache\r\n\r\n'),
    u32(0xffffffff),
    u32(0x7fffffff),
    Buffer.alloc(4 * 5000),
    u32(0x80000000),
    Buffer.concat([u32(0x80000008), u32(1, 1)]),
    Buffer.concat([u32(0x80000014), u32(1, 0, 2, 100003, 3)]),
    Buffer.concat([u32(0x8000001c), u32(1, 0, 2, 100003, 3, 1, 1), u32(0xffffffff)]),
    randomBytes(100_000),
  ];
  for (const port of Object.values(under.sim.ports)) {
    for (const bytes of hostile) {
      const rpc = await NaiveRpc.connect(port);
      rpc.write(bytes);
      // Random bytes may promise a record that is still allowed: then the client is the one that gives up.
      if (bytes.length === 100_000) await rpc.close();
      await rpc.closed;
    }
  }
  for (let length = 1; length < call.length; length++) {
    const rpc = await NaiveRpc.connect(under.sim.ports.nfs);
    rpc.write(Buffer.concat([u32((0x80000000 | length) >>> 0), call.subarray(0, length)]));
    await rpc.close();
  }
  assert.equal((await under.nfs.getattr(under.root)).status, OK);
  await until('forgotten', () => under.sim.stats().connections === 1);
});

test('a call in many fragments and many calls in one segment are understood', async (t) => {
  const under: CacheUnderTest = await simulatedCache(t);
  const rpc = await NaiveRpc.connect(under.sim.ports.nfs);
  t.after(() => rpc.close());
  const nfs = new NaiveNfs(rpc);
  const replies = await Promise.all(Array.from({ length: 500 }, () => nfs.getattr(under.root)));
  assert.ok(replies.every(({ status }) => status === OK));
  const call = Buffer.concat([u32(1, 0, 2, 100003, 3, 0), AUTH_NONE, AUTH_NONE]);
  for (let i = 0; i < call.length; i++) {
    rpc.write(Buffer.concat([u32(0), u32(i === call.length - 1 ? 0x80000001 : 1), call.subarray(i, i + 1)]));
  }
  assert.equal((await nfs.getattr(under.root)).status, OK);
  assert.equal(under.sim.stats().calls.NULL, 1);
});

test('a record that is begun and never ended closes its connection', async (t) => {
  const nobody = { uid: 65534, gid: 65534, gids: [] };
  const server = new RpcServer({
    program: { program: 100003, versions: new Map() },
    anonymous: nobody,
    mapCredential: () => nobody,
    recordTimeoutMs: 50,
  });
  t.after(() => server.close());
  const rpc = await NaiveRpc.connect(await server.listen('127.0.0.1', 0));
  rpc.write(u32(0x80000040, 1, 0));
  await rpc.closed;
});

test('a client that does not take its answers is not read any further, until it does', async (t) => {
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.writeFileSync(path.join(cacheDir, 'file'), Buffer.alloc(100_000));
  });
  const file = await handleOf(under, 'file');
  const args = Buffer.concat([opaque(file), u64(0n), u32(100_000)]);
  const message = Buffer.concat([u32(1, 0, 2, 100003, 3, 6), AUTH_NONE, AUTH_NONE, args]);
  const call = Buffer.concat([u32((0x80000000 | message.length) >>> 0), message]);
  const calls = 3000;
  const socket = net.connect(under.sim.ports.nfs, '127.0.0.1');
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  const reads = () => under.sim.stats().calls.READ ?? 0;
  for (let i = 0; i < calls; i++) socket.write(call);
  let before = -1;
  await until('no more calls are taken', async () => {
    const stuck = reads() > 0 && reads() === before;
    before = reads();
    await sleep(200);
    return stuck;
  });
  assert.ok(before < calls, `${before} calls were taken`);
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await until('every answer came', () => received >= calls * 100_000 && reads() === calls);
});

test('an IPv6 address is served, and rpcbind tells its universal address', async (t) => {
  let under: CacheUnderTest;
  try {
    under = await simulatedCache(t, { addresses: ['::1'] });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRNOTAVAIL') throw error;
    t.skip('this machine has no IPv6 loopback address');
    return;
  }
  const { portmap, nfs } = under.sim.ports;
  assert.equal((await under.nfs.getattr(under.root)).status, OK);
  const rpc = await NaiveRpc.connect(portmap, '::1');
  t.after(() => rpc.close());
  const args = Buffer.concat([u32(100003, 3), opaque('tcp6'), opaque(''), opaque('')]);
  assert.equal((await rpc.call(100000, 4, 3, args)).opaque().toString(), `::1.${nfs >> 8}.${nfs & 255}`);
});
