import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { chmod, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { until } from '../support/until.js';
import { MIB, sha256, startTransferRig, type TransferRig } from './transfer-rig.js';

/** Runs `work` with a file system of its own below the destination; only root can have one. */
async function mounted(
  t: TestContext,
  options: string,
  work: (rig: TransferRig, mount: string) => Promise<void>,
): Promise<void> {
  const rig = await startTransferRig(t);
  const mount = join(rig.destination, 'mount');
  await mkdir(mount);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'none', mount]).status !== 0) {
    return t.skip('only root can mount a file system');
  }
  try {
    await work(rig, mount);
  } finally {
    // Before the rig removes its folder.
    spawnSync('umount', ['-l', mount]);
  }
}

async function lastErrors(rig: TransferRig, id: string): Promise<(string | null)[]> {
  const { items } = await rig.test.store.listFiles(id, {}, null, 100);
  return items.map(({ lastError }) => lastError?.code ?? null);
}

test('a destination that is full fails the files it has no room for, keeps none of their parts, and a retry copies them', (t) =>
  mounted(t, 'size=3m', async (rig, mount) => {
    rig.startAgent({ concurrency: 1 });
    await rig.make('mount/large', 4 * MIB);
    await rig.make('mount/small', 1000);
    await rig.make('elsewhere', 2 * MIB);
    const id = await rig.submit(['mount/large', 'mount/small', 'elsewhere']);
    const job = await rig.ended(id);
    assert.equal(job.state, 'partial');
    assert.deepEqual(await lastErrors(rig, id), ['ENOSPC', null, null]);
    assert.equal(job.progress.bytesDone, 2 * MIB + 1000);
    assert.match(job.statusDetail ?? '', /no space left on device/);
    assert.deepEqual(await rig.destinationFiles(), ['elsewhere', 'mount/small']);
    assert.equal(spawnSync('mount', ['-o', 'remount,size=8m', mount]).status, 0);
    const again = await rig.test.store.retry(id, null);
    assert.equal((await rig.ended(again.id)).state, 'succeeded');
    assert.equal(await sha256(join(rig.source, 'mount/large')), await sha256(join(mount, 'large')));
  }));

test('a read-only destination fails with EROFS, and the job can be retried when it is writable', (t) =>
  mounted(t, 'ro', async (rig, mount) => {
    rig.startAgent();
    await rig.make('mount/file', 1000);
    await rig.make('mount/deep/file', 1000);
    const id = await rig.submit(['mount/file', 'mount/deep/file']);
    assert.equal((await rig.ended(id)).state, 'failed');
    assert.deepEqual(await lastErrors(rig, id), ['EROFS', 'EROFS']);
    assert.equal(await rig.test.redis.client().exists(rig.test.keys.parts('node-n1')), 0);
    assert.equal(spawnSync('mount', ['-o', 'remount,rw', mount]).status, 0);
    const again = await rig.test.store.retry(id, null);
    assert.equal((await rig.ended(again.id)).state, 'succeeded');
  }));

test('a temporary file that cannot be removed is removed later, by whichever agent is there then', async (t) => {
  const rig = await startTransferRig(t);
  const agent = rig.startAgent();
  await rig.make('file', 20 * MIB);
  const id = await rig.submit(['file'], { limits: { bytesPerSecond: 2 * MIB, cpuPercent: null } });
  await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 0);
  const unlink = t.mock.method(fs, 'unlink', async () => {
    throw Object.assign(new Error('EIO'), { code: 'EIO', errno: -5 });
  });
  await rm(join(rig.source, 'file'));
  await rig.test.store.setLimits(id, { bytesPerSecond: null });
  assert.equal((await rig.ended(id)).state, 'failed');
  await agent.close();
  unlink.mock.restore();
  assert.equal((await rig.destinationFiles()).length, 1);
  rig.startAgent();
  await until('it is removed', async () => (await rig.destinationFiles()).length === 0);
});

test('a directory that may not be written to fails its files, and the others are copied', {
  skip: process.getuid?.() === 0 && 'permissions mean nothing to root',
}, async (t) => {
  const rig = await startTransferRig(t);
  rig.startAgent();
  await mkdir(join(rig.destination, 'closed'));
  await chmod(join(rig.destination, 'closed'), 0o555);
  await rig.make('closed/file', 10);
  await rig.make('open', 10);
  const id = await rig.submit(['closed/file', 'open']);
  assert.equal((await rig.ended(id)).state, 'partial');
  assert.deepEqual(await lastErrors(rig, id), ['EACCES', null]);
});

test('a source that is removed while it is copied fails, and nothing of it stays', async (t) => {
  const rig = await startTransferRig(t);
  rig.startAgent();
  const path = await rig.make('removed', 6 * MIB);
  const id = await rig.submit(['removed'], { limits: { bytesPerSecond: 2 * MIB, cpuPercent: null } });
  await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 0);
  await rm(path);
  await rig.test.store.setLimits(id, { bytesPerSecond: null });
  const job = await rig.ended(id);
  assert.deepEqual([job.state, job.progress.bytesDone], ['failed', 0]);
  assert.deepEqual(await lastErrors(rig, id), ['SOURCE_CHANGED']);
  assert.match(job.statusDetail ?? '', /was removed while it was copied/);
  assert.deepEqual(await rig.destinationFiles(), []);
});
