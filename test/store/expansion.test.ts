import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BrokerError } from '../../src/model/errors.js';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { chunkItemId, directoryItemId } from '../../src/store/keys.js';
import type { ExpansionRun } from '../../src/store/work.js';
import {
  begin,
  finishAll,
  manyPaths,
  NAS_QUEUE,
  openTestStore,
  result,
  submit,
  type TestStore,
} from './fixture.js';

let t: TestStore;
before(async () => {
  t = await openTestStore();
});
after(() => t.close());

const OUT = { path: 'out', include: ['**/*.h5'], exclude: ['tmp/**'] };
const LOGS = { path: 'logs', include: [], exclude: [] };
const code = (wanted: string) => (error: unknown) => error instanceof BrokerError && error.code === wanted;

async function expand(id: string, directory: number): Promise<ExpansionRun> {
  const run = await t.work.expansions.begin(id, directory);
  if (run === null || typeof run === 'string')
    throw new Error(`directory ${directory} of ${id}: ${run ?? 'done'}`);
  return run;
}

function unreadable(path: string) {
  const error = {
    code: 'EACCES',
    nfsStatus: 13,
    phase: 'expand',
    message: `READDIRPLUS of ${path} was refused.`,
  } as const;
  return result({ index: 0, path }, { state: 'failed', attempts: 0, firstError: error, lastError: error });
}

test('files that a directory holds join the job while others of it are flushed', async () => {
  const id = await submit(t.store, ['listed'], { directories: [OUT, LOGS] });
  const queued = await t.store.getJob(id);
  assert.equal(queued.progress.filesTotalFinal, false);
  const client = t.redis.client();
  assert.equal(await client.exists(t.keys.bullJob(NAS_QUEUE, directoryItemId(id, 1))), 1);

  const run = await expand(id, 0);
  assert.deepEqual(run.request, OUT);
  assert.equal((await t.store.getJob(id)).state, 'expanding');
  assert.equal(await t.work.expansions.append(run, manyPaths(512)), 'ok');
  assert.equal(await t.work.expansions.append(run, ['out/last.h5']), 'ok');
  assert.equal(await client.exists(t.keys.bullJob(NAS_QUEUE, chunkItemId(id, 2))), 1);
  await finishAll(t.work, id, 3);
  const middle = await t.store.getJob(id);
  assert.equal(middle.state, 'expanding');
  assert.equal(middle.progress.filesTotal, 514);
  assert.equal(middle.progress.filesSucceeded, 514);
  assert.equal(middle.progress.etaSeconds, null);
  await t.work.expansions.end(run, 513);
  await t.work.expansions.end(run, 513);
  assert.equal((await t.store.getJob(id)).progress.filesTotalFinal, false);

  const second = await expand(id, 1);
  assert.equal(await t.work.expansions.appendEnded(second, [unreadable('logs/secret')]), 'ok');
  await t.work.expansions.end(second, 0);
  const job = await t.store.getJob(id);
  assert.equal(job.state, 'partial');
  assert.equal(job.progress.filesFailed, 1);
  assert.equal(job.progress.filesTotal, 515);
  assert.match(job.statusDetail ?? '', /READDIRPLUS of logs\/secret/);
  assert.deepEqual(
    job.warnings.map((warning) => [warning.code, warning.count]),
    [['DIRECTORY_WITHOUT_FILES', 1]],
  );
  const { items } = await t.store.listFiles(id, { states: ['failed'] }, null, 10);
  assert.deepEqual([items[0]?.path, items[0]?.lastError?.phase], ['logs/secret', 'expand']);
  assert.equal(await t.work.expansions.begin(id, 0), null);
  const all = await t.store.listFiles(id, {}, null, 1000);
  assert.equal(all.items.length, 515);
});

