import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import type { CacheLimits } from '../../src/model/cache.js';
import type { Slots } from '../../src/store/work.js';
import { CacheSlots, type SlotUser } from '../../src/worker/slots.js';
import { until } from '../support/until.js';

interface FakeUser extends SlotUser {
  outstanding: number;
}

function user(): FakeUser {
  const fake: FakeUser = {
    wanted: 0,
    outstanding: 0,
    session: { inFlight: -1, counters: () => ({ outstanding: fake.outstanding }) },
  };
  return fake;
}

/** A store that gives what is wanted up to `free`, and notes what it was asked. */
function lender(free = 100) {
  const asked: { inUse: number; wanted: number }[] = [];
  const lender = {
    asked,
    free,
    paused: false,
    leaseMs: 10_000,
    async leaseSlots(
      _q: string,
      _w: string,
      limits: CacheLimits,
      inUse: number,
      wanted: number,
    ): Promise<Slots> {
      asked.push({ inUse, wanted });
      const slots = lender.paused ? 0 : Math.min(lender.free, wanted);
      return { slots, paused: lender.paused, limits, trial: false, validUntil: Date.now() + lender.leaseMs };
    },
  };
  return lender;
}

function slotsOf(store: ReturnType<typeof lender>, onPaused = () => {}): CacheSlots {
  const log = pino({ level: 'silent' });
  return new CacheSlots({
    caches: store,
    queue: 'q',
    workerId: 'w',
    configured: { inFlight: 100, filesPerSecond: null },
    log,
    onFilesPerSecond: () => {},
    onTrial: () => {},
    onPaused,
  });
}

test('nothing may begin before slots are leased, and no more than leased afterwards', async (t) => {
  const store = lender(30);
  const slots = slotsOf(store);
  t.after(() => slots.close());
  const one = user();
  slots.add(one);
  assert.equal(one.session.inFlight, 0);
  one.wanted = 512;
  slots.changed();
  assert.equal(one.session.inFlight, 0);
  await until('it has slots', () => one.session.inFlight === 30);
  assert.deepEqual(store.asked[0], { inUse: 0, wanted: 512 });
});

test('sessions share what is leased: small wishes in full, the rest in equal parts', async (t) => {
  const store = lender(100);
  const slots = slotsOf(store);
  t.after(() => slots.close());
  const users = [user(), user(), user()];
  for (const each of users) slots.add(each);
  [10, 500, 500].forEach((wanted, i) => {
    (users[i] as FakeUser).wanted = wanted;
  });
  slots.changed();
  await until('all have slots', () => users.every(({ session }) => session.inFlight > 0));
  assert.deepEqual(
    users.map(({ session }) => session.inFlight),
    [10, 45, 45],
  );
});

test('what a session still uses beyond its share the others do without until it ends', async (t) => {
  const store = lender(100);
  const slots = slotsOf(store);
  t.after(() => slots.close());
  const [busy, late] = [user(), user()];
  slots.add(busy);
  busy.wanted = 500;
  slots.changed();
  await until('it has all', () => busy.session.inFlight === 100);
  busy.outstanding = 100;
  slots.add(late);
  late.wanted = 500;
  slots.changed();
  assert.equal(busy.session.inFlight, 50);
  assert.equal(late.session.inFlight, 0);
  busy.outstanding = 70;
  await until('what ended is passed on', () => late.session.inFlight === 30);
  busy.outstanding = 20;
  await until('all of it', () => late.session.inFlight === 50);
});

test('when a lease runs out unrenewed nothing begins, and it goes on with the next', async (t) => {
  const store = lender(40);
  const slots = slotsOf(store);
  t.after(() => slots.close());
  const one = user();
  slots.add(one);
  one.wanted = 40;
  store.leaseMs = 20;
  slots.changed();
  await until('it has slots', () => one.session.inFlight === 40);
  await until('they are void', () => one.session.inFlight === 0);
  store.leaseMs = 10_000;
  await until('it has slots again', () => one.session.inFlight === 40);
});

test('starved of slots it asks again soon; without work it gives them back', async (t) => {
  const store = lender(0);
  const slots = slotsOf(store);
  t.after(() => slots.close());
  const one = user();
  slots.add(one);
  one.wanted = 5;
  slots.changed();
  await until('it has asked twice', () => store.asked.length >= 2);
  store.free = 5;
  await until('it has slots', () => one.session.inFlight === 5);
  one.wanted = 0;
  slots.changed();
  await until('they are given back', () => {
    const last = store.asked.at(-1);
    return last?.inUse === 0 && last.wanted === 0;
  });
});

test('more work gets more slots at once, not at the next renewal', async (t) => {
  const store = lender(100);
  const slots = slotsOf(store);
  t.after(() => slots.close());
  const one = user();
  slots.add(one);
  one.wanted = 5;
  slots.changed();
  await until('it has slots', () => one.session.inFlight === 5);
  one.wanted = 80;
  slots.changed();
  assert.equal(store.asked.length, 2);
  await until('it has more', () => one.session.inFlight === 80);
});

test('a paused cache is told, and a drain leaves nothing to begin', async (t) => {
  const store = lender(50);
  store.paused = true;
  let told = 0;
  const slots = slotsOf(store, () => told++);
  t.after(() => slots.close());
  const one = user();
  slots.add(one);
  one.wanted = 50;
  slots.changed();
  await until('it is told', () => told > 0);
  store.paused = false;
  await until('it has slots', () => one.session.inFlight === 50);
  slots.drain();
  assert.equal(one.session.inFlight, 0);
  slots.resume();
  await until('it has slots again', () => one.session.inFlight === 50);
});
