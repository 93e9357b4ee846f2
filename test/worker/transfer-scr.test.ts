import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { decodeTree, encodeTree } from '../../src/scr/codec.js';
import { readTransferList } from '../../src/scr/transfer-list.js';
import { readValue, type Tree } from '../../src/scr/tree.js';
import { until } from '../store/fixture.js';
import { MIB, sha256, startTransferRig, type TransferRig } from './transfer-rig.js';

const value = (text: string): Tree => new Map([[text, null]]);

async function writeTransferFile(
  rig: TransferRig,
  files: readonly [source: string, destination: string, size: number][],
): Promise<string> {
  const entries: Tree = new Map(
    files.map(([source, destination, size]) => [
      source,
      new Map([
        ['DESTINATION', value(destination)],
        ['SIZE', value(String(size))],
        ['WRITTEN', value('0')],
      ]),
    ]),
  );
  const path = join(rig.source, 'transfer.scr');
  await writeFile(path, encodeTree(new Map([['FILES', entries]])));
  return path;
}

async function submitScr(rig: TransferRig, path: string, bytesPerSecond: number | null = null) {
  const limits = { bytesPerSecond, cpuPercent: null };
  const directories = [{ path, include: [], exclude: [] }];
  return rig.submit([], { scrTransferFile: path, limits }, { directories });
}

async function readTree(path: string): Promise<Tree> {
  return decodeTree(await readFile(path));
}

async function startRig(t: TestContext): Promise<TransferRig> {
  const rig = await startTransferRig(t);
  await mkdir(join(rig.destination, 'run'));
  return rig;
}

test('what an SCR transfer file lists is copied, and its progress is that of the job', async (t) => {
  const rig = await startRig(t);
  rig.startAgent();
  const a = await rig.make('a', 3 * MIB);
  const b = await rig.make('b', 0);
  const path = await writeTransferFile(rig, [
    [a, `${rig.destination}/run/a`, 3 * MIB],
    [b, `${rig.destination}/run/b`, 0],
  ]);
  const id = await submitScr(rig, path, 2 * MIB);
  await until('half of it is told', async () => {
    const { bytesDone } = (await rig.job(id)).progress;
    return bytesDone > 0 && bytesDone < 3 * MIB;
  });
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded', JSON.stringify(job));
  assert.deepEqual([job.progress.filesSucceeded, job.progress.bytesDone], [2, 3 * MIB]);
  assert.equal(job.progress.bytesTotal, 3 * MIB);
  assert.equal(await sha256(a), await sha256(`${rig.destination}/run/a`));
  const list = readTransferList(await readTree(path));
  assert.ok(list.done);
  assert.equal(readValue(await readTree(path), 'STATE'), 'STOPPED');
});

test('entries that cannot be copied fail, outside the roots too, and the others are copied', async (t) => {
  const rig = await startRig(t);
  rig.startAgent();
  const good = await rig.make('good', 1000);
  const path = await writeTransferFile(rig, [
    [good, `${rig.destination}/run/good`, 1000],
    [join(rig.source, 'missing'), `${rig.destination}/run/missing`, 10],
    ['/etc/hostname', `${rig.destination}/run/outside`, 1],
  ]);
  const id = await submitScr(rig, path);
  const job = await rig.ended(id);
  assert.equal(job.state, 'partial', JSON.stringify(job));
  const { items } = await rig.test.store.listFiles(id, {}, null, 10);
  const codes = Object.fromEntries(items.map((file) => [file.path, file.lastError?.code ?? file.outcome]));
  assert.deepEqual(codes, {
    [good]: 'copied',
    [join(rig.source, 'missing')]: 'ENOENT',
    '/etc/hostname': 'OUTSIDE_ROOTS',
  });
  await rig.make('missing', 10);
  const again = await rig.test.store.retry(id, LOCAL_PRINCIPAL);
  const second = await rig.ended(again.id);
  assert.deepEqual([second.state, second.progress.filesSucceeded], ['partial', 2]);
});

test('a canceled job stops the transfer file, and one that is not there fails', async (t) => {
  const rig = await startRig(t);
  rig.startAgent();
  const a = await rig.make('a', 20 * MIB);
  const path = await writeTransferFile(rig, [[a, `${rig.destination}/run/a`, 20 * MIB]]);
  const id = await submitScr(rig, path, 2 * MIB);
  await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 0);
  await rig.test.store.cancel(id);
  const job = await rig.ended(id);
  assert.equal(job.state, 'canceled');
  await until('it is told to the file', async () => {
    const tree = await readTree(path);
    return readValue(tree, 'COMMAND') === 'STOP' && readValue(tree, 'STATE') === 'STOPPED';
  });
  const other = await submitScr(rig, join(rig.folder, 'elsewhere.scr'));
  const failed = await rig.ended(other);
  assert.equal(failed.state, 'failed');
  const { items } = await rig.test.store.listFiles(other, {}, null, 10);
  assert.equal(items[0]?.lastError?.code, 'OUTSIDE_ROOTS');
});
