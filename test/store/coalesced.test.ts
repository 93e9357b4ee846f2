import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Coalesced } from '../../src/store/coalesced.js';

/** A read that ends when the test says so. */
function reads(apartMs = 0) {
  const open: { resolve: (value: number) => void; reject: (error: Error) => void }[] = [];
  const coalesced = new Coalesced<number>(
    () => new Promise<number>((resolve, reject) => void open.push({ resolve, reject })),
    apartMs,
  );
  /** As many reads were begun. */
  const begun = async (count: number): Promise<void> => {
    while (open.length < count) await delay(1);
    assert.equal(open.length, count);
  };
  return { open, coalesced, begun };
}

test('who asks while a read is under way is not given what it found, but shares the next one', async () => {
  const { open, coalesced, begun } = reads();
  const first = coalesced.get('a');
  const later = [coalesced.get('a'), coalesced.get('a'), coalesced.get('a')];
  assert.equal(open.length, 1);
  open[0]?.resolve(1);
  assert.equal(await first, 1);
  await begun(2);
  open[1]?.resolve(2);
  assert.deepEqual(await Promise.all(later), [2, 2, 2]);
  const again = coalesced.get('a');
  await begun(3);
  open[2]?.resolve(3);
  assert.equal(await again, 3);
});

test('a read that fails fails for those who shared it, and for nobody else', async () => {
  const { open, coalesced, begun } = reads();
  const first = coalesced.get('a');
  const other = coalesced.get('b');
  const second = coalesced.get('a');
  open[0]?.reject(new Error('away'));
  await assert.rejects(first, /away/);
  open[1]?.resolve(7);
  await begun(3);
  open[2]?.resolve(8);
  assert.deepEqual([await other, await second], [7, 8]);
});

test('however many ask, the reads of one key are not closer together than they may be', async () => {
  const { open, coalesced, begun } = reads(40);
  const beganAt = performance.now();
  const answers = [coalesced.get('a')];
  open[0]?.resolve(0);
  // Timers may fire a moment before their time.
  for (let read = 1; performance.now() - beganAt < 150; read++) {
    answers.push(coalesced.get('a'), coalesced.get('a'));
    await begun(read + 1);
    assert.ok(performance.now() - beganAt > read * 40 - read * 2, `${performance.now() - beganAt} ms`);
    open[read]?.resolve(read);
    await answers.at(-1);
  }
  const others = [coalesced.get('b'), coalesced.get('c')];
  for (const [i, { resolve }] of open.entries()) resolve(i);
  assert.equal((await Promise.all(others)).length, 2);
  await Promise.all(answers);
});
