import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  appendFile,
  chmod,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  changeTree,
  type FileEntry,
  filesTree,
  fixtures,
  hasState,
  isDone,
  type Nested,
  noPeer,
  peer,
  readTree,
  removeFolder,
  sameContent,
  TestDaemon,
  temporaryFolder,
  treeOf,
  valueAt,
  waitForTree,
} from '../support/scr.js';
import { until } from '../support/until.js';

const MIB = 1024 * 1024;
const noMount = process.getuid?.() !== 0 && 'only root can mount a file system';

let folder: string;
let file: string;
let daemons: TestDaemon[];

beforeEach(async () => {
  folder = await temporaryFolder();
  file = join(folder, 'transfer.scr');
  daemons = [];
});

afterEach(async () => {
  await Promise.all(daemons.map((daemon) => daemon.signal('SIGKILL')));
  await removeFolder(folder);
});

function startDaemon(args: string[] = ['--poll', '0.2'], env: Record<string, string> = {}): TestDaemon {
  const daemon = new TestDaemon([file, ...args], env);
  daemons.push(daemon);
  return daemon;
}

/** Makes a source of random bytes; its destination lies in a directory that is not there yet. */
async function source(name: string, size: number): Promise<FileEntry> {
  const entry = {
    source: join(folder, `cache-${name}`),
    destination: join(folder, 'pfs', 'set', name),
    size,
  };
  await writeFile(entry.source, randomBytes(size));
  return entry;
}

/** As the library begins a flush: FILES and limits, COMMAND RUN, no FLAG. */
async function run(entries: FileEntry[], limits: { bw?: number; percent?: number } = {}): Promise<void> {
  await changeTree(file, (tree) => {
    for (const [key, below] of treeOf({ ...filesTree(entries, limits), COMMAND: { RUN: {} } }))
      tree.set(key, below);
    tree.delete('FLAG');
  });
}

async function command(name: string): Promise<void> {
  await changeTree(file, (tree) => void tree.set('COMMAND', treeOf({ [name]: {} })));
}

async function assertCopied(...entries: FileEntry[]): Promise<void> {
  for (const { source, destination } of entries) {
    assert.ok(await sameContent(source, destination), `${destination} differs from ${source}`);
  }
}

const written = (tree: Nested, entry: FileEntry): number =>
  Number(valueAt(tree, 'FILES', entry.source, 'WRITTEN'));
const errorOf = (tree: Nested, entry: FileEntry): string | undefined =>
  valueAt(tree, 'FILES', entry.source, 'ERROR');

