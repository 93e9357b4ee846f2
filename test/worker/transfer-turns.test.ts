import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FileTurns } from '../../src/worker/transfer-turns.js';

/** Gives turns for one file at a time to files that end at once, in the order in which they get them. */
async function order(files: readonly { id: string; principal: string }[]): Promise<string[]> {
  const turns = new FileTurns(1);
  const { signal } = new AbortController();
  const seen: string[] = [];
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const all = [turns.run({ id: 'before', principal: 'before' }, signal, () => gate)];
  for (const owner of files) all.push(turns.run(owner, signal, async () => void seen.push(owner.id)));
  release();
  await Promise.all(all);
  return seen;
}

const files = (principal: string, id: string, count: number) =>
  Array.from({ length: count }, () => ({ id, principal }));

test('jobs take turns, a file each, however many files each has', async () => {
  const seen = await order([...files('a', 'many', 4), ...files('a', 'two', 2)]);
  assert.deepEqual(seen, ['many', 'two', 'many', 'two', 'many', 'many']);
});

test('whose principal has the fewest files under way is next, however many jobs another has', async () => {
  const turns = new FileTurns(4);
  const abort = new AbortController();
  const begun: string[] = [];
  const ends: (() => void)[] = [];
  const run = (id: string, principal: string) =>
    turns.run({ id, principal }, abort.signal, () => {
      begun.push(id);
      return new Promise<void>((resolve) => ends.push(resolve));
    });
  const all = Array.from({ length: 8 }, (_, i) => run(`a${i}`, 'alice'));
  all.push(run('b0', 'bob'), run('b0', 'bob'));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(begun, ['a0', 'a1', 'a2', 'a3']);
  for (const more of ['b0', 'b0', 'a4']) {
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(begun.at(-1), more);
  }
  abort.abort();
  for (const end of ends) end();
  await Promise.all(all);
  assert.equal(begun.length, 7);
});
