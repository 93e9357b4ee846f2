import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { decodeTree, encodeTree } from '../../src/scr/codec.js';
import { TransferFile } from '../../src/scr/transfer-file.js';
import { readTransferList } from '../../src/scr/transfer-list.js';
import { readValue, type Tree } from '../../src/scr/tree.js';
import { until } from '../support/until.js';
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

/** Changes the file as the library would, under its lock. */
async function change(path: string, alter: (tree: Tree) => void): Promise<void> {
  await new TransferFile(path, 10_000).update((tree) => {
    alter(tree);
    return { changed: true, result: null };
  });
}

for (const [word, state] of [
  ['STOP', 'STOPPED'],
  ['EXIT', 'EXITING'],
] as const) {
  test(`COMMAND ${word} of another program ends the job: what is complete stays, the rest is canceled`, async (t) => {
    const rig = await startRig(t);
    rig.startAgent({ concurrency: 1 });
    const small = await rig.make('small', 1000);
    const large = await rig.make('large', 20 * MIB);
    const path = await writeTransferFile(rig, [
      [small, `${rig.destination}/run/small`, 1000],
      [large, `${rig.destination}/run/large`, 20 * MIB],
    ]);
    const id = await submitScr(rig, path, 2 * MIB);
    await until('the large one moves', async () => (await rig.job(id)).progress.bytesDone > 100_000);
    await change(path, (tree) => tree.set('COMMAND', value(word)));
    const job = await rig.ended(id);
    assert.deepEqual([job.progress.filesSucceeded, job.progress.filesCanceled], [1, 1], JSON.stringify(job));
    const tree = await readTree(path);
    assert.equal(readValue(tree, 'STATE'), state);
    const written = readTransferList(tree).entries.get(large)?.written ?? 0;
    assert.ok(written > 0 && written < 20 * MIB);
  });
}

test('an agent that comes back to a transfer file which was stopped meanwhile does not start it again', async (t) => {
  const rig = await startRig(t);
  const agent = rig.startAgent();
  const large = await rig.make('large', 20 * MIB);
  const path = await writeTransferFile(rig, [[large, `${rig.destination}/run/large`, 20 * MIB]]);
  const id = await submitScr(rig, path, 2 * MIB);
  await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 0);
  await agent.close();
  assert.equal(readValue(await readTree(path), 'COMMAND'), 'RUN');
  await change(path, (tree) => tree.set('COMMAND', value('STOP')));
  rig.startAgent();
  const job = await rig.ended(id);
  assert.equal(job.progress.filesCanceled, 1);
  assert.equal(readValue(await readTree(path), 'COMMAND'), 'STOP');
});

test('entries that are added and removed while it runs become files of the job, and end with it', async (t) => {
  const rig = await startRig(t);
  rig.startAgent();
  const [first, added] = [await rig.make('first', 6 * MIB), await rig.make('added', 3000)];
  const path = await writeTransferFile(rig, [
    [first, `${rig.destination}/run/first`, 6 * MIB],
    [join(rig.source, 'dropped'), `${rig.destination}/run/dropped`, 5],
  ]);
  const id = await submitScr(rig, path, 2 * MIB);
  await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 0);
  await change(path, (tree) => {
    const files = tree.get('FILES');
    files?.delete(join(rig.source, 'dropped'));
    files?.set(
      added,
      new Map([
        ['DESTINATION', value(`${rig.destination}/run/added`)],
        ['SIZE', value('3000')],
      ]),
    );
  });
  const job = await rig.ended(id);
  assert.deepEqual(
    [job.progress.filesTotal, job.progress.filesSucceeded, job.progress.filesCanceled],
    [3, 2, 1],
    JSON.stringify(job),
  );
  assert.equal(await sha256(added), await sha256(`${rig.destination}/run/added`));
});

test('a job with more entries than a job may have says so, and is no success', async (t) => {
  const rig = await startRig(t);
  const few = rig.test.openWork({ filesPerJob: 2 });
  rig.startAgent({ store: few });
  const files: [string, string, number][] = [];
  for (const name of ['a', 'b', 'c']) {
    files.push([await rig.make(name, 10), `${rig.destination}/run/${name}`, 10]);
  }
  const id = await submitScr(rig, await writeTransferFile(rig, files));
  const job = await rig.ended(id);
  assert.equal(job.state, 'failed', JSON.stringify(job));
  assert.match(job.statusDetail ?? '', /as many files as one job may have/);
});

test('a transfer file that is not there, is none, or is a link to somewhere else fails and is left as it is', async (t) => {
  const rig = await startRig(t);
  rig.startAgent();
  const elsewhere = join(rig.folder, 'elsewhere.scr');
  await symlink(elsewhere, join(rig.source, 'link.scr'));
  await writeFile(join(rig.source, 'text.scr'), 'not a transfer file');
  const codes: (string | undefined)[] = [];
  for (const name of ['missing.scr', 'link.scr', 'text.scr']) {
    const id = await submitScr(rig, join(rig.source, name));
    assert.equal((await rig.ended(id)).state, 'failed');
    const { items } = await rig.test.store.listFiles(id, {}, null, 10);
    assert.match(items[0]?.lastError?.message ?? '', /^the transfer file .* cannot be used: /);
    codes.push(items[0]?.lastError?.code);
  }
  assert.deepEqual(codes, ['ENOENT', 'ELOOP', 'EIO']);
  await assert.rejects(readFile(elsewhere), { code: 'ENOENT' });
  await assert.rejects(readFile(join(rig.source, 'missing.scr')), { code: 'ENOENT' });
  assert.equal(await readFile(join(rig.source, 'text.scr'), 'utf8'), 'not a transfer file');
});
