import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { test } from 'node:test';
import { type FaultRule, FaultTable, parseFaultRule } from '../../src/sim/faults.js';
import { ConnectionClosed, mnt, NaiveNfs, NaiveRpc, u32 } from '../support/naive-nfs-client.js';
import { type CacheUnderTest, handleOf, simulatedCache } from '../support/simulated-cache.js';
import { until } from '../support/until.js';

const OK = 0;
const NOT_SYNC = 10002;

async function cacheWithFaults(t: TestContext, faults: FaultRule[]): Promise<CacheUnderTest> {
  return simulatedCache(t, { faults }, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'full'));
    for (const name of ['a', 'b', 'full/c']) fs.writeFileSync(path.join(cacheDir, name), name);
  });
}

test('jukebox: as often as asked for each path, then the truth', async (t) => {
  const under = await cacheWithFaults(t, [{ kind: 'jukebox', times: 2 }]);
  const [a, b] = [await handleOf(under, 'a'), await handleOf(under, 'b')];
  assert.deepEqual([await under.nfs.start(a), await under.nfs.start(a)], [10008, 10008]);
  assert.equal(await under.nfs.start(a), NOT_SYNC);
  assert.equal(await under.nfs.start(b), 10008);
});

test('jukebox for ever on one path; other paths are not concerned', async (t) => {
  const under = await cacheWithFaults(t, [{ kind: 'jukebox', path: '/full/**' }]);
  const c = await handleOf(under, 'full/c');
  for (let i = 0; i < 20; i++) assert.equal(await under.nfs.start(c), 10008);
  assert.equal(await under.nfs.sync(await handleOf(under, 'a')), OK);
});

test('stale and error: the status asked for, by path and procedure', async (t) => {
  const under = await cacheWithFaults(t, [
    { kind: 'stale', times: 1, procedures: ['COMMIT:start'], path: '/a' },
    { kind: 'error', status: 28, path: '/full/*' },
    { kind: 'error', status: 13, path: '/b', procedures: ['LOOKUP'] },
  ]);
  const a = await handleOf(under, 'a');
  assert.equal(await under.nfs.status(a), 66, 'another intent');
  assert.equal(await under.nfs.start(a), 70);
  assert.equal(await under.nfs.start(a), NOT_SYNC);
  assert.equal(await under.nfs.sync(await handleOf(under, 'full/c')), 28);
  assert.equal((await under.nfs.lookup(under.root, 'b')).status, 13);
});

test('still-dirty: flushes end without effect as often as asked for, and the status is 66 in truth', async (t) => {
  const under = await cacheWithFaults(t, [{ kind: 'still-dirty', times: 2, path: '/a' }]);
  const a = await handleOf(under, 'a');
  for (let i = 0; i < 2; i++) {
    assert.equal(await under.nfs.start(a), NOT_SYNC);
    await until('ended', async () => (await under.nfs.status(a)) !== NOT_SYNC);
    assert.equal(await under.nfs.status(a), 66);
    assert.deepEqual(fs.readdirSync(under.filerDir), []);
  }
  assert.equal(await under.nfs.sync(a), OK);
  const { started, finished, failed } = under.sim.stats().flushes;
  assert.deepEqual({ started, finished, failed }, { started: 3, finished: 1, failed: 2 });
});

test('drop: the connection is closed instead of an answer, and the flush is not started', async (t) => {
  const under = await cacheWithFaults(t, [{ kind: 'drop', times: 1 }]);
  const a = await handleOf(under, 'a');
  await assert.rejects(under.nfs.start(a), ConnectionClosed);
  assert.equal(under.sim.stats().flushes.started, 0);
  const again = new NaiveNfs(await NaiveRpc.connect(under.sim.ports.nfs));
  t.after(() => again.rpc.close());
  assert.equal(await again.sync(a), OK);
});