test('directories that hold nothing make a job that succeeded, with a warning', async () => {
  const id = await submit(t.store, [], { directories: [OUT] });
  await t.work.expansions.end(await expand(id, 0), 0);
  const job = await t.store.getJob(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(job.progress.filesTotal, 0);
  assert.match(job.warnings[0]?.message ?? '', /"out"/);
});

test('an expansion begun anew reads what the first appended, and the first can append no more', async () => {
  const id = await submit(t.store, [], { directories: [LOGS, OUT] });
  const other = await expand(id, 0);
  await t.work.expansions.append(other, ['logs/not-mine']);
  const crashed = await expand(id, 1);
  await t.work.expansions.append(crashed, ['out/a', 'out/b\udcff']);
  const again = await expand(id, 1);
  assert.equal(await t.work.expansions.append(crashed, ['out/late']), 'fenced');
  const appended: string[] = [];
  for await (const { path } of again.appended()) appended.push(path);
  assert.deepEqual(appended, ['out/a', 'out/b\udcff']);
  assert.equal(await t.work.expansions.append(again, ['out/c']), 'ok');
  await t.work.expansions.end(crashed, 3);
  assert.equal((await t.store.getJob(id)).progress.filesTotal, 4);
  await t.work.expansions.end(again, 3);
  await t.work.expansions.end(other, 1);
  await finishAll(t.work, id, 3);
  assert.equal((await t.store.getJob(id)).state, 'succeeded');
});

test('an append that is sent twice over a broken connection counts once', async () => {
  const id = await submit(t.store, [], { directories: [OUT] });
  const run = await expand(id, 0);
  const client = t.redis.client();
  await t.work.expansions.append(run, ['out/a']);
  // The same command again: what a reconnect does with one whose reply was lost.
  await client.hset(t.keys.runs(id), 'd0:seq', 2);
  assert.equal(await t.work.expansions.append(run, ['out/a']), 'ok');
  assert.equal((await t.store.getJob(id)).progress.filesTotal, 1);
  await t.store.cancel(id);
});

test('a job takes no more files than one may have', async () => {
  const work = t.openWork({ filesPerJob: 100 });
  const id = await submit(t.store, manyPaths(60), { directories: [OUT] });
  const run = await work.expansions.begin(id, 0);
  assert.ok(run !== null && typeof run !== 'string');
  assert.equal(await work.expansions.append(run, manyPaths(40)), 'ok');
  assert.equal(await work.expansions.append(run, ['one more']), 'full');
  // But it can be told.
  assert.equal(await work.expansions.appendEnded(run, [unreadable('out')]), 'ok');
  assert.equal((await t.store.getJob(id)).progress.filesFailed, 1);
  await t.store.cancel(id);
});

test('a job canceled while it is expanded is canceled, even if every file it knew succeeded', async () => {
  const id = await submit(t.store, ['a'], { directories: [OUT] });
  await finishAll(t.work, id, 1);
  const run = await expand(id, 0);
  assert.equal((await t.store.cancel(id)).state, 'canceled');
  assert.equal(await t.work.expansions.append(run, ['out/a']), 'ended');
  assert.equal(await t.work.expansions.begin(id, 0), null);
  assert.equal((await t.store.getJob(id)).progress.filesTotalFinal, true);
});

test('a retry is a new job of the files that failed, expired or were canceled, in their order', async () => {
  const id = await submit(t.store, [...manyPaths(1500), 'run/0/rank-0.dat'], {
    labels: { run: '9' },
    export: '/x',
  });
  await assert.rejects(t.store.retry(id, LOCAL_PRINCIPAL), code('JOB_NOT_FINISHED'));
  const run = await begin(t.work, id, 0);
  await t.work.chunks.record(
    run,
    run.files.map((file) =>
      result(file, file.index < 3 ? { state: file.index === 1 ? 'expired' : 'failed' } : {}),
    ),
  );
  await t.work.warn(id, 'ONLY_ACCEPTED', 'Not proven.', null);
  await t.store.cancel(id);
  const retry = await t.store.retry(id, LOCAL_PRINCIPAL);
  assert.equal(retry.parentJobId, id);
  assert.deepEqual(retry.labels, { run: '9' });
  assert.equal(retry.export, '/x');
  assert.equal(retry.progress.filesTotal, 1500 - 512 + 3);
  assert.deepEqual(retry.warnings, []);
  const { items } = await t.store.listFiles(retry.id, {}, null, 5);
  assert.deepEqual(
    items.map(({ path }) => path),
    [0, 1, 2, 512, 513].map((i) => `run/${Math.floor(i / 100)}/rank-${i}.dat`),
  );
  await finishAll(t.work, retry.id, 2);
  await assert.rejects(t.store.retry(retry.id, LOCAL_PRINCIPAL), code('NOTHING_TO_RETRY'));
});

test('a retry expands a directory again that was not read to its end, and names its files only so', async () => {
  const id = await submit(t.store, ['listed'], { directories: [OUT, LOGS, { ...LOGS, path: 'whole' }] });
  const whole = await expand(id, 2);
  await t.work.expansions.append(whole, ['whole/a']);
  await t.work.expansions.end(whole, 1);
  const logs = await expand(id, 1);
  await t.work.expansions.appendEnded(logs, [unreadable('logs/secret')]);
  await t.work.expansions.append(logs, ['logs/a']);
  await t.work.expansions.end(logs, 1);
  const out = await expand(id, 0);
  await t.work.expansions.append(out, ['out/a']);
  await t.store.cancel(id);
  const retry = await t.store.retry(id, LOCAL_PRINCIPAL);
  const { items } = await t.store.listFiles(retry.id, {}, null, 10);
  assert.deepEqual(
    items.map(({ path }) => path),
    ['listed', 'whole/a'],
  );
  assert.deepEqual((await expand(retry.id, 0)).request, OUT);
  assert.deepEqual((await expand(retry.id, 1)).request, LOGS);
  assert.equal(await t.work.expansions.begin(retry.id, 2), null);
  await t.store.cancel(retry.id);
});

async function all(files: AsyncIterable<{ path: string }>): Promise<string[]> {
  const paths: string[] = [];
  for await (const { path } of files) paths.push(path);
  return paths;
}

test('a directory that overlaps with one before it waits for that, and knows what the job names already', async () => {
  const inner = { path: '/out/inner/', include: [], exclude: [] };
  const id = await submit(t.store, ['out/inner/x', './out/inner/y', 'outer/z', 'logs/l'], {
    directories: [LOGS, { ...inner, path: 'out' }, inner, { ...inner, path: 'out/innermost' }],
  });
  assert.equal(await t.work.expansions.begin(id, 2), 'later');
  assert.equal(await t.work.expansions.begin(id, 3), 'later');
  const logs = await expand(id, 0);
  assert.deepEqual(await all(logs.namedBefore()), ['logs/l']);
  const out = await expand(id, 1);
  assert.deepEqual(await all(out.namedBefore()), ['out/inner/x', './out/inner/y']);
  await t.work.expansions.append(out, ['out/a', 'out/inner/b']);
  assert.equal(await t.work.expansions.begin(id, 2), 'later');
  await t.work.expansions.end(out, 4);
  const last = await expand(id, 2);
  assert.deepEqual(await all(last.namedBefore()), ['out/inner/x', './out/inner/y', 'out/inner/b']);
  assert.deepEqual(await all(last.appended()), []);
  await t.store.cancel(id);
});
