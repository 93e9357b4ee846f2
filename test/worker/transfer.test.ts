import assert from 'node:assert/strict';
import { appendFile, mkdir, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { until } from '../support/until.js';
import { MIB, NODE, newTransfer, sha256, startTransferRig } from './transfer-rig.js';

const SLOW = { limits: { bytesPerSecond: 4 * MIB, cpuPercent: null } };

describe('files', () => {
  test('arrive with identical bytes, mode and time, are verified if asked, and are not copied twice', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    const names = ['empty', 'small', 'deep/er/large', 'odd \udcff\n name'];
    for (const [i, name] of names.slice(0, 3).entries())
      await rig.make(name, [0, 1000, 3 * MIB + 17][i] ?? 0);
    const odd = Buffer.concat([Buffer.from(`${rig.source}/odd `), Buffer.of(0xff), Buffer.from('\n name')]);
    await writeFile(odd, 'bytes of a name');
    await utimes(join(rig.source, 'small'), 1_700_000_000, 1_700_000_000.5);
    const id = await rig.submit(names, { verify: true });
    const job = await rig.ended(id);
    assert.equal(job.state, 'succeeded', JSON.stringify(job));
    assert.deepEqual([job.kind, job.node, job.cache, job.export], ['transfer', NODE, null, null]);
    const bytes = 1000 + 3 * MIB + 17 + 15;
    assert.deepEqual([job.progress.bytesTotal, job.progress.bytesDone], [bytes, bytes]);
    for (const name of names.slice(0, 3)) {
      assert.equal(await sha256(join(rig.source, name)), await sha256(join(rig.destination, name)));
    }
    assert.equal((await stat(join(rig.destination, 'small'))).mtimeMs, 1_700_000_000_500);
    const { items } = await rig.test.store.listFiles(id, {}, null, 10);
    assert.deepEqual(
      items.map(({ path, destination, outcome, evidence }) => [path, destination, outcome, evidence]),
      names.map((name) => [`${rig.source}/${name}`, `${rig.destination}/${name}`, 'copied', 'verified']),
    );
    assert.equal((await rig.destinationFiles()).length, 4);

    const again = await rig.submit(names);
    const second = await rig.ended(again);
    assert.equal(second.state, 'succeeded');
    assert.equal(second.progress.filesAlreadyClean, 4);
    const page = await rig.test.store.listFiles(again, {}, null, 10);
    assert.ok(page.items.every(({ outcome, evidence }) => outcome === 'identical' && evidence === 'stable'));
  });

  test('of a directory are found by its globs; links are named and not followed', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    for (let i = 0; i < 600; i++) await rig.make(`run/${i % 7}/f${i}.dat`, 10 + i);
    await rig.make('run/0/skip.tmp', 5);
    await symlink('/etc/hostname', join(rig.source, 'run/link'));
    const directory = {
      path: `${rig.source}/run`,
      destination: `${rig.destination}/copy`,
      include: [],
      exclude: ['**/*.tmp'],
    };
    const id = await rig.submit([], {}, { directories: [directory] });
    const job = await rig.ended(id);
    assert.equal(job.state, 'succeeded', JSON.stringify(job));
    assert.deepEqual([job.progress.filesSucceeded, job.progress.filesSkipped], [600, 1]);
    assert.equal(job.progress.bytesTotal, job.progress.bytesDone);
    assert.equal((await rig.destinationFiles()).length, 600);
    assert.equal(
      await sha256(join(rig.source, 'run/3/f3.dat')),
      await sha256(join(rig.destination, 'copy/3/f3.dat')),
    );
    const { items } = await rig.test.store.listFiles(id, { states: ['skipped'] }, null, 10);
    assert.match(items[0]?.lastError?.message ?? '', /run\/link is a symbolic link/);
    assert.equal(items[0]?.destination, `${rig.destination}/copy/link`);
  });

  test('outside the roots are refused one by one, through links too, and nothing there is touched', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    const outside = join(rig.folder, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, 'secret'), 'secret');
    await rig.make('good', 100);
    await symlink(outside, join(rig.source, 'way-out'));
    await symlink(outside, join(rig.destination, 'way-out'));
    const intake = rig.test.store.openIntake(LOCAL_PRINCIPAL);
    const entries = [
      [`${outside}/secret`, `${rig.destination}/a`],
      [`${rig.source}/way-out/secret`, `${rig.destination}/b`],
      [`${rig.source}/good`, `${outside}/c`],
      [`${rig.source}/good`, `${rig.destination}/way-out/d`],
      [`${rig.source}/../outside/secret`, `${rig.destination}/e`],
      [`${rig.source}/good`, `${rig.destination}/good`],
    ];
    for (const [from = '', to = ''] of entries) {
      await intake.add({ path: Buffer.from(from), destination: Buffer.from(to), size: null });
    }
    const { id } = await intake.commit(newTransfer());
    const job = await rig.ended(id);
    assert.equal(job.state, 'partial');
    const { items } = await rig.test.store.listFiles(id, {}, null, 10);
    const codes = items.map(({ lastError }) => lastError?.code ?? null);
    assert.deepEqual(codes.slice(0, 4), ['OUTSIDE_ROOTS', 'OUTSIDE_ROOTS', 'OUTSIDE_ROOTS', 'OUTSIDE_ROOTS']);
    assert.ok(codes[4] === 'INVALID_PATH' || codes[4] === 'OUTSIDE_ROOTS', String(codes[4]));
    assert.equal(codes[5], null);
    assert.deepEqual(await rig.destinationFiles(), ['good', 'way-out']);
  });

  test('of a principal that may use only some directories are not reached through links', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    await rig.make('bob/secret', 100);
    await rig.make('alice/own', 100);
    await symlink('../bob/secret', join(rig.source, 'alice/link'));
    await mkdir(join(rig.destination, 'bob'));
    await mkdir(join(rig.destination, 'alice'));
    await symlink('../bob', join(rig.destination, 'alice/there'));
    const intake = rig.test.store.openIntake(LOCAL_PRINCIPAL);
    for (const [from, to] of [
      ['alice/link', 'alice/a'],
      ['alice/own', 'alice/there/b'],
      ['alice/own', 'alice/c'],
    ] as const) {
      await intake.add({
        path: Buffer.from(join(rig.source, from)),
        destination: Buffer.from(join(rig.destination, to)),
        size: null,
      });
    }
    const { id } = await intake.commit(newTransfer({}, { followsLinks: false }));
    await rig.ended(id);
    const { items } = await rig.test.store.listFiles(id, {}, null, 10);
    assert.deepEqual(
      items.map(({ lastError }) => lastError?.code ?? null),
      ['OUTSIDE_ROOTS', 'OUTSIDE_ROOTS', null],
    );
    assert.deepEqual(await rig.destinationFiles(), ['alice/c', 'alice/there']);
  });

  test('that vanished, are shorter or longer than was said, or have no place fail with what is wrong', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    await rig.make('short', 10);
    await rig.make('blocked', 10);
    await writeFile(join(rig.destination, 'is-a-file'), 'x');
    const intake = rig.test.store.openIntake(LOCAL_PRINCIPAL);
    const add = (from: string, to: string, size: number | null = null) =>
      intake.add({
        path: Buffer.from(join(rig.source, from)),
        destination: Buffer.from(join(rig.destination, to)),
        size,
      });
    await add('nowhere', 'a');
    await add('short', 'b', 11);
    await add('short', 'c', 9);
    await add('blocked', 'is-a-file/d');
    const { id } = await intake.commit(newTransfer());
    const job = await rig.ended(id);
    assert.equal(job.state, 'failed');
    const { items } = await rig.test.store.listFiles(id, {}, null, 10);
    assert.deepEqual(
      items.map(({ lastError }) => lastError?.code),
      ['ENOENT', 'SOURCE_SHORT', 'SOURCE_CHANGED', 'ENOTDIR'],
    );
    assert.deepEqual(await rig.destinationFiles(), ['is-a-file']);
    await rig.make('nowhere', 20);
    const retried = await rig.test.store.retry(id, LOCAL_PRINCIPAL);
    const second = await rig.ended(retried.id);
    assert.equal(second.parentJobId, id);
    assert.deepEqual(
      [second.state, second.progress.filesSucceeded, second.progress.filesFailed],
      ['partial', 1, 3],
    );
  });

  test('that are written to while they are copied fail, and nothing of them stays', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    const path = await rig.make('growing', 4 * MIB);
    const id = await rig.submit(['growing'], SLOW);
    await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 0);
    await appendFile(path, 'more');
    const job = await rig.ended(id);
    assert.equal(job.state, 'failed');
    const { items } = await rig.test.store.listFiles(id, {}, null, 10);
    assert.equal(items[0]?.lastError?.code, 'SOURCE_CHANGED');
    assert.deepEqual(await rig.destinationFiles(), []);
    assert.equal(job.progress.bytesDone, 0);
  });
});

