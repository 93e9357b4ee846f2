import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Clock } from '../../src/copy/clock.js';
import { BandwidthLimit, CpuLimit, Throttle } from '../../src/copy/throttle.js';

const MIB = 1024 * 1024;

/** Time that passes only when somebody waits, in whole milliseconds as timers do, or when told so. */
class HandClock implements Clock {
  #nowMs = 0;
  readonly #waiting: { atMs: number; wake: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  wait(ms: number, wake: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (wake.aborted) return resolve();
      const waiter = { atMs: this.#nowMs + Math.max(1, Math.ceil(ms)), wake: resolve };
      this.#waiting.push(waiter);
      wake.addEventListener('abort', () => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        resolve();
      });
    });
  }

  /** Something that takes time without waiting for this clock. */
  pass(ms: number): void {
    this.#nowMs += ms;
  }

  /** Lets time pass up to `atMs`, waking everybody in turn. */
  async runTo(atMs: number): Promise<void> {
    for (;;) {
      await settled();
      this.#waiting.sort((a, b) => a.atMs - b.atMs);
      const next = this.#waiting[0];
      if (next === undefined || next.atMs > atMs) break;
      this.#waiting.shift();
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.wake();
    }
    this.#nowMs = Math.max(this.#nowMs, atMs);
  }
}

/** After everything that can go on without time passing has done so. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

const never = new AbortController().signal;

interface Sample {
  atMs: number;
  bytes: number;
}

/** The most and the least bytes in any window of `windowMs` between two samples. */
function extremes(
  samples: Sample[],
  windowMs: number,
  fromMs: number,
  toMs: number,
): { most: number; least: number } {
  let most = 0;
  let least = Number.POSITIVE_INFINITY;
  for (let startMs = fromMs; startMs + windowMs <= toMs; startMs += 25) {
    const bytes = samples
      .filter(({ atMs }) => atMs >= startMs && atMs < startMs + windowMs)
      .reduce((sum, sample) => sum + sample.bytes, 0);
    most = Math.max(most, bytes);
    least = Math.min(least, bytes);
  }
  return { most, least };
}

describe('the bandwidth limit', () => {
  for (const { rate, copies, storage } of [
    { rate: 50 * MIB, copies: 1, storage: 'fast' },
    { rate: 50 * MIB, copies: 4, storage: 'uneven' },
    { rate: 200 * MIB, copies: 4, storage: 'fast' },
    { rate: 100_000, copies: 1, storage: 'uneven' },
    { rate: 1000, copies: 3, storage: 'fast' },
  ]) {
    test(`${rate} bytes per second hold within 5 % in any 5 s: ${copies} copies, ${storage} storage`, async () => {
      const clock = new HandClock();
      const limit = new BandwidthLimit(rate, clock);
      const samples: Sample[] = [];
      const stop = new AbortController();
      let bursts = 0;
      const all = Array.from({ length: copies }, async () => {
        for (;;) {
          const bytes = await limit.take(MIB, stop.signal);
          if (bytes === 0) return;
          samples.push({ atMs: clock.nowMs(), bytes });
          // Now and then storage is late: what was missed meanwhile may be caught up, but no more than that.
          if (storage === 'uneven' && ++bursts % 17 === 0) clock.pass(100);
        }
      });
      await clock.runTo(20_000);
      stop.abort();
      await Promise.all(all);
      const { most, least } = extremes(samples, 5000, 0, 20_000);
      assert.ok(most <= rate * 5 * 1.05, `${most} in 5 s`);
      assert.ok(least >= rate * 5 * 0.95, `${least} in 5 s`);
    });
  }

  test('it starts empty: nothing is given before it was earned', async () => {
    const clock = new HandClock();
    const limit = new BandwidthLimit(1000, clock);
    let got = 0;
    void limit.take(50, never).then((bytes) => {
      got = bytes;
    });
    await clock.runTo(49);
    assert.equal(got, 0);
    await clock.runTo(51);
    assert.equal(got, 50);
  });

  test('a long rest earns no more than a fraction of a second', async () => {
    const clock = new HandClock();
    const limit = new BandwidthLimit(1000, clock);
    clock.pass(3_600_000);
    assert.ok((await limit.take(MIB, never)) <= 150);
  });

  test('a change counts at once, also for who is waiting', async () => {
    const clock = new HandClock();
    const limit = new BandwidthLimit(1, clock);
    const results: number[] = [];
    const taking = (async () => {
      for (let i = 0; i < 3; i++) results.push(await limit.take(MIB, never));
    })();
    await clock.runTo(500);
    assert.deepEqual(results, []);
    limit.bytesPerSecond = 1_000_000;
    await clock.runTo(551);
    assert.equal(results.length, 1);
    limit.bytesPerSecond = null;
    await clock.runTo(552);
    await taking;
    assert.deepEqual(results.slice(1), [MIB, MIB]);
  });

  test('less than a byte per burst still gets through, one byte at a time', async () => {
    const clock = new HandClock();
    const limit = new BandwidthLimit(0.5, clock);
    let bytes = 0;
    const stop = new AbortController();
    const taking = (async () => {
      for (;;) {
        const taken = await limit.take(100, stop.signal);
        if (taken === 0) return;
        bytes += taken;
      }
    })();
    await clock.runTo(20_100);
    stop.abort();
    await taking;
    assert.equal(bytes, 10);
  });

  test('an abort ends the wait with nothing', async () => {
    const stop = new AbortController();
    const taking = new BandwidthLimit(1, new HandClock()).take(100, stop.signal);
    stop.abort();
    assert.equal(await taking, 0);
  });

  test('zero, negative and endless limits are refused', () => {
    for (const wrong of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.throws(() => new BandwidthLimit(wrong), RangeError);
      assert.throws(() => new CpuLimit(wrong), RangeError);
    }
  });
});

