import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdir, readFile, rename, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CorruptTransferFile, encodeTree } from '../../src/scr/codec.js';
import { LockTimeout } from '../../src/scr/flock.js';
import { TransferFile } from '../../src/scr/transfer-file.js';
import { readValue, setValue, type Tree } from '../../src/scr/tree.js';
import {
  fixtures,
  noPeer,
  peer,
  readTree,
  removeFolder,
  startPeer,
  temporaryFolder,
  treeOf,
  valueAt,
} from '../support/scr.js';

let folder: string;
let files = 0;
before(async () => {
  folder = await temporaryFolder();
});
after(() => removeFolder(folder));

const newPath = (): string => join(folder, `transfer-${files++}.scr`);
const read = (path: string): Promise<Tree> =>
  new TransferFile(path, 5000).update((tree) => ({ changed: false, result: structuredClone(tree) }));

function addOne(file: TransferFile): Promise<void> {
  return file.update((tree) => {
    setValue(tree, 'SUM', String(Number(readValue(tree, 'SUM') ?? 0) + 1));
    return { changed: true, result: undefined };
  });
}

test('an absent and an empty file are an empty tree, and become one on disk', async () => {
  const absent = newPath();
  const empty = newPath();
  await writeFile(empty, '');
  for (const path of [absent, empty]) {
    assert.equal((await read(path)).size, 0);
    assert.deepEqual(await readFile(path), await readFile(join(fixtures, 'empty.scr')));
  }
});

test('what is not understood is kept, in its order', async () => {
  const path = newPath();
  const before = treeOf({ 'OURS?': { no: { 'deep \udcff': {} } }, STATE: { STOPPED: {} }, Z: {} });
  await writeFile(path, encodeTree(before));
  await new TransferFile(path, 5000).update((tree) => ({
    changed: setValue(tree, 'STATE', 'RUNNING'),
    result: null,
  }));
  before.set('STATE', new Map([['RUNNING', null]]));
  assert.deepEqual([...(await read(path))], [...before]);
});

test('nothing is written when nothing changed', async () => {
  const path = newPath();
  await writeFile(path, encodeTree(new Map([['A', null]])));
  const { mtimeNs } = await stat(path, { bigint: true });
  await read(path);
  assert.equal((await stat(path, { bigint: true })).mtimeNs, mtimeNs);
});

test('a corrupt file is refused and left as it is', async () => {
  const path = newPath();
  const bytes = await readFile(join(fixtures, 'done.scr'));
  bytes[100] = 1;
  await writeFile(path, bytes);
  let called = false;
  await assert.rejects(
    new TransferFile(path, 5000).update(() => {
      called = true;
      return { changed: true, result: null };
    }),
    CorruptTransferFile,
  );
  assert.equal(called, false);
  assert.deepEqual(await readFile(path), bytes);
});

test('the end of a longer tree, left by a program that was killed while it wrote a shorter one, is cut off', async () => {
  const path = newPath();
  await writeFile(path, await readFile(join(fixtures, 'stopped.scr')));
  await appendFile(path, 'the end of a longer one');
  await addOne(new TransferFile(path, 5000));
  assert.deepEqual(Object.keys(await readTree(path)), ['STATE', 'SUM']);
  const size = (await stat(path)).size;
  await truncate(path, size - 1);
  await assert.rejects(read(path), CorruptTransferFile);
});

test('a tree that is known from before is read again after another program changed the file', async () => {
  const path = newPath();
  const one = new TransferFile(path, 5000);
  const other = new TransferFile(path, 5000);
  for (let i = 0; i < 20; i++) {
    await addOne(one);
    await addOne(other);
  }
  assert.equal(valueAt(await readTree(path), 'SUM'), '40');
});

test('two processes that change the file at the same time lose nothing', { skip: noPeer }, async () => {
  const path = newPath();
  const file = new TransferFile(path, 20_000);
  const others = [1, 2].map(() => peer(path, 'count', 'THEIRS', '300'));
  let ours = 0;
  let running = true;
  const theirs = Promise.all(others).finally(() => {
    running = false;
  });
  while (running || ours < 300) {
    await addOne(file);
    ours++;
  }
  await theirs;
  const tree = await readTree(path);
  assert.equal(valueAt(tree, 'THEIRS'), '600');
  assert.equal(valueAt(tree, 'SUM'), String(ours));
});

