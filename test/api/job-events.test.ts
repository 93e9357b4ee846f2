import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { JOB_EXAMPLE } from '../../src/api/examples.js';
import { JobEvents } from '../../src/api/job-events.js';
import type { Job } from '../../src/model/job.js';
import type { JobStore, Revision } from '../../src/store/types.js';

/** A store with one job that changes when told, and counts what it is asked. */
function changingJob() {
  let revision = 1;
  let change = (): void => {};
  const asked = { jobs: 0, waits: 0 };
  const shown = (): Job & Revision => ({
    ...JOB_EXAMPLE,
    state: 'running',
    statusDetail: `change ${revision}`,
    revision: String(revision),
  });
  const store = {
    async getJob() {
      asked.jobs++;
      return shown();
    },
    async waitForChange(_id: string, since: string, _untilTerminal: boolean, signal: AbortSignal) {
      asked.waits++;
      if (since !== String(revision) || signal.aborted) return;
      await new Promise<void>((resolve) => {
        change = resolve;
        signal.addEventListener('abort', () => resolve());
      });
    },
  } as unknown as JobStore;
  return {
    store,
    shown,
    asked,
    changes() {
      revision++;
      change();
    },
  };
}

const never = new AbortController().signal;

async function text(events: AsyncGenerator<string | Buffer>): Promise<string> {
  const { value, done } = await events.next();
  assert.ok(!done);
  return String(value);
}

test('a connection on which nothing happens is kept alive by a comment every 15 seconds', async (t) => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  t.after(() => mock.timers.reset());
  const { store, shown } = changingJob();
  const events = new JobEvents(store).listen(shown(), '1', never);
  assert.match(await text(events), /^retry: \d+/);
  // What is known is not told again, but something is said, so that a proxy passes the answer on.
  assert.equal(await text(events), ': ping\n\n');
  for (let ping = 0; ping < 3; ping++) {
    let told: string | null = null;
    const waiting = text(events).then((event) => {
      told = event;
    });
    await nextTurn();
    mock.timers.tick(14_999);
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    assert.equal(told, null);
    mock.timers.tick(1);
    await waiting;
    assert.equal(told, ': ping\n\n');
  }
  await events.return(undefined);
});

test('a job that changes all the time is told at most four times a second', async (t) => {
  const { store, shown, changes } = changingJob();
  // Also keeps the process: the pauses between events do not.
  const busy = setInterval(changes, 1);
  t.after(() => clearInterval(busy));
  const events = new JobEvents(store).listen(shown(), undefined, never);
  await text(events);
  const begunAt = Date.now();
  const told = new Set<string>();
  for (let event = 0; event < 5; event++) told.add(await text(events));
  assert.equal(told.size, 5);
  // The first comes at once; clocks of timers round.
  assert.ok(Date.now() - begunAt >= 4 * 250 - 10, `${Date.now() - begunAt} ms`);
  await events.return(undefined);
});

test('a listener that does not read costs nothing, and hears of the newest state when it reads again', async (t) => {
  const { store, shown, asked, changes } = changingJob();
  const events = new JobEvents(store).listen(shown(), undefined, never);
  await text(events);
  assert.match(await text(events), /"change 1"/);
  const before = { ...asked };
  for (let change = 0; change < 500; change++) {
    changes();
    await nextTurn();
  }
  assert.deepEqual(asked, before);
  const busy = setInterval(() => {}, 1000);
  t.after(() => clearInterval(busy));
  assert.match(await text(events), /"change 501"/);
  assert.equal(asked.jobs, before.jobs + 1);
  await events.return(undefined);
});

test('however many listen to a job, each change is read once and its text made once, also for one who comes meanwhile', async (t) => {
  const { store, shown, asked, changes } = changingJob();
  const jobEvents = new JobEvents(store);
  // Keeps the process: the pauses between events do not.
  const busy = setInterval(() => {}, 1000);
  t.after(() => clearInterval(busy));
  const listeners = Array.from({ length: 50 }, () => jobEvents.listen(shown(), undefined, never));
  for (const events of listeners) await text(events);
  for (const events of listeners) assert.match(await text(events), /"change 1"/);
  const waiting = listeners.map((events) => events.next());
  changes();
  const told = (await Promise.all(waiting)).map(({ value }) => value);
  assert.match(String(told[0]), /"change 2"/);
  assert.equal(new Set(told).size, 1);
  assert.deepEqual(asked, { jobs: 1, waits: 1 });

  // One that did not read while the others did is told what they know already.
  const [slow, ...others] = listeners as [(typeof listeners)[0], ...typeof listeners];
  const next = others.map((events) => text(events));
  changes();
  for (const event of await Promise.all(next)) assert.match(event, /"change 3"/);
  const nothingNew = others.map((events) => text(events));
  assert.match(await text(slow), /"change 3"/);
  changes();
  for (const event of await Promise.all(nothingNew)) assert.match(event, /"change 4"/);
  await Promise.all(listeners.map((events) => events.return(undefined)));
});