test('silent: one call is never answered, later ones on the same connection are', async (t) => {
  const under = await cacheWithFaults(t, [{ kind: 'silent', path: '/a' }]);
  const [a, b] = [await handleOf(under, 'a'), await handleOf(under, 'b')];
  let answered = false;
  const never = under.nfs.start(a).then(
    () => {
      answered = true;
    },
    () => {},
  );
  assert.equal(await under.nfs.sync(b), OK);
  assert.equal(answered, false);
  await under.nfs.rpc.close();
  await never;
  assert.equal(answered, false);
});

test('slow: the answer comes late, and those of other calls overtake it', async (t) => {
  const under = await cacheWithFaults(t, [{ kind: 'slow', delayMs: 300, path: '/a' }]);
  const [a, b] = [await handleOf(under, 'a'), await handleOf(under, 'b')];
  const order: string[] = [];
  const begun = performance.now();
  await Promise.all([
    under.nfs.start(a).then(() => order.push('a')),
    under.nfs.start(b).then(() => order.push('b')),
  ]);
  assert.deepEqual(order, ['b', 'a']);
  assert.ok(performance.now() - begun >= 295);
});

test('faults of MNT and GETPORT: an error status, a dropped connection', async (t) => {
  const under = await cacheWithFaults(t, []);
  under.sim.setFaults([
    { kind: 'error', status: 13, procedures: ['MNT'] },
    { kind: 'drop', procedures: ['GETPORT'] },
  ]);
  assert.equal((await mnt(under.sim.ports.mount, '/cache')).status, 13);
  const rpc = await NaiveRpc.connect(under.sim.ports.portmap);
  await assert.rejects(rpc.call(100000, 2, 3, u32(100003, 3, 6, 0)), ConnectionClosed);
});

test('faults can be changed while it runs', async (t) => {
  const under = await cacheWithFaults(t, []);
  const a = await handleOf(under, 'a');
  under.sim.setFaults([{ kind: 'jukebox' }]);
  assert.equal(await under.nfs.start(a), 10008);
  under.sim.setFaults([]);
  assert.equal(await under.nfs.start(a), NOT_SYNC);
  assert.throws(() => under.sim.setFaults([{ kind: 'slow' }]), RangeError);
});

test('a probability with a seed gives the same faults again, about as often as it says', () => {
  const draw = (seed: number) => {
    const table = new FaultTable([{ kind: 'jukebox', probability: 0.25 }], seed);
    return Array.from({ length: 2000 }, () => table.fateOf(['COMMIT'], Buffer.from('a')) !== null);
  };
  assert.deepEqual(draw(7), draw(7));
  assert.notDeepEqual(draw(7), draw(8));
  const hits = draw(7).filter(Boolean).length;
  assert.ok(hits > 400 && hits < 600, `${hits} of 2000`);
});

test('rules as text: every key, a glob with commas, and words for what is wrong', () => {
  assert.deepEqual(parseFaultRule('error,times=3,status=NFS3ERR_NOSPC,probability=0.5,path=/a/{b,c}/**'), {
    kind: 'error',
    times: 3,
    status: 28,
    probability: 0.5,
    path: '/a/{b,c}/**',
  });
  assert.deepEqual(parseFaultRule('slow,ms=5,procedure=LOOKUP+COMMIT:status'), {
    kind: 'slow',
    delayMs: 5,
    procedures: ['LOOKUP', 'COMMIT:status'],
  });
  for (const [text, words] of [
    ['explode', /"explode" is no fault; there are jukebox, /],
    ['error', /needs the status/],
    ['error,status=NOSUCH', /"NOSUCH" is no nfsstat3/],
    ['slow', /needs a delay/],
    ['jukebox,times=0', /whole number from 1/],
    ['jukebox,times=', /whole number from 1/],
    ['jukebox,probability=2', /between 0 and 1/],
    ['jukebox,often=1', /"often=1" is not understood/],
    ['drop,procedure=COMIT', /"COMIT" is no procedure/],
  ] as const) {
    assert.throws(() => parseFaultRule(text), words, text);
  }
});
