import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Coalesced } from '../../src/store/coalesced.js';

/** A read that ends when the test says so. */
function reads() {
  const open: { resolve: (value: number) => void; reject: (error: Error) => void }[] = [];
  const coalesced = new Coalesced<number>(
    () => new Promise<number>((resolve, reject) => void open.push({ resolve, reject })),
  );
  return { open, coalesced };
}

test('who asks while a read is under way is not given what it found, but shares the next one', async () => {
  const { open, coalesced } = reads();
  const first = coalesced.get('a');
  const later = [coalesced.get('a'), coalesced.get('a'), coalesced.get('a')];
  assert.equal(open.length, 1);
  open[0]?.resolve(1);
  assert.equal(await first, 1);
  assert.equal(open.length, 2);
  open[1]?.resolve(2);
  assert.deepEqual(await Promise.all(later), [2, 2, 2]);
  const again = coalesced.get('a');
  assert.equal(open.length, 3);
  open[2]?.resolve(3);
  assert.equal(await again, 3);
});

test('a read that fails fails for those who shared it, and for nobody else', async () => {
  const { open, coalesced } = reads();
  const first = coalesced.get('a');
  const other = coalesced.get('b');
  const second = coalesced.get('a');
  open[0]?.reject(new Error('away'));
  await assert.rejects(first, /away/);
  open[1]?.resolve(7);
  open[2]?.resolve(8);
  assert.deepEqual([await other, await second], [7, 8]);
});
