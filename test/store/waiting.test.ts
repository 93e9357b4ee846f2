import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BrokerError } from '../../src/model/errors.js';
import { until } from '../support/until.js';
import { begin, finishAll, manyPaths, openTestStore, result, submit, type TestStore } from './fixture.js';

let t: TestStore;
before(async () => {
  t = await openTestStore();
});
after(() => t.close());

const LONG = () => AbortSignal.timeout(20_000);

test('a wait ends when the job changes, in another process too', async () => {
  const other = await t.openStore();
  const id = await submit(t.store, manyPaths(10));
  const { revision } = await other.getRevision(id);
  const waits = [t.store, other, other].map((store) => store.waitForChange(id, revision, false, LONG()));
  await begin(t.work, id, 0);
  await Promise.all(waits);
  assert.notEqual((await other.getRevision(id)).revision, revision);
  await t.store.cancel(id);
});

test('a wait that has missed the change ends at once, and so does one for a job that has ended', async () => {
  const id = await submit(t.store, ['a']);
  await t.store.waitForChange(id, 'an older one', false, LONG());
  await finishAll(t.work, id, 1);
  const { revision } = await t.store.getRevision(id);
  await t.store.waitForChange(id, revision, false, LONG());
  await t.store.waitForChange(id, revision, true, LONG());
});

test('a wait for the end ignores progress', async () => {
  const id = await submit(t.store, manyPaths(10));
  const { revision } = await t.store.getRevision(id);
  let ended = false;
  const wait = t.store.waitForChange(id, revision, true, LONG()).then(() => {
    ended = true;
  });
  const run = await begin(t.work, id, 0);
  await t.work.chunks.record(
    run,
    run.files.slice(0, 5).map((file) => result(file)),
  );
  const seen = t.store.waitForChange(id, revision, false, LONG());
  await seen;
  assert.equal(ended, false);
  await t.work.chunks.record(
    run,
    run.files.map((file) => result(file)),
  );
  await wait;
});

test('a wait ends at its abort, and also when no message told of the change', async () => {
  const id = await submit(t.store, ['a']);
  const { revision } = await t.store.getRevision(id);
  const abort = new AbortController();
  const wait = t.store.waitForChange(id, revision, false, abort.signal);
  abort.abort();
  await wait;
  const silent = t.store.waitForChange(id, revision, false, LONG());
  await t.redis.client().hincrby(t.keys.job(id), 'rev', 1);
  await silent;
  await t.store.cancel(id);
});

test('pausing a cache wakes those who wait for its jobs', async () => {
  const id = await submit(t.store, ['a']);
  const { revision } = await t.store.getRevision(id);
  const wait = t.store.waitForChange(id, revision, false, LONG());
  await t.store.pauseCache('nas', 'now');
  await wait;
  await t.store.resumeCache('nas');
  await t.store.cancel(id);
});

test('a wait for a job that is deleted meanwhile ends', async () => {
  const id = await submit(t.store, ['a']);
  const { revision } = await t.store.getRevision(id);
  const wait = t.store.waitForChange(id, revision, true, LONG());
  await t.redis.client().del(t.keys.job(id));
  await wait;
  await assert.rejects(
    t.store.getJob(id),
    (error) => error instanceof BrokerError && error.code === 'JOB_NOT_FOUND',
  );
});

test('progress is told at most four times a second per job, its end at once', async () => {
  const id = await submit(t.store, manyPaths(512));
  const subscriber = t.redis.client();
  const told: string[] = [];
  await subscriber.subscribe(t.keys.changes);
  subscriber.on('message', (_channel, message: string) => {
    if (message.includes(id)) told.push(message);
  });
  const run = await begin(t.work, id, 0);
  const startedAt = Date.now();
  for (const file of run.files) await t.work.chunks.record(run, [result(file)]);
  const seconds = (Date.now() - startedAt) / 1000;
  await until('the last message', () => told.at(-1) === `job ${id} succeeded`);
  assert.ok(told.length <= 4 * seconds + 3, `${told.length} in ${seconds} s`);
});
