import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { until } from '../support/until.js';
import {
  bullWorker,
  finishAll,
  manyPaths,
  NAS,
  NAS_QUEUE,
  openTestStore,
  submit,
  type TestStore,
} from './fixture.js';

let t: TestStore;
before(async () => {
  t = await openTestStore();
});
after(() => t.close());

const inFlight = (inFlight: number) => ({ inFlight, filesPerSecond: null });

test('slots over all workers never exceed the limit, whatever they want, use and whenever they ask', async () => {
  const worker = fc.record({
    name: fc.constantFrom('a', 'b', 'c', 'd'),
    wanted: fc.integer({ min: 0, max: 40 }),
    /** How many of the slots it was given are still in use when it asks anew. */
    busy: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  let queues = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 30 }),
      fc.array(worker, { maxLength: 30 }),
      async (limit, asks) => {
        const queue = `q${queues++}`;
        const held = new Map<string, number>();
        for (const { name, wanted, busy } of asks) {
          const inUse = Math.floor((held.get(name) ?? 0) * busy);
          const { slots } = await t.work.caches.leaseSlots(queue, name, inFlight(limit), inUse, wanted);
          assert.ok(slots >= 0 && slots <= wanted);
          held.set(name, Math.max(slots, inUse));
          const sum = [...held.values()].reduce((total, each) => total + each, 0);
          assert.ok(sum <= limit, `${sum} of ${limit}`);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test('a lone worker gets every slot, and two that want all come to half each', async () => {
  const lease = (worker: string, inUse: number, wanted = 1000) =>
    t.work.caches.leaseSlots('fair', worker, inFlight(256), inUse, wanted);
  assert.equal((await lease('a', 0)).slots, 256);
  assert.equal((await lease('b', 0)).slots, 0);
  // The first learns of the second when it renews; its flushes that are under way end one by one.
  assert.equal((await lease('a', 200)).slots, 128);
  assert.equal((await lease('b', 0)).slots, 56);
  assert.equal((await lease('a', 128)).slots, 128);
  assert.equal((await lease('b', 56)).slots, 128);
  // Who wants little gets it, and the rest goes to the other.
  assert.equal((await lease('a', 10, 10)).slots, 10);
  assert.equal((await lease('b', 128)).slots, 246);
  assert.equal((await lease('a', 0, 0)).slots, 0);
  const b = await lease('b', 128);
  assert.equal(b.slots, 256);
  assert.ok(b.validUntil > Date.now() + 5000);
});

test('with fewer slots than workers the one that has waited longest is next', async () => {
  const lease = (worker: string, inUse: number) =>
    t.work.caches.leaseSlots('scarce', worker, inFlight(1), inUse, 5);
  const seen = new Set<string>();
  for (let round = 0; round < 12; round++) {
    for (const worker of ['a', 'b', 'c']) if ((await lease(worker, 0)).slots === 1) seen.add(worker);
  }
  assert.deepEqual([...seen].sort(), ['a', 'b', 'c']);
});

test('the lease of a worker that died is given to others when it has expired', async () => {
  assert.equal((await t.work.caches.leaseSlots('dead', 'a', inFlight(10), 0, 10)).slots, 10);
  const client = t.redis.client();
  const entry = (await client.hget(t.keys.leases('dead'), 'a')) ?? '';
  await client.hset(t.keys.leases('dead'), 'a', entry.replace(/^(\S+ \S+ \S+) \S+/, '$1 1'));
  assert.equal((await t.work.caches.leaseSlots('dead', 'b', inFlight(10), 0, 10)).slots, 10);
});

test('flush starts keep to the rate over all workers, and there is no burst after a pause', async () => {
  const client = t.redis.client();
  const first = await t.work.caches.takeStarts('bucket', 1000, 5000);
  assert.equal(first.granted, 1);
  assert.ok(first.waitMs > 0);
  // An hour without a question fills the bucket to a quarter of a second's worth and no further.
  await client.hset(t.keys.bucket('bucket'), 'at', 0);
  const full = await t.work.caches.takeStarts('bucket', 1000, 5000);
  assert.equal(full.granted, 250);
  assert.ok(full.waitMs >= 50);

  const startedAt = Date.now();
  let granted = 0;
  while (granted < 100) {
    const { granted: now, waitMs } = await t.work.caches.takeStarts('slow', 400, 100 - granted);
    granted += now;
    if (granted < 100) await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
  assert.ok(Date.now() - startedAt >= 240, 'a hundred starts at 400 per second need a quarter of a second');
});

test('limits that an operator sets win over every worker, and go back to the configuration', async () => {
  const lease = () => t.work.caches.leaseSlots(NAS_QUEUE, 'w', NAS.limits, 0, 1000);
  assert.deepEqual((await lease()).limits, NAS.limits);
  const limited = await t.store.limitCache('nas', { inFlight: 7, filesPerSecond: 2.5 });
  assert.deepEqual(limited.limits, { inFlight: 7, filesPerSecond: 2.5 });
  assert.deepEqual(limited.limitsConfigured, NAS.limits);
  const { slots, limits } = await lease();
  assert.equal(slots, 7);
  assert.deepEqual(limits, { inFlight: 7, filesPerSecond: 2.5 });

  const raised = await t.store.limitCache('nas', { inFlight: NAS.limits.inFlight + 100 });
  assert.equal(raised.limits.filesPerSecond, 2.5, 'what is not given stays');
  assert.equal((await lease()).slots, NAS.limits.inFlight + 100);
  assert.equal((await t.store.limitCache('nas', { filesPerSecond: null })).limits.filesPerSecond, null);
  assert.equal((await lease()).limits.filesPerSecond, null);

  assert.deepEqual((await t.store.limitCache('nas', null)).limits, NAS.limits);
  assert.deepEqual((await lease()).limits, NAS.limits);
  await t.work.caches.leaseSlots(NAS_QUEUE, 'w', NAS.limits, 0, 0);
  await assert.rejects(t.store.limitCache('nowhere', null), { code: 'CACHE_NOT_FOUND' });
});

test('a cache that does not answer holds its queue with growing pauses, and its jobs say so', async () => {
  await t.work.caches.serves(NAS_QUEUE, 'worker', true);
  const id = await submit(t.store, ['a']);
  const before = await t.store.getRevision(id);
  const hold = await t.work.caches.hold(
    NAS_QUEUE,
    'UNREACHABLE',
    'Connection to 10.0.0.1 port 2049 was refused.',
  );
  assert.equal(hold.tries, 1);
  // Several chunks tell of the same outage: that is one pause.
  assert.deepEqual(
    await t.work.caches.hold(NAS_QUEUE, 'UNREACHABLE', 'Connection to 10.0.0.1 port 2049 was refused.'),
    hold,
  );
  assert.deepEqual(await t.work.caches.getHold(NAS_QUEUE), hold);
  const job = await t.store.getJob(id);
  assert.match(
    job.statusDetail ?? '',
    /^Cache nas has been unreachable since .*Z \(Connection to 10.0.0.1 port 2049 was refused\); its queue holds and is/,
  );
  assert.notEqual(job.revision, before.revision);
  const cache = await t.store.getCache('nas');
  assert.deepEqual(
    [cache.health, cache.healthDetail],
    ['down', 'Connection to 10.0.0.1 port 2049 was refused.'],
  );

  const client = t.redis.client();
  let pauseMs = 0;
  for (let tries = 2; tries < 9; tries++) {
    await client.hset(t.keys.cache(NAS_QUEUE), 'holdUntil', 1);
    const next = await t.work.caches.hold(NAS_QUEUE, 'UNREACHABLE', 'still away');
    assert.equal(next.tries, tries);
    const now = next.until - Date.now();
    assert.ok(now > pauseMs || now > 29_000, `${now} after ${pauseMs}`);
    assert.ok(now <= 30_100);
    pauseMs = now;
  }
  assert.ok((await client.pttl(`{test}:${NAS_QUEUE}:limiter`)) > 0);
  await t.work.caches.up(NAS_QUEUE);
  assert.equal(
    await client.exists(`{test}:${NAS_QUEUE}:limiter`),
    0,
    'BullMQ gives out chunks again at once',
  );
  assert.equal(await t.work.caches.getHold(NAS_QUEUE), null);
  assert.equal((await t.store.getCache('nas')).health, 'up');
  assert.equal((await t.store.getJob(id)).statusDetail, null);
  const { revision } = await t.store.getRevision(id);
  await t.work.caches.up(NAS_QUEUE);
  assert.equal((await t.store.getRevision(id)).revision, revision);
  await finishAll(t.work, id, 1);
});

test('while a queue is held BullMQ gives out nothing of it', async () => {
  const { until: heldUntil } = await t.work.caches.hold(NAS_QUEUE, 'UNREACHABLE', 'away');
  const id = await submit(t.store, ['a']);
  const takenAt: number[] = [];
  const end = bullWorker(t, NAS_QUEUE, async () => {
    takenAt.push(Date.now());
  });
  await until('the end of the hold', () => takenAt.length > 0);
  await end();
  // Timers of BullMQ and Redis round to the millisecond.
  assert.ok((takenAt[0] as number) >= heldUntil - 2);
  await t.work.caches.up(NAS_QUEUE);
  await t.store.cancel(id);
});

test('a paused queue gives out nothing, and what it has when it is resumed', async () => {
  await t.store.pauseCache('nas', 'maintenance');
  const id = await submit(t.store, ['a']);
  const taken: unknown[] = [];
  const end = bullWorker(t, NAS_QUEUE, async (item) => {
    taken.push(item);
  });
  assert.match((await t.store.getJob(id)).statusDetail ?? '', /paused: maintenance/);
  await t.sweeper.sweep();
  assert.deepEqual(taken, []);
  await t.store.resumeCache('nas');
  await until('the chunk', () => taken.some((item) => (item as { jobId: string }).jobId === id));
  await end();
  await t.store.cancel(id);
});

test('BullMQ follows our record of a pause, should the second of the two steps have failed', async () => {
  const client = t.redis.client();
  await submit(t.store, ['a']);
  await client.hset(t.keys.cache(NAS_QUEUE), 'paused', '1');
  await until('the pause', async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await t.sweeper.sweep();
    return (await client.hget(`{test}:${NAS_QUEUE}:meta`, 'paused')) === '1';
  });
  await t.store.resumeCache('nas');
});

test('chunks of a small job do not wait for those of a large one', async () => {
  await t.store.pauseCache('nas', 'for the test');
  const large = await submit(t.store, manyPaths(6000));
  const small = await submit(t.store, ['a']);
  const order: string[] = [];
  const end = bullWorker(t, NAS_QUEUE, async (item) => {
    order.push(item.jobId);
    const run = 'chunk' in item ? await t.work.chunks.begin(item.jobId, item.chunk) : null;
    if (run) await t.work.chunks.release(run);
  });
  await t.store.resumeCache('nas');
  await until('all chunks', () => order.filter((jobId) => jobId === large).length === 12);
  await end();
  const mine = order.filter((jobId) => jobId === large || jobId === small);
  // Behind the first chunk of the one that its principal submitted before, and beside the next.
  assert.ok(mine.indexOf(small) <= 2, `${mine.indexOf(small)}`);
  await t.store.cancel(large);
  await t.store.cancel(small);
});

test('a new queue is told to those who watch', async () => {
  const seen: string[] = [];
  const stop = t.work.watchQueues((queues) =>
    seen.push(...queues.map((owner) => (owner.kind === 'cache' ? owner.cache : owner.node))),
  );
  await until('the first look', () => seen.length > 0);
  const config = { ...NAS, addresses: ['127.0.0.7'] };
  const id = await submit(t.store, ['a'], { cache: '127.0.0.7', adHocCache: config });
  await until('the new queue', () => seen.includes('127.0.0.7'));
  stop();
  await t.store.cancel(id);
});

test('that a target has shown the dialect is remembered', async () => {
  assert.equal(await t.work.caches.isDialectProven(NAS_QUEUE, NAS), false);
  await t.work.caches.setDialectProven(NAS_QUEUE, NAS);
  assert.equal(await t.work.caches.isDialectProven(NAS_QUEUE, NAS), true);
  assert.equal((await t.store.getCache('nas')).dialectProven, true);
  // What took its place under the same name may be a plain server.
  const moved = [
    { ...NAS, addresses: ['10.0.0.2'] },
    { ...NAS, ports: { ...NAS.ports, nfs: 2050 } },
  ];
  for (const config of moved) {
    assert.equal(await t.work.caches.isDialectProven(NAS_QUEUE, config), false);
    const store = await t.openStore({ caches: [config] });
    assert.equal((await store.getCache('nas')).dialectProven, false);
  }
});
