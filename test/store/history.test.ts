import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cacheHistory } from '../../src/store/history.js';
import { finishAll, manyPaths, NAS_QUEUE, openTestStore, result, submit } from './fixture.js';

const MINUTE_MS = 60_000;

test('the last hour of a cache counts each file that ended once, by minute, with its bytes', async (t) => {
  const test = await openTestStore();
  t.after(() => test.close());
  const id = await submit(test.store, manyPaths(600));
  const outcome = (file: { index: number; path: string }) =>
    result(file, file.index < 10 ? { state: 'failed' } : { size: 1000 });
  await finishAll(test.work, id, 2, outcome);
  const { items, filesPerSecond } = await test.store.cacheHistory('nas');
  assert.equal(items.length, 60);
  const sum = (of: (item: (typeof items)[number]) => number) => items.reduce((all, one) => all + of(one), 0);
  assert.deepEqual(
    [sum((one) => one.filesSucceeded), sum((one) => one.filesFailed), sum((one) => one.bytes)],
    [590, 10, 590_000],
  );
  assert.ok(filesPerSecond > 0 && filesPerSecond <= 10);
  const kept = await test.redis.client().hkeys(test.keys.cache(NAS_QUEUE));
  assert.ok(kept.filter((field) => field.startsWith('minute:')).length <= 2);
  assert.ok((await test.store.getCache('nas')).slotsLeased === 0);
});

test('what is older than an hour is not shown, whatever still stands in its place', () => {
  const now = Date.UTC(2026, 0, 31, 12, 0, 30);
  const minute = now / MINUTE_MS - 0.5;
  const values: (string | null)[] = Array.from({ length: 60 }, () => null);
  values[minute % 60] = `${minute} 30 0 3000`;
  values[(minute - 1) % 60] = `${minute - 1} 50 10 6000`;
  values[(minute - 59) % 60] = `${minute - 59} 1 0 7`;
  values[(minute - 2) % 60] = `${minute - 62} 99 99 99`;
  const { items, filesPerSecond, bytesPerSecond } = cacheHistory(values, now);
  assert.deepEqual(items[59], {
    at: '2026-01-31T12:00:00.000Z',
    filesSucceeded: 30,
    filesFailed: 0,
    bytes: 3000,
  });
  assert.deepEqual(items[58], {
    at: '2026-01-31T11:59:00.000Z',
    filesSucceeded: 50,
    filesFailed: 10,
    bytes: 6000,
  });
  assert.equal(items[57]?.filesFailed, 0);
  assert.deepEqual(items[0]?.bytes, 7);
  // Half of the minute is over: it, and half of the one before.
  assert.equal(filesPerSecond, (30 + 60 / 2) / 60);
  assert.equal(bytesPerSecond, (3000 + 6000 / 2) / 60);
});
