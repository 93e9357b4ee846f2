import { setTimeout as delay } from 'node:timers/promises';
import { type Answer, isTransient, ServiceProblem, ServiceUnreachable } from './service-client.js';

/** Longer than the service holds the key of a request whose process died. */
const PATIENCE_MS = 60_000;
/** Connections that break one after the other are no restart. */
const BROKEN_AT_MOST = 5;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;

/**
 * Sends a request that has an idempotency key until there is an answer: what may have arrived is sent again, and makes
 * no second job. A service that was never reached, or refuses, is not asked again.
 * @param send sends the same request with the same key at each call
 * @throws what `send` threw last
 */
export async function sendSafely(send: () => Promise<Answer>, signal: AbortSignal): Promise<Answer> {
  const givenUpAt = Date.now() + PATIENCE_MS;
  let backoffMs = FIRST_BACKOFF_MS;
  let mayHaveArrived = false;
  let broken = 0;
  for (;;) {
    try {
      return await send();
    } catch (error) {
      if (isUncertain(error)) {
        mayHaveArrived = true;
        broken += 1;
      }
      const again = isStillArriving(error) || (mayHaveArrived && isTransient(error));
      if (!again || broken >= BROKEN_AT_MOST || Date.now() >= givenUpAt || signal.aborted) throw error;
      const asked = error instanceof ServiceProblem ? (error.retryAfterMs ?? 0) : 0;
      const pauseMs = Math.max(Math.min(asked, MAX_BACKOFF_MS), (0.5 + Math.random() / 2) * backoffMs);
      await delay(pauseMs, undefined, { signal }).catch(() => {});
      backoffMs = Math.min(MAX_BACKOFF_MS, backoffMs * 2);
    }
  }
}

/** The request may have been taken: nobody said so, or a proxy that lost the service. */
function isUncertain(error: unknown): boolean {
  if (error instanceof ServiceUnreachable) return error.arrived;
  return error instanceof ServiceProblem && (error.status === 502 || error.status === 504);
}

/** Another try of the same request, ours or that of another node, is not complete yet. */
function isStillArriving(error: unknown): boolean {
  return error instanceof ServiceProblem && error.code === 'IDEMPOTENCY_KEY_IN_USE';
}
