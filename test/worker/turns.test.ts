import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Turns } from '../../src/worker/turns.js';

/** Whether it is this chunk's turn: settled promises are told by the next turn of the event loop. */
function taker(turns: Turns, files: number): { begun: boolean } {
  const chunk = { begun: false };
  void turns.take(files).then(() => {
    chunk.begun = true;
  });
  return chunk;
}

const soon = () => new Promise((resolve) => setImmediate(resolve));

test('a chunk begins when those before it can no longer fill the window', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const turns = new Turns(() => 256);
  const first = taker(turns, 512);
  const second = taker(turns, 512);
  await soon();
  assert.deepEqual([first.begun, second.begun], [true, false]);
  turns.ended(191);
  await soon();
  assert.equal(second.begun, false);
  turns.ended(2);
  await soon();
  assert.equal(second.begun, true);
});

test('small chunks begin side by side', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const turns = new Turns(() => 256);
  const chunks = [10, 20, 30].map((files) => taker(turns, files));
  await soon();
  assert.ok(chunks.every(({ begun }) => begun));
});

test('where flushes are slow no chunk waits for long', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const turns = new Turns(() => 2);
  const large = taker(turns, 512);
  const small = taker(turns, 1);
  await soon();
  assert.deepEqual([large.begun, small.begun], [true, false]);
  t.mock.timers.tick(100);
  await soon();
  assert.equal(small.begun, true);
});

test('without slots the first chunk begins all the same, and those behind it in order', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const turns = new Turns(() => 0);
  const chunks = [100, 100, 100].map((files) => taker(turns, files));
  await soon();
  assert.deepEqual(
    chunks.map(({ begun }) => begun),
    [true, false, false],
  );
  turns.ended(100);
  await soon();
  assert.deepEqual(
    chunks.map(({ begun }) => begun),
    [true, true, false],
  );
  turns.ended(100);
  await soon();
  assert.equal(chunks[2]?.begun, true);
});
