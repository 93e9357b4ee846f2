import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BrokerError } from '../../src/model/errors.js';
import { type JobOwner, NO_QUOTAS, type Quotas } from '../../src/model/principal.js';
import type { CommitOptions, JobStore } from '../../src/store/types.js';
import { addAll, manyPaths, newJob, openTestStore, result, type TestStore } from './fixture.js';

let t: TestStore;
before(async () => {
  t = await openTestStore();
});
after(() => t.close());

function owner(name: string, quotas: Partial<Quotas> = {}): JobOwner {
  return { name, identity: null, quotas: { ...NO_QUOTAS, ...quotas } };
}

async function ask(
  store: JobStore,
  whose: JobOwner,
  files: number,
  { key, ...options }: CommitOptions & { key?: string } = {},
) {
  const intake = store.openIntake(whose);
  try {
    if (key !== undefined) await intake.claim(key);
    await addAll(intake, manyPaths(files));
    return await intake.commit(newJob(), options);
  } catch (error) {
    await intake.abort();
    throw error;
  }
}

const refused = (error: unknown) => {
  assert.ok(error instanceof BrokerError, String(error));
  assert.equal(error.code, 'QUOTA_EXCEEDED');
  assert.ok(error.retryAfterSeconds);
  return true;
};

async function usage(name: string): Promise<Record<string, string>> {
  return t.redis.client().hgetall(`${t.keys.tag}:usage:${name}`);
}

test('the same key of two principals is two keys, and nobody joins the job of another', async () => {
  const options = { key: 'nightly', join: true };
  const first = await ask(t.store, owner('ada'), 10, options);
  const other = await ask(t.store, owner('ben'), 10, options);
  assert.deepEqual([first.accepted, other.accepted], ['made', 'made']);
  assert.notEqual(first.id, other.id);
  assert.deepEqual([first.principal, other.principal], ['ada', 'ben']);
  assert.equal((await ask(t.store, owner('ada'), 10, options)).id, first.id);
  assert.equal((await ask(t.store, owner('ben'), 10, { join: true })).id, other.id);
});

test('a principal finds its own jobs among many of others', async () => {
  for (let i = 0; i < 5; i++) await ask(t.store, owner('crowd'), 1 + i);
  const mine = await ask(t.store, owner('single'), 3);
  const page = await t.store.listJobs({ principal: 'single' }, null, 10);
  assert.deepEqual([page.items.map(({ id }) => id), page.nextCursor], [[mine.id], null]);
  assert.equal(await t.store.ownerOf(mine.id), 'single');
  const first = await t.store.listJobs({ principal: 'crowd' }, null, 3);
  const second = await t.store.listJobs({ principal: 'crowd' }, first.nextCursor, 3);
  assert.deepEqual([first.items.length, second.items.length, second.nextCursor], [3, 2, null]);
});

test('quotas hold exactly over several processes, whoever asks at the same time', async () => {
  const stores = [t.store, await t.openStore(), await t.openStore()];
  const asked = (files: number, quotas: Partial<Quotas>, name: string) =>
    Promise.allSettled(
      Array.from({ length: 30 }, (_, i) =>
        ask(stores[i % stores.length] as JobStore, owner(name, quotas), files),
      ),
    );
  for (const [name, files, quotas, expected] of [
    ['jobs7', 3, { runningJobs: 7 }, 7],
    ['files100', 9, { queuedFiles: 100 }, 11],
  ] as const) {
    const answers = await asked(files, quotas, name);
    assert.equal(answers.filter(({ status }) => status === 'fulfilled').length, expected, name);
    for (const answer of answers) if (answer.status === 'rejected') refused(answer.reason);
    assert.deepEqual(await usage(name), {
      jobsQueued: String(expected),
      jobsActive: String(expected),
      filesQueued: String(expected * files),
    });
  }
});

test('a quota is not used by an answer that makes no work', async () => {
  const whose = owner('replay', { runningJobs: 1, queuedFiles: 5 });
  const first = await ask(t.store, whose, 5, { key: 'k', join: true });
  for (const options of [{ key: 'k' }, { join: true }, { key: 'k2', join: true }]) {
    assert.equal((await ask(t.store, whose, 5, options)).id, first.id);
  }
  await assert.rejects(ask(t.store, whose, 4), refused);
  await assert.rejects(ask(t.store, owner('replay2', { queuedFiles: 4 }), 5), refused);
  assert.deepEqual(await usage('replay2'), {});
});

test('what ends is given back, in whatever way it ends', async () => {
  const whose = owner('ends', { runningJobs: 1 });
  const done = await ask(t.store, whose, 600);
  for (const chunk of [0, 1]) {
    const run = await t.work.chunks.begin(done.id, chunk);
    assert.ok(run);
    // Given back and begun anew: it waits again, and is not counted twice.
    await t.work.chunks.release(run);
    const again = await t.work.chunks.begin(done.id, chunk);
    assert.ok(again);
    await t.work.chunks.record(
      again,
      again.files.map((file) => result(file)),
    );
    await t.work.chunks.record(
      again,
      again.files.map((file) => result(file)),
    );
  }
  assert.equal((await t.store.getJob(done.id)).state, 'succeeded');
  assert.deepEqual(await usage('ends'), {});

  const canceled = await ask(t.store, whose, 600);
  await t.work.chunks.begin(canceled.id, 0);
  assert.equal((await usage('ends')).filesQueued, '88');
  await t.store.cancel(canceled.id);
  assert.equal((await usage('ends')).filesQueued, undefined);
  // Its worker is gone; the sweeper settles what that had in hand.
  for (let i = 0; i < 50 && (await t.store.getJob(canceled.id)).state !== 'canceled'; i++)
    await t.sweeper.sweep();
  assert.deepEqual(await usage('ends'), {});
  assert.equal((await ask(t.store, whose, 1)).accepted, 'made');
});

test('requests are counted over all processes, by the minute', async () => {
  const other = await t.openStore();
  const waits: number[] = [];
  for (let i = 0; i < 12; i++) waits.push(await (i % 2 ? other : t.store).countRequest('busy', 10));
  assert.deepEqual(waits.slice(0, 10), Array(10).fill(0));
  for (const wait of waits.slice(10)) assert.ok(wait > 0 && wait <= 60_000, String(wait));
  assert.equal(await t.store.countRequest('idle', 10), 0);
});