describe('a job', () => {
  test('without an agent waits and says so; it begins when one comes, and hears when it goes', async (t) => {
    const rig = await startTransferRig(t);
    await rig.make('f', 20 * MIB);
    const id = await rig.submit(['f'], SLOW);
    const waiting = await rig.job(id);
    assert.equal(waiting.state, 'queued');
    assert.match(waiting.statusDetail ?? '', /No agent of node n1 is connected \(none was ever seen\)/);
    const agent = rig.startAgent();
    await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 0);
    const running = await rig.job(id);
    assert.deepEqual([running.state, running.statusDetail], ['running', null]);
    assert.equal(running.progress.bytesTotal, 20 * MIB);
    await agent.close();
    const left = await rig.job(id);
    assert.match(left.statusDetail ?? '', /the last was seen at/);
    assert.equal(left.progress.filesPending, 1);
    assert.ok(left.progress.bytesDone > 0);
    await rig.test.store.cancel(id);
    await rig.ended(id);
    // Nobody was there to remove what was begun; the next agent does.
    assert.equal((await rig.destinationFiles()).length, 1);
    rig.startAgent();
    await until('it is removed', async () => (await rig.destinationFiles()).length === 0);
  });

  test('goes on behind what is durable after the agent was closed', async (t) => {
    const rig = await startTransferRig(t);
    await rig.make('f', 12 * MIB);
    const first = rig.startAgent();
    const id = await rig.submit(['f'], {
      limits: { bytesPerSecond: 6 * MIB, cpuPercent: null },
      verify: true,
    });
    await until('a third is done', async () => (await rig.job(id)).progress.bytesDone > 4 * MIB);
    await first.close();
    const before = (await rig.job(id)).progress.bytesDone;
    assert.ok(before > 4 * MIB, `${before}`);
    rig.startAgent();
    let least = Number.POSITIVE_INFINITY;
    await until('it goes on', async () => {
      const { state, progress } = await rig.job(id);
      least = Math.min(least, progress.bytesDone);
      return state === 'succeeded';
    });
    assert.ok(least >= before, `went back to ${least} from ${before}`);
    const job = await rig.ended(id);
    assert.equal(job.progress.bytesDone, 12 * MIB);
    assert.equal(await sha256(join(rig.source, 'f')), await sha256(join(rig.destination, 'f')));
    assert.deepEqual(await rig.destinationFiles(), ['f']);
  });

  test('that is canceled in mid-file leaves nothing behind', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    await rig.make('f', 20 * MIB);
    await rig.make('done', 10);
    const id = await rig.submit(['done', 'f'], SLOW);
    await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 1000);
    await rig.test.store.cancel(id);
    const job = await rig.ended(id);
    assert.equal(job.state, 'canceled');
    assert.deepEqual([job.progress.filesSucceeded, job.progress.filesCanceled], [1, 1]);
    assert.equal(job.progress.bytesDone, 10);
    await until('nothing is left', async () => (await rig.destinationFiles()).join() === 'done');
    const retried = await rig.test.store.retry(id, LOCAL_PRINCIPAL);
    await rig.test.store.setLimits(retried.id, { bytesPerSecond: null });
    assert.equal((await rig.ended(retried.id)).state, 'succeeded');
  });

  test('and a file end at their deadlines', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    await rig.make('f', 20 * MIB);
    const late = await rig.submit(['f'], { ...SLOW, deadlineSeconds: 1 });
    const slow = await rig.submit(['f'], { ...SLOW, fileTimeoutSeconds: 0.5 });
    const job = await rig.ended(late);
    assert.deepEqual([job.state, job.progress.filesExpired], ['expired', 1]);
    const other = await rig.ended(slow);
    assert.deepEqual([other.state, other.progress.filesExpired], ['failed', 1]);
    const { items } = await rig.test.store.listFiles(slow, {}, null, 10);
    assert.match(items[0]?.lastError?.message ?? '', /not copied within 0.5 s/);
    await until('nothing is left', async () => (await rig.destinationFiles()).length === 0);
  });

  test('keeps to its limit, takes a new one while it copies, and the lower of its and the node counts', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent({ limits: { bytesPerSecond: 8 * MIB, cpuPercent: null } });
    for (const name of ['a', 'b', 'c']) await rig.make(name, 6 * MIB);
    const id = await rig.submit(['a', 'b', 'c'], { limits: { bytesPerSecond: 2 * MIB, cpuPercent: null } });
    await until('bytes are moving', async () => (await rig.job(id)).progress.bytesDone > 0);
    const begunAt = Date.now();
    const begun = (await rig.job(id)).progress.bytesDone;
    await until('two seconds have passed', () => Date.now() - begunAt >= 2000);
    const moved = (await rig.job(id)).progress.bytesDone - begun;
    assert.ok(moved < 2 * MIB * 2 * 1.5, `${moved} bytes in 2 s`);
    const changed = await rig.test.store.setLimits(id, { bytesPerSecond: null });
    assert.ok('limits' in changed.options && changed.options.limits.bytesPerSecond === null);
    const changedAt = Date.now();
    await rig.ended(id);
    const left = 18 * MIB - moved - begun;
    const seconds = (Date.now() - changedAt) / 1000;
    // At 2 MiB/s the rest would take seven seconds; the node allows eight.
    assert.ok(seconds < left / (3 * MIB), `${seconds} s for ${left} bytes`);
    assert.ok(
      seconds > left / (8 * MIB) / 1.3,
      `${seconds} s for ${left} bytes is more than the node allows`,
    );
    await assert.rejects(rig.test.store.setLimits(id, { bytesPerSecond: 1 }), { code: 'JOB_ENDED' });
  });

  test('does not wait for the large files of another', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent({ concurrency: 2 });
    const large = Array.from({ length: 6 }, (_, i) => `large${i}`);
    for (const name of large) await rig.make(name, 2 * MIB);
    await rig.make('small', 10);
    const first = await rig.submit(large, { limits: { bytesPerSecond: 2 * MIB, cpuPercent: null } });
    await until('bytes are moving', async () => (await rig.job(first)).progress.bytesDone > 0);
    const second = await rig.submit(['small']);
    assert.equal((await rig.ended(second)).state, 'succeeded');
    assert.equal((await rig.job(first)).state, 'running');
    await rig.test.store.setLimits(first, { bytesPerSecond: null });
    assert.equal((await rig.ended(first)).state, 'succeeded');
  });

  test("does not wait until one of another principal's many has ended that an agent has in hand", async (t) => {
    const rig = await startTransferRig(t);
    const names = Array.from({ length: 1300 }, (_, i) => `f${i}`);
    await Promise.all(names.map((name) => rig.make(name, 10_240)));
    // As many as it takes, of twenty files each; at this rate the first would end after a minute.
    const many: string[] = [];
    for (let i = 0; i < 64; i++) many.push(await rig.submit(names.slice(i * 20, (i + 1) * 20)));
    const agent = rig.startAgent({ limits: { bytesPerSecond: 200_000, cpuPercent: null } });
    await until('its hands are full', () => agent.itemsInHand === 64);
    const ten = await rig.submit(names.slice(1280, 1290), {}, {}, 'somebody else');
    assert.equal((await rig.ended(ten)).state, 'succeeded');
    const others = await Promise.all(many.map((id) => rig.job(id)));
    const copied = others.reduce((sum, { progress }) => sum + progress.filesSucceeded, 0);
    assert.ok(copied < 640, `${copied} of 1280 files were before them`);
    for (const id of many) await rig.test.store.cancel(id);
    for (const id of many) assert.equal((await rig.ended(id)).progress.filesFailed, 0);
  });

  test('whose directories and files meet at a destination copies the one named first and fails the other, also when it is retried', async (t) => {
    const rig = await startTransferRig(t);
    rig.startAgent();
    for (const [name, bytes] of [
      ['a/same', 10],
      ['a/only-a', 11],
      ['b/same', 12],
      ['b/only-b', 13],
      ['b/listed', 14],
      ['c/a', 15],
      ['elsewhere', 16],
    ] as const)
      await rig.make(name, bytes);
    await symlink('elsewhere', join(rig.source, 'a/only-b'));
    const directory = (from: string, to: string) => ({
      path: `${rig.source}/${from}`,
      destination: `${rig.destination}/${to}`,
      include: [],
      exclude: [],
    });
    const intake = rig.test.store.openIntake(LOCAL_PRINCIPAL);
    await intake.add({
      path: Buffer.from(join(rig.source, 'elsewhere')),
      destination: Buffer.from(`${rig.destination}//out/./listed`),
      size: null,
    });
    // The last goes into the destination of the others from above: c/out/same and out/same are one.
    await rig.make('c/out/same', 17);
    const directories = [directory('a', 'out'), directory('b', 'out/'), directory('c', '')];
    const { id } = await intake.commit(newTransfer({}, { directories }));
    const job = await rig.ended(id);
    assert.equal(job.state, 'partial', JSON.stringify(job));
    const { items } = await rig.test.store.listFiles(id, { states: ['failed'] }, null, 10);
    assert.deepEqual(items.map(({ path, lastError }) => [path, lastError?.code]).sort(), [
      [`${rig.source}/b/listed`, 'DESTINATION_TAKEN'],
      [`${rig.source}/b/same`, 'DESTINATION_TAKEN'],
      [`${rig.source}/c/out/same`, 'DESTINATION_TAKEN'],
    ]);
    assert.match(
      items[0]?.lastError?.message ?? '',
      /another file with the destination .*out\/\/?(same|listed)/,
    );
    const sizes = await Promise.all(
      (await rig.destinationFiles()).map(async (name) => [
        name,
        (await stat(join(rig.destination, name))).size,
      ]),
    );
    assert.deepEqual(sizes, [
      ['a', 15],
      ['out/listed', 16],
      ['out/only-a', 11],
      ['out/only-b', 13],
      ['out/same', 10],
    ]);
    await assert.rejects(rig.test.store.retry(id, LOCAL_PRINCIPAL), { code: 'NOTHING_TO_RETRY' });
  });

  test('refuses two files for one destination, and skips an entry that stands twice', async (t) => {
    const rig = await startTransferRig(t);
    const intake = rig.test.store.openIntake(LOCAL_PRINCIPAL);
    const entry = (path: string) => ({ path: Buffer.from(path), destination: Buffer.from('/d'), size: 5 });
    await intake.add(entry('/a'));
    await intake.add(entry('/a'));
    assert.equal(intake.filesAdded, 2);
    assert.throws(() => void intake.add(entry('/b')), {
      code: 'VALIDATION',
      message: /same destination as entry 0/,
    });
    await intake.abort();
    await rm(rig.source, { recursive: true });
  });
});
