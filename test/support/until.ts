import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** Between two looks: hardly any at first, then so many that looking costs the machine little. */
const LONGEST_PAUSE_MS = 20;

/**
 * Waits until a condition holds; it is looked at again and again.
 * @param what what is waited for, for the message
 * @param shown what else the message tells, made only then
 * @throws {AssertionError} if it does not come to that in time; also whatever the condition throws
 */
export async function until(
  what: string,
  condition: () => Promise<boolean> | boolean,
  withinMs = 60_000,
  shown: () => Promise<string> | string = () => '',
): Promise<void> {
  const deadlineAt = Date.now() + withinMs;
  for (let pauseMs = 1; !(await condition()); pauseMs = Math.min(pauseMs + 1, LONGEST_PAUSE_MS)) {
    if (Date.now() > deadlineAt) assert.fail(`not within ${withinMs} ms: ${what} ${await shown()}`.trimEnd());
    await sleep(pauseMs);
  }
}
