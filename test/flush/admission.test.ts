import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Admission } from '../../src/flush/admission.js';
import { TimerWheel } from '../../src/flush/timer-wheel.js';
import { until } from '../support/until.js';

function candidates(count: number) {
  const admitted: number[] = [];
  const run = {};
  const all = Array.from({ length: count }, (_, i) => ({ run, admitted: () => admitted.push(i) }));
  return { admitted, all };
}

describe('admission', () => {
  it('lets in as many as there are slots, the others in their order as slots become free', () => {
    const admission = new Admission(new TimerWheel(), 2, null, null);
    const { admitted, all } = candidates(5);
    assert.deepEqual(
      all.map((candidate) => admission.enter(candidate)),
      [true, true, false, false, false],
    );
    admission.leave();
    assert.deepEqual(admitted, [2]);
    admission.withdraw(all[3] as (typeof all)[0]);
    admission.leave();
    assert.deepEqual(admitted, [2, 4]);
    assert.equal(admission.outstanding, 2);
    assert.equal(admission.maxOutstanding, 2);
  });

  it('lets runs take turns, however many files each has waiting', () => {
    const admission = new Admission(new TimerWheel(), 0, null, null);
    const admitted: string[] = [];
    const [many, two, one] = [{}, {}, {}];
    const enter = (run: object, name: string) =>
      admission.enter({ run, admitted: () => admitted.push(name) });
    for (let i = 0; i < 5; i++) enter(many, `many ${i}`);
    enter(two, 'two 0');
    enter(two, 'two 1');
    enter(one, 'one 0');
    admission.slots = 5;
    assert.deepEqual(admitted, ['many 0', 'two 0', 'one 0', 'many 1', 'two 1']);
    assert.equal(admission.waiting, 3);
    admission.slots = 100;
    assert.deepEqual(admitted.slice(5), ['many 2', 'many 3', 'many 4']);
    assert.equal(admission.waiting, 0);
  });

  it('follows its number of slots while files wait and flushes run', () => {
    const admission = new Admission(new TimerWheel(), 0, null, null);
    const { admitted, all } = candidates(4);
    for (const candidate of all) assert.equal(admission.enter(candidate), false);
    admission.slots = 3;
    assert.deepEqual(admitted, [0, 1, 2]);
    admission.slots = 1;
    admission.leave();
    admission.leave();
    assert.deepEqual(admitted, [0, 1, 2]);
    admission.leave();
    assert.deepEqual(admitted, [0, 1, 2, 3]);
  });

  it('begins no more per second than allowed', async () => {
    const wheel = new TimerWheel();
    const admission = new Admission(wheel, 1000, 100, null);
    const { admitted, all } = candidates(30);
    const startedAt = performance.now();
    const at = all.filter((candidate) => admission.enter(candidate)).length;
    assert.equal(at, 1);
    await until('29 to be admitted', () => admitted.length === 29);
    // 29 more at 100 per second; nothing was saved up before the first.
    assert.ok(performance.now() - startedAt >= 280);
    assert.equal(wheel.waiting, 0);
  });

  it('takes a new rate at once', async () => {
    const admission = new Admission(new TimerWheel(), 1000, 0.001, null);
    const { admitted, all } = candidates(3);
    for (const candidate of all) admission.enter(candidate);
    assert.deepEqual(admitted, []);
    admission.perSecond = null;
    assert.deepEqual(admitted, [1, 2]);
  });

  it('begins what a common source of starts grants, and asks again when told to', async () => {
    const asked: number[] = [];
    const grants = [2, 0, 3];
    const admission = new Admission(new TimerWheel(), 4, null, async (wanted) => {
      asked.push(wanted);
      const granted = Math.min(wanted, grants.shift() ?? 0);
      return { granted, waitMs: granted < wanted ? 10 : 0 };
    });
    const { admitted, all } = candidates(5);
    for (const candidate of all) assert.equal(admission.enter(candidate), false);
    await until('four to be admitted', () => admitted.length === 4);
    assert.deepEqual(admitted, [0, 1, 2, 3]);
    assert.ok(asked.every((wanted) => wanted >= 1 && wanted <= 4));
    assert.equal(admission.outstanding, 4);
  });

  it('survives a source of starts that fails', async () => {
    let failures = 0;
    const admission = new Admission(new TimerWheel(), 4, null, async () => {
      if (failures++ === 0) throw new Error('away');
      return { granted: 1, waitMs: 0 };
    });
    const { admitted, all } = candidates(1);
    for (const candidate of all) admission.enter(candidate);
    await until('one to be admitted', () => admitted.length === 1);
    assert.equal(failures, 2);
  });

  it('holds no timer when nobody waits', () => {
    const wheel = new TimerWheel();
    const admission = new Admission(wheel, 1000, 0.001, null);
    const { all } = candidates(2);
    for (const candidate of all) admission.enter(candidate);
    assert.equal(wheel.waiting, 1);
    admission.withdraw(all[1] as (typeof all)[0]);
    assert.equal(wheel.waiting, 0);
  });
});