describe('the protocol, seen by an independent program', { skip: noPeer }, () => {
  test('a flush, another after STOP, and EXIT go through the states that the library waits for', async () => {
    const daemon = startDaemon();
    assert.deepEqual(await waitForTree(file, hasState('STOPPED'), 'the first STATE'), {
      STATE: { STOPPED: {} },
    });
    const first = [
      await source('rank_0.ckpt', 3 * MIB + 5),
      await source('ünï code', 124),
      await source('zero', 0),
    ];
    await peer(file, 'run', JSON.stringify(filesTree(first, { bw: 8 * MIB })));
    await waitForTree(file, (tree) => hasState('RUNNING')(tree) && !isDone(tree), 'RUNNING');
    await waitForTree(file, isDone, 'DONE');
    const done = JSON.parse(await peer(file, 'json')) as Nested;
    assert.deepEqual(done, {
      ...filesTree(
        first.map((entry) => ({ ...entry, written: entry.size })),
        { bw: 8 * MIB },
      ),
      COMMAND: { RUN: {} },
      STATE: { STOPPED: {} },
      FLAG: { DONE: {} },
    });
    await assertCopied(...first);

    await peer(file, 'set', 'COMMAND', 'STOP');
    const second = [await source('rank_1.ckpt', MIB)];
    await peer(file, 'run', JSON.stringify(filesTree(second)));
    await waitForTree(file, isDone, 'the second DONE');
    await assertCopied(...second);

    await peer(file, 'set', 'COMMAND', 'EXIT');
    assert.equal(await daemon.ended(), 0, daemon.log);
    const last = JSON.parse(await peer(file, 'json')) as Nested;
    assert.equal(valueAt(last, 'STATE'), 'EXITING');
  });

  test('STOP in the middle ends with STOPPED and closed files; RUN goes on from WRITTEN', async () => {
    const daemon = startDaemon();
    const entry = await source('big', 40 * MIB);
    await peer(file, 'run', JSON.stringify(filesTree([entry], { bw: 4 * MIB })));
    await waitForTree(file, (tree) => written(tree, entry) > MIB, 'the first MiB');
    await peer(file, 'set', 'COMMAND', 'STOP');
    const stopped = await waitForTree(file, hasState('STOPPED'), 'STOPPED');
    const position = written(stopped, entry);
    assert.ok(position > MIB && position < entry.size && !isDone(stopped));
    // Nothing moves any more: neither the record nor the copy.
    assert.equal((await stat(entry.destination)).size, position);
    await assertNoOpenFile(daemon, entry.destination);

    // What was copied before is not copied again: a mark in it stays.
    const mark = Buffer.from('as it was before');
    const copy = await readFile(entry.destination);
    mark.copy(copy, 1000);
    await writeFile(entry.destination, copy);
    await peer(file, 'set', 'BW', '0.000000');
    await peer(file, 'set', 'COMMAND', 'RUN');
    await waitForTree(file, isDone, 'DONE');
    const whole = await readFile(entry.destination);
    assert.deepEqual(whole.subarray(1000, 1000 + mark.length), mark);
    assert.deepEqual(whole.subarray(position), (await readFile(entry.source)).subarray(position));
    assert.deepEqual(Object.keys((await readTree(file)).FILES?.[entry.source] ?? {}).sort(), [
      'DESTINATION',
      'SIZE',
      'WRITTEN',
    ]);
  });

  test('a STATE that another program removed is written again', async () => {
    startDaemon();
    await waitForTree(file, hasState('STOPPED'), 'the first STATE');
    await peer(file, 'set', 'STATE');
    await waitForTree(file, hasState('STOPPED'), 'STATE again');
    await rm(file);
    await waitForTree(file, hasState('STOPPED'), 'STATE in a new file');
  });
});

async function assertNoOpenFile(daemon: TestDaemon, path: string): Promise<void> {
  const descriptors = `/proc/${daemon.process.pid}/fd`;
  for (const name of await readdir(descriptors).catch(() => [])) {
    assert.notEqual(await readlink(join(descriptors, name)).catch(() => ''), path);
  }
}

