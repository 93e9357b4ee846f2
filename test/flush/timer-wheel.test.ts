import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Alarm, TimerWheel } from '../../src/flush/timer-wheel.js';

class Bell extends Alarm {
  rangAt: number[] = [];
  onRing: () => void = () => {};
  override ring(): void {
    this.rangAt.push(performance.now());
    this.onRing();
  }
}

const rung = (bells: Bell[]) =>
  new Promise<void>((resolve) => {
    let left = bells.length;
    for (const bell of bells) {
      bell.onRing = () => {
        left--;
        if (left === 0) resolve();
      };
    }
  });

describe('the timer wheel', () => {
  it('rings each alarm once, none early, in the order of their time', async () => {
    const wheel = new TimerWheel();
    const delays = [0, 1, 5, 10, 11, 50, 49, 120, 120, 300];
    const bells = delays.map(() => new Bell());
    const startedAt = performance.now();
    const all = rung(bells);
    delays.forEach((delay, i) => {
      wheel.set(bells[i] as Bell, delay);
    });
    assert.equal(wheel.waiting, delays.length);
    await all;
    assert.equal(wheel.waiting, 0);
    for (const [i, bell] of bells.entries()) {
      assert.equal(bell.rangAt.length, 1);
      assert.ok(
        (bell.rangAt[0] as number) - startedAt >= (delays[i] as number),
        `${delays[i]} ms rang early`,
      );
    }
    const order = [...bells.keys()].sort((a, b) => (bells[a]?.rangAt[0] ?? 0) - (bells[b]?.rangAt[0] ?? 0));
    const ticks = order.map((i) => Math.ceil((delays[i] as number) / 10));
    for (let i = 1; i < ticks.length; i++) assert.ok((ticks[i] as number) - (ticks[i - 1] as number) >= -1);
  });

  it('rings alarms that are more than one turn away', async () => {
    const wheel = new TimerWheel();
    const near = new Bell();
    const far = new Bell();
    const startedAt = performance.now();
    const all = rung([near, far]);
    wheel.set(far, 5200);
    wheel.set(near, 80);
    await all;
    assert.ok((far.rangAt[0] as number) - startedAt >= 5200);
    assert.ok((near.rangAt[0] as number) < (far.rangAt[0] as number));
  });

  it('does not ring what was cleared, and moves what is set again', async () => {
    const wheel = new TimerWheel();
    const cleared = new Bell();
    const moved = new Bell();
    const startedAt = performance.now();
    const all = rung([moved]);
    wheel.set(cleared, 10);
    wheel.set(moved, 10);
    wheel.set(moved, 60);
    wheel.clear(cleared);
    wheel.clear(cleared);
    await all;
    assert.deepEqual(cleared.rangAt, []);
    assert.equal(moved.rangAt.length, 1);
    assert.ok((moved.rangAt[0] as number) - startedAt >= 60);
  });

  it('lets an alarm that rings set and clear others, also itself', async () => {
    const wheel = new TimerWheel();
    const first = new Bell();
    const second = new Bell();
    const last = new Bell();
    await new Promise<void>((resolve) => {
      for (const bell of [first, second]) {
        bell.onRing = () => {
          wheel.clear(bell === first ? second : first);
          if (bell.rangAt.length < 3) wheel.set(bell, 0);
          else wheel.set(last, 20);
        };
      }
      last.onRing = resolve;
      wheel.set(first, 20);
      wheel.set(second, 20);
    });
    assert.equal(first.rangAt.length + second.rangAt.length, 3);
    assert.equal(wheel.waiting, 0);
  });

  it('loses none and rings none twice, whatever is set, moved and cleared', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(9), fc.nat(80), fc.boolean()), { maxLength: 60 }),
        async (steps) => {
          const wheel = new TimerWheel();
          const bells = Array.from({ length: 10 }, () => new Bell());
          const due = new Set<Bell>();
          for (const [i, delay, clear] of steps) {
            const bell = bells[i] as Bell;
            if (clear) {
              wheel.clear(bell);
              due.delete(bell);
            } else {
              wheel.set(bell, delay);
              due.add(bell);
            }
          }
          assert.equal(wheel.waiting, due.size);
          if (due.size > 0) await rung([...due]);
          for (const bell of bells) assert.equal(bell.rangAt.length, due.has(bell) ? 1 : 0);
          assert.equal(wheel.waiting, 0);
        },
      ),
      { numRuns: 20 },
    );
  });
});
