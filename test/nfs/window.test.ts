import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AdaptiveWindow, MAX_WINDOW, MIN_WINDOW } from '../../src/nfs/window.js';

function windowAt(): { window: AdaptiveWindow; clock: { now: number } } {
  const clock = { now: 0 };
  return { window: new AdaptiveWindow(() => clock.now), clock };
}

function replies(window: AdaptiveWindow, count: number, roundTripMs: number | null, full = true): void {
  for (let i = 0; i < count; i++) window.replied(full, roundTripMs);
}

describe('adaptive window', () => {
  it('doubles per round trip up to 64, and stays there', () => {
    const { window } = windowAt();
    assert.equal(window.size, MIN_WINDOW);
    for (const expected of [16, 32, 64, 64]) {
      replies(window, window.size, 1);
      assert.equal(window.size, expected);
    }
    replies(window, 10_000, 1);
    assert.equal(window.size, MAX_WINDOW);
  });

  it('does not grow while it is not the limit', () => {
    const { window } = windowAt();
    replies(window, 1000, 1, false);
    assert.equal(window.size, MIN_WINDOW);
  });

  it('halves once for a burst of "try later", never below 8, and then grows by one per round trip', () => {
    const { window, clock } = windowAt();
    replies(window, 100, 1);
    for (let i = 0; i < 64; i++) window.congested();
    assert.equal(window.size, 32);
    replies(window, 33, 1);
    assert.equal(window.size, 33);
    for (let i = 0; i < 10; i++) {
      clock.now += 1000;
      window.congested();
    }
    assert.equal(window.size, MIN_WINDOW);
  });

  it('shrinks when round trips become much longer, but takes a slower target as it is in the end', () => {
    const { window, clock } = windowAt();
    replies(window, 100, 2);
    replies(window, 200, 20);
    assert.equal(window.size, MAX_WINDOW, 'a little longer is no congestion');
    for (let i = 0; i < 5; i++) {
      clock.now += 1000;
      replies(window, 10, 300);
    }
    assert.equal(window.size, MIN_WINDOW);
    for (let i = 0; i < 20_000; i++) {
      clock.now += 10;
      replies(window, 1, 300);
    }
    assert.equal(window.size, MAX_WINDOW);
  });

  it('does not judge by calls whose duration is the storage', () => {
    const { window, clock } = windowAt();
    replies(window, 100, 1);
    clock.now += 1000;
    replies(window, 1000, null);
    assert.equal(window.size, MAX_WINDOW);
  });
});