describe('what the daemon does', () => {
  test('DONE stays, and nothing is copied, until a new RUN asks for it', async () => {
    const entry = await source('late', 1000);
    await changeTree(file, (tree) => {
      for (const [key, below] of treeOf({
        ...filesTree([entry]),
        COMMAND: { RUN: {} },
        FLAG: { DONE: {} },
        'NOT OURS': { at: { all: {} } },
      })) {
        tree.set(key, below);
      }
    });
    startDaemon();
    await waitForTree(file, hasState('STOPPED'), 'STOPPED');
    await delay(500);
    assert.ok(isDone(await readTree(file)));
    await assert.rejects(stat(entry.destination), { code: 'ENOENT' });
    // STATE would say STOPPED before and after: that it is written again shows that STOP was seen.
    await changeTree(file, (tree) => {
      tree.set('COMMAND', treeOf({ STOP: {} }));
      tree.delete('STATE');
    });
    await waitForTree(file, hasState('STOPPED'), 'STOPPED');
    await command('RUN');
    const tree = await waitForTree(
      file,
      (now) => isDone(now) && written(now, entry) === entry.size,
      'DONE after a new RUN',
    );
    await assertCopied(entry);
    assert.deepEqual(tree['NOT OURS'], { at: { all: {} } });
  });

  test('limits and files that change while it runs take effect', async () => {
    startDaemon(['--poll', '5']);
    const slow = await source('slow', 20 * MIB);
    await run([slow], { bw: 100_000 });
    await waitForTree(file, (tree) => written(tree, slow) > 0, 'a slow beginning');
    const added = await source('added', 5000);
    const dropped = { source: join(folder, 'never there'), destination: join(folder, 'pfs/never'), size: 5 };
    await changeTree(file, (tree) => {
      const files = tree.get('FILES');
      for (const [name, below] of treeOf(filesTree([added, dropped]).FILES ?? {})) files?.set(name, below);
    });
    await waitForTree(file, (tree) => written(tree, added) === added.size, 'the added file');
    await waitForTree(file, (tree) => errorOf(tree, dropped) !== undefined, 'the error of the missing one');
    await changeTree(file, (tree) => {
      tree.get('FILES')?.delete(dropped.source);
      tree.set('BW', treeOf({ '0.000000': {} }));
    });
    await waitForTree(file, isDone, 'DONE without limit');
    await assertCopied(slow, added);
  });

  test('many small files are all there at DONE', async () => {
    startDaemon();
    const entries: FileEntry[] = [];
    for (let i = 0; i < 300; i++) entries.push(await source(`small-${i}`, i % 7 === 0 ? 0 : i * 3));
    await run(entries);
    const tree = await waitForTree(file, isDone, 'DONE');
    await assertCopied(...entries);
    for (const entry of entries) assert.equal(written(tree, entry), entry.size);
  });

  test('what stands at a destination, longer or not, is replaced', async () => {
    const entry = await source('again', 5000);
    const empty = await source('empty', 0);
    await mkdir(join(folder, 'pfs/set'), { recursive: true });
    await writeFile(entry.destination, randomBytes(9000));
    await writeFile(empty.destination, 'not empty');
    startDaemon();
    await run([entry, empty]);
    await waitForTree(file, isDone, 'DONE');
    await assertCopied(entry, empty);
  });

  test('WRITTEN is not believed when the copy is not there, or is of another source', async () => {
    const lost = { ...(await source('lost', 50_000)), written: 30_000 };
    const gone = { ...(await source('gone', 40_000)), written: 40_000 };
    const changed = { ...(await source('changed', 60_000)), written: 30_000 };
    const kept = { ...(await source('kept', 70_000)), written: 70_000 };
    await mkdir(join(folder, 'pfs/set'), { recursive: true });
    await writeFile(lost.destination, (await readFile(lost.source)).subarray(0, 10_000));
    await writeFile(changed.destination, randomBytes(30_000));
    await writeFile(kept.destination, await readFile(kept.source));
    // A copy that is complete needs no source any more.
    const keptSource = await readFile(kept.source);
    await rm(kept.source);
    await run([lost, gone, changed, kept]);
    await changeTree(file, (tree) => {
      tree
        .get('FILES')
        ?.get(changed.source)
        ?.set('SOURCE_VERSION', treeOf({ '1:60000:1': {} }));
    });
    startDaemon();
    await waitForTree(file, isDone, 'DONE');
    await assertCopied(lost, gone, changed);
    assert.deepEqual(await readFile(kept.destination), keptSource);
  });

  test('WRITTEN that another program sets back is copied again from there', async () => {
    startDaemon();
    const entry = await source('back', 40 * MIB);
    await run([entry], { bw: 4 * MIB });
    await waitForTree(file, (tree) => written(tree, entry) > MIB, 'the first MiB');
    await changeTree(file, (tree) => {
      tree
        .get('FILES')
        ?.get(entry.source)
        ?.set('WRITTEN', treeOf({ '0': {} }));
      tree.set('BW', treeOf({ '0.000000': {} }));
    });
    await waitForTree(file, isDone, 'DONE');
    await assertCopied(entry);
  });

  test('poll time and buffer come from the environment of SCR', async () => {
    const daemon = startDaemon([], { SCR_TRANSFER_SECS: '0.3', SCR_FILE_BUF_SIZE: '4096' });
    const entry = await source('env', 50_000);
    await run([entry]);
    await waitForTree(file, isDone, 'DONE');
    await assertCopied(entry);
    await command('EXIT');
    assert.equal(await daemon.ended(), 0);
    const wrong = startDaemon([], { SCR_TRANSFER_SECS: 'soon' });
    assert.equal(await wrong.ended(), 2);
    assert.match(wrong.log, /SCR_TRANSFER_SECS=soon/);
  });

  test('SIGTERM finishes the burst, records it and says STOPPED', async () => {
    const daemon = startDaemon();
    const entry = await source('term', 40 * MIB);
    await run([entry], { bw: 4 * MIB });
    await waitForTree(file, (tree) => written(tree, entry) > MIB, 'the first MiB');
    assert.equal(await daemon.signal('SIGTERM'), 0, daemon.log);
    const tree = await readTree(file);
    assert.ok(hasState('STOPPED')(tree) && !isDone(tree));
    assert.equal((await stat(entry.destination)).size, written(tree, entry));
    assert.deepEqual(
      await readFile(entry.destination),
      (await readFile(entry.source)).subarray(0, written(tree, entry)),
    );
  });

  test('verified copies are complete only after they were read again', async () => {
    const daemon = startDaemon(['--poll', '0.2', '--verify']);
    const entries = [await source('one', 3 * MIB + 1), await source('two', 0), await source('three', 1)];
    await run(entries, { bw: 4 * MIB });
    await waitForTree(file, (tree) => written(tree, entries[0] as FileEntry) > MIB, 'the first MiB');
    await daemon.signal('SIGKILL');
    startDaemon(['--poll', '0.2', '--verify']);
    await waitForTree(file, isDone, 'DONE');
    await assertCopied(...entries);
  });
});

