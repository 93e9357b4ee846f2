import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { pathBytes } from '../../src/model/pathname.js';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { until } from '../support/until.js';
import { MIB, newTransfer, startTransferRig, type TransferRig } from './transfer-rig.js';

/** Destinations with different paths that are one file in truth. */

/** A job of these sources (below source) and destinations (absolute). */
async function submit(
  { test: { store }, source }: TransferRig,
  files: readonly (readonly [string, string])[],
  options = {},
): Promise<string> {
  const intake = store.openIntake(LOCAL_PRINCIPAL);
  for (const [name, destination] of files) {
    await intake.add({
      path: pathBytes(join(source, name)),
      destination: pathBytes(destination),
      size: null,
    });
  }
  return (await intake.commit(newTransfer(options))).id;
}

async function filesOf({ test: { store } }: TransferRig, id: string) {
  return (await store.listFiles(id, {}, null, 1000)).items;
}

describe('two destinations that are one file', () => {
  test('through a link: one file is copied and stands there, the other says so; others in the directory are copied', async (t) => {
    const rig = await startTransferRig(t);
    await mkdir(join(rig.destination, 'real'));
    await symlink('real', join(rig.destination, 'link'));
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) await rig.make(name, 1000);
    const to = (path: string): string => join(rig.destination, path);
    rig.startAgent();
    const id = await submit(rig, [
      ['a', to('real/x')],
      ['b', to('link/x')],
      ['c', to('real/y')],
      ['d', to('link/z')],
      // Whose directories are made by the job.
      ['e', to('link/new/deep/x')],
      ['f', to('real/new/deep/x')],
    ]);
    assert.equal((await rig.ended(id)).state, 'partial');
    const files = await filesOf(rig, id);
    for (const pair of [
      [0, 1],
      [4, 5],
    ]) {
      const both = pair.map((index) => files[index]);
      const [copied] = both.filter((file) => file?.state === 'succeeded');
      const [other] = both.filter((file) => file?.state === 'failed');
      assert.ok(copied?.destination && other?.destination);
      assert.equal(other.lastError?.code, 'DESTINATION_TAKEN');
      assert.match(
        other.lastError.message,
        new RegExp(`${rig.destination}/real/.* is the destination of file ${copied.index} of the job`),
      );
      assert.equal(other.attempts, 1);
      assert.deepEqual(await readFile(other.destination), await readFile(copied.path));
    }
    assert.deepEqual(
      [2, 3].map((index) => files[index]?.state),
      ['succeeded', 'succeeded'],
    );
    assert.deepEqual(await rig.destinationFiles(), ['link', 'real/new/deep/x', 'real/x', 'real/y', 'real/z']);
    // Alone they would replace what they have collided with.
    await assert.rejects(rig.test.store.retry(id, LOCAL_PRINCIPAL), { code: 'NOTHING_TO_RETRY' });
  });

  test('through a root that leads into another: what looks the same as the first is not told as identical', async (t) => {
    const rig = await startTransferRig(t);
    const other = join(rig.folder, 'other');
    await symlink(rig.destination, other);
    const time = new Date('2026-01-31T12:00:00Z');
    for (const name of ['a', 'b']) await utimes(await rig.make(name, 5000), time, time);
    rig.startAgent({ destinationRoots: [rig.destination, other], concurrency: 1 });
    const id = await submit(rig, [
      ['a', join(rig.destination, 'x')],
      ['b', join(other, 'x')],
    ]);
    await rig.ended(id);
    const files = await filesOf(rig, id);
    assert.deepEqual(
      files.map(({ state, lastError }) => [state, lastError?.code]),
      [
        ['succeeded', undefined],
        ['failed', 'DESTINATION_TAKEN'],
      ],
    );
  });

  test('also when directories bring the files', async (t) => {
    const rig = await startTransferRig(t);
    await mkdir(join(rig.destination, 'real'));
    await symlink('real', join(rig.destination, 'link'));
    for (const name of ['one/x', 'one/y', 'two/x', 'two/z']) await rig.make(name, 1000);
    const directory = (from: string, to: string) => ({
      path: join(rig.source, from),
      destination: join(rig.destination, to),
      include: [],
      exclude: [],
    });
    rig.startAgent();
    const directories = [directory('one', 'real'), directory('two', 'link')];
    const { id } = await rig.test.store.openIntake(LOCAL_PRINCIPAL).commit(newTransfer({}, { directories }));
    assert.equal((await rig.ended(id)).progress.filesSucceeded, 3);
    const [failed] = (await filesOf(rig, id)).filter(({ state }) => state === 'failed');
    assert.equal(failed?.lastError?.code, 'DESTINATION_TAKEN');
    assert.match(failed.path, /\/x$/);
    assert.deepEqual(await rig.destinationFiles(), ['link', 'real/x', 'real/y', 'real/z']);
  });

  test('keeps the place of a file over a restart of the agent', async (t) => {
    const rig = await startTransferRig(t);
    await mkdir(join(rig.destination, 'real'));
    await symlink('real', join(rig.destination, 'link'));
    await rig.make('a', 1000);
    await rig.make('large', 24 * MIB);
    await writeFile(join(rig.source, 'b'), 'another');
    const first = rig.startAgent({ concurrency: 1 });
    const id = await submit(
      rig,
      [
        ['a', join(rig.destination, 'real/x')],
        ['large', join(rig.destination, 'large')],
        ['b', join(rig.destination, 'link/x')],
      ],
      { limits: { bytesPerSecond: MIB, cpuPercent: null } },
    );
    await until('the first is copied', async () => (await rig.job(id)).progress.filesSucceeded === 1);
    await first.close();
    assert.equal((await filesOf(rig, id))[2]?.state, 'pending');
    await rig.test.store.setLimits(id, { bytesPerSecond: null });
    rig.startAgent();
    await rig.ended(id);
    const files = await filesOf(rig, id);
    assert.deepEqual(
      files.map(({ state, lastError }) => [state, lastError?.code]),
      [
        ['succeeded', undefined],
        ['succeeded', undefined],
        ['failed', 'DESTINATION_TAKEN'],
      ],
    );
    assert.deepEqual(await readFile(join(rig.destination, 'real/x')), await readFile(join(rig.source, 'a')));
  });
});