test('a lock that another program keeps is given up at the deadline, without holding anything else up', {
  skip: noPeer,
}, async () => {
  const path = newPath();
  const holder = startPeer(path, 'hold');
  try {
    await once(holder.stdout as NodeJS.ReadableStream, 'data');
    let turns = 0;
    const timer = setInterval(() => turns++, 5);
    await assert.rejects(
      new TransferFile(path, 400).update(() => ({ changed: false, result: null })),
      LockTimeout,
    );
    clearInterval(timer);
    assert.ok(turns > 10, `the event loop turned ${turns} times`);
    const waiting = read(path);
    holder.stdin?.end();
    assert.equal((await waiting).size, 0);
  } finally {
    holder.kill('SIGKILL');
  }
});

test('a file that is replaced while its lock is awaited is opened anew', { skip: noPeer }, async () => {
  const path = newPath();
  const holder = startPeer(path, 'hold');
  try {
    await once(holder.stdout as NodeJS.ReadableStream, 'data');
    const waiting = addOne(new TransferFile(path, 10_000));
    await writeFile(`${path}.new`, encodeTree(new Map([['SUM', new Map([['41', null]])]])));
    await rename(`${path}.new`, path);
    holder.stdin?.end();
    await waiting;
    assert.equal(valueAt(await readTree(path), 'SUM'), '42');
  } finally {
    holder.kill('SIGKILL');
  }
});

test('a directory that is not there, and a thing that is no file, are errors', async () => {
  await assert.rejects(read(join(folder, 'nowhere', 'transfer.scr')), { code: 'ENOENT' });
  await assert.rejects(read(folder), { code: 'EISDIR' });
  const fifo = join(folder, 'fifo');
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0);
  await assert.rejects(read(fifo), /not a regular file/);
});

test('a full disk costs none of what was in the file', async (t) => {
  const mount = join(folder, 'small');
  await mkdir(mount);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'none', mount]);
  if (mounted.status !== 0) return t.skip('only root can mount a small file system');
  try {
    const path = join(mount, 'transfer.scr');
    const file = new TransferFile(path, 5000);
    await addOne(file);
    const before = await readFile(path);
    await assert.rejects(
      file.update((tree) => {
        for (let i = 0; i < 2000; i++) tree.set(`a long list of names ${i}`, null);
        return { changed: true, result: null };
      }),
      { code: 'ENOSPC' },
    );
    assert.deepEqual(await readFile(path), before);
    await addOne(file);
    assert.equal(valueAt(await readTree(path), 'SUM'), '2');
  } finally {
    spawnSync('umount', ['-l', mount]);
  }
});

test('a long list that kill -9 tore in the middle of its rewrite is taken from what was to be written', async () => {
  const path = newPath();
  const list = (value: string): Tree => {
    const tree: Tree = treeOf({ FIRST: { [value]: {} } });
    for (let i = 0; i < 1000; i++) tree.set(`${value} ${i}`, null);
    return tree;
  };
  const [older, newer] = [encodeTree(list('old')), encodeTree(list('new'))];
  const torn = Buffer.concat([newer.subarray(0, 8192), older.subarray(8192)]);
  await writeFile(path, torn);
  await assert.rejects(read(path), CorruptTransferFile);
  await writeFile(`${path}.rewrite`, newer.subarray(0, -1));
  await assert.rejects(read(path), CorruptTransferFile);
  await writeFile(`${path}.rewrite`, encodeTree(list('other')));
  await assert.rejects(read(path), CorruptTransferFile);
  await writeFile(`${path}.rewrite`, newer);
  await addOne(new TransferFile(path, 5000));
  assert.equal(valueAt(await readTree(path), 'FIRST'), 'new');
  assert.equal(valueAt(await readTree(path), 'SUM'), '1');
  await assert.rejects(stat(`${path}.rewrite`), { code: 'ENOENT' });
});