describe('what goes wrong', () => {
  test('files that cannot be copied say why, the others go on, and DONE waits for them', async () => {
    const good = await source('good', 100_000);
    const short = { ...(await source('short', 1000)), size: 2000 };
    const missing = { ...(await source('missing', 10)), source: join(folder, 'missing') };
    const blocked = { ...(await source('blocked', 10)), destination: join(good.source, 'below-a-file') };
    const isFolder = { ...(await source('folder', 10)), source: folder };
    const same = { ...(await source('same', 10)), destination: good.destination };
    const relative = { ...(await source('relative', 10)), destination: 'relative/path' };
    const all = [good, short, missing, blocked, isFolder, same, relative];
    const daemon = startDaemon();
    await run(all);
    const tree = await waitForTree(
      file,
      (now) =>
        written(now, good) === good.size && all.slice(1).every((each) => errorOf(now, each) !== undefined),
      'every outcome',
    );
    assert.ok(!isDone(tree) && hasState('RUNNING')(tree));
    assert.equal(errorOf(tree, good), undefined);
    assert.match(errorOf(tree, short) ?? '', /has 1000 bytes, 2000 are expected\.$/);
    assert.match(errorOf(tree, missing) ?? '', /no such file or directory \(ENOENT\)\.$/);
    assert.match(errorOf(tree, blocked) ?? '', /ENOTDIR/);
    assert.match(errorOf(tree, isFolder) ?? '', /is a directory/);
    assert.match(errorOf(tree, same) ?? '', /also that of/);
    assert.match(errorOf(tree, relative) ?? '', /not absolute/);
    await assertCopied(good);

    // What is mended is tried again by itself, and says so.
    await writeFile(missing.source, randomBytes(10));
    await appendFile(short.source, randomBytes(1000));
    await waitForTree(
      file,
      (now) =>
        [missing, short].every(
          (each) => errorOf(now, each) === undefined && written(now, each) === each.size,
        ),
      'the mended files',
    );
    await assertCopied(missing, short);
    await command('EXIT');
    assert.equal(await daemon.ended(), 10);
    assert.match(daemon.log, /4 files failed:/);
    for (const each of [blocked, isFolder, same, relative]) assert.ok(daemon.log.includes(each.source));
    assert.equal(valueAt(await readTree(file), 'STATE'), 'EXITING');
  });

  test('a full disk is reported, and the copy ends when there is room again', {
    skip: noMount,
  }, async (t) => {
    const mount = join(folder, 'pfs');
    await mkdir(mount);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', mount]).status !== 0) {
      return t.skip('file systems cannot be mounted here');
    }
    try {
      const entry = await source('large', 3 * MIB);
      startDaemon();
      await run([entry]);
      const tree = await waitForTree(file, (now) => errorOf(now, entry) !== undefined, 'the error');
      assert.match(errorOf(tree, entry) ?? '', /no space left on device \(ENOSPC\)\.$/);
      assert.ok(!isDone(tree) && written(tree, entry) < entry.size);
      assert.equal(spawnSync('mount', ['-o', 'remount,size=8m', mount]).status, 0);
      await waitForTree(file, isDone, 'DONE');
      await assertCopied(entry);
    } finally {
      await Promise.all(daemons.map((daemon) => daemon.signal('SIGKILL')));
      spawnSync('umount', ['-l', mount]);
    }
  });

  test('a read-only destination is reported', async () => {
    const entry = await source('denied', 10);
    const target = join(folder, 'pfs');
    await mkdir(target);
    // Permissions mean nothing to root, who can mount instead.
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'none', target]).status === 0;
    if (!mounted) await chmod(target, 0o555);
    try {
      startDaemon();
      await run([entry]);
      const tree = await waitForTree(file, (now) => errorOf(now, entry) !== undefined, 'the error');
      assert.match(errorOf(tree, entry) ?? '', mounted ? /EROFS/ : /EACCES/);
      assert.ok(!isDone(tree));
    } finally {
      if (mounted) spawnSync('umount', ['-l', target]);
      else await chmod(target, 0o755);
    }
  });

  test('a source that grows or is written to while it is copied is reported, and copied again when it rests', async () => {
    const entry = await source('grows', 20 * MIB);
    startDaemon();
    await run([entry], { bw: 2 * MIB });
    await waitForTree(file, (tree) => written(tree, entry) > 0, 'the beginning');
    await appendFile(entry.source, 'more');
    await changeTree(file, (tree) => void tree.set('BW', treeOf({ '0.000000': {} })));
    const tree = await waitForTree(file, (now) => errorOf(now, entry) !== undefined, 'the error');
    assert.match(errorOf(tree, entry) ?? '', /went from 20971520 to 20971524 bytes while it was copied\.$/);
    assert.equal(written(tree, entry), 0);
    await truncate(entry.source, entry.size);
    await waitForTree(file, isDone, 'DONE');
    await assertCopied(entry);
  });

  test('a corrupt transfer file is reported and left untouched until there is a good one', async () => {
    const daemon = startDaemon();
    const entry = await source('interrupted', 20 * MIB);
    await run([entry], { bw: 2 * MIB });
    const good = await waitForTree(file, (tree) => written(tree, entry) > 0, 'the beginning');
    assert.ok(good);
    const bytes = await readFile(join(fixtures, 'ready.scr'));
    bytes[50] = 0xff;
    await writeFile(file, bytes);
    await until('the report', () => /CRC-32 does not match/.test(daemon.log));
    await delay(500);
    assert.deepEqual(await readFile(file), bytes);
    await rm(file);
    await run([entry]);
    await waitForTree(file, isDone, 'DONE');
    await assertCopied(entry);
    await until('the word that all is well', () => /can be used again/.test(daemon.log));
  });

  test('a daemon that starts with a corrupt file waits for a good one', async () => {
    await writeFile(file, 'no transfer file at all');
    const daemon = startDaemon();
    await until('the report', () => /it begins with 0x6e6f2074/.test(daemon.log));
    assert.equal(await readFile(file, 'utf8'), 'no transfer file at all');
    await writeFile(file, '');
    await waitForTree(file, hasState('STOPPED'), 'STOPPED');
    await writeFile(file, 'broken again, for good');
    await until('the second report', () => /it begins with 0x62726f6b/.test(daemon.log));
    assert.equal(await daemon.signal('SIGTERM'), 1);
    assert.equal(await readFile(file, 'utf8'), 'broken again, for good');
  });

  test('limits and commands that mean nothing change nothing', async () => {
    const daemon = startDaemon();
    const entry = await source('odd', 1000);
    await run([entry]);
    await changeTree(file, (tree) => {
      tree.set('BW', treeOf({ fast: {} }));
      tree.set('PERCENT', treeOf({ '-3': {} }));
    });
    await waitForTree(file, isDone, 'DONE');
    await command('DANCE');
    await until(
      'both reports',
      () => /COMMAND "DANCE" is not known/.test(daemon.log) && /BW and PERCENT/.test(daemon.log),
    );
    assert.ok(isDone(await readTree(file)));
  });

  test('a missing directory of the transfer file is made; one that cannot be is a usage error', async () => {
    const early = new TestDaemon([join(folder, 'not/yet/transfer.scr')]);
    daemons.push(early);
    await until('the transfer file', () => existsSync(join(folder, 'not/yet/transfer.scr')));
    await writeFile(join(folder, 'plain'), '');
    const wrong = new TestDaemon([join(folder, 'plain/below/transfer.scr')]);
    assert.equal(await wrong.ended(), 2);
    assert.match(wrong.log, /can have no directory .*plain\/below: .*ENOTDIR/);
  });
});