describe('the CPU share', () => {
  for (const { percent, cpuMs, storageMs } of [
    { percent: 10, cpuMs: 1, storageMs: 0 },
    { percent: 10, cpuMs: 1, storageMs: 4 },
    { percent: 50, cpuMs: 3, storageMs: 1 },
    { percent: 2, cpuMs: 20, storageMs: 10 },
  ]) {
    test(`${percent} % hold within a tenth for bursts of ${cpuMs} ms with ${storageMs} ms of waiting for storage`, async () => {
      const clock = new HandClock();
      let used = 0;
      const limit = new CpuLimit(percent, clock, () => used);
      const stop = new AbortController();
      const samples: Sample[] = [];
      const running = (async () => {
        for (;;) {
          await limit.ready(stop.signal);
          if (stop.signal.aborted) return;
          used += cpuMs;
          samples.push({ atMs: clock.nowMs(), bytes: cpuMs });
          clock.pass(cpuMs + storageMs);
        }
      })();
      await clock.runTo(60_000);
      stop.abort();
      await running;
      const { most, least } = extremes(samples, 20_000, 1000, 60_000);
      assert.ok(most <= 200 * percent * 1.1, `${most} ms in 20 s`);
      assert.ok(least >= 200 * percent * 0.9, `${least} ms in 20 s`);
    });
  }

  test('waiting for storage costs nothing: a slow disk is used all the time', async () => {
    const clock = new HandClock();
    let used = 0;
    const limit = new CpuLimit(20, clock, () => used);
    for (let i = 0; i < 100; i++) {
      await limit.ready(never);
      used += 1;
      clock.pass(10);
    }
    assert.equal(clock.nowMs(), 1000);
  });

  test('a change counts at once, also for who is waiting', async () => {
    const clock = new HandClock();
    let used = 0;
    const limit = new CpuLimit(1, clock, () => used);
    used = 1000;
    let ready = false;
    void limit.ready(never).then(() => {
      ready = true;
    });
    await clock.runTo(1000);
    assert.equal(ready, false);
    limit.percent = null;
    await settled();
    assert.equal(ready, true);
  });

  test('both limits hold together', async () => {
    const clock = new HandClock();
    let used = 0;
    const throttle = new Throttle(new BandwidthLimit(10 * MIB, clock), new CpuLimit(1, clock, () => used));
    assert.ok(throttle.limited);
    const stop = new AbortController();
    let bytes = 0;
    const running = (async () => {
      for (;;) {
        const burst = await throttle.nextBurst(MIB, stop.signal);
        if (burst === 0) return;
        bytes += burst;
        used += 2;
        clock.pass(2);
      }
    })();
    await clock.runTo(10_000);
    stop.abort();
    await running;
    assert.ok(used <= 110, `${used} ms of CPU`);
    assert.ok(bytes <= 10 * 10 * MIB * 1.02);
  });
});
