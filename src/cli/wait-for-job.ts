import { setTimeout as delay } from 'node:timers/promises';
import { type Job, jobSchema } from '../model/job.js';
import { durationText } from '../model/text.js';
import { isTerminalJobState } from '../model/words.js';
import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';
import type { ProgressView } from './progress.js';
import {
  isTransient,
  parseBody,
  type ServiceClient,
  ServiceProblem,
  ServiceUnreachable,
} from './service-client.js';

export interface WaitOptions {
  signal: AbortSignal;
  /** Null: as long as it takes. */
  timeoutMs: number | null;
  progress: ProgressView;
  /** How long a service that does not answer may stay away before the wait is given up. */
  patienceMs?: number;
}

/** A restart of the service, or of what stands before it, is over by then. */
const PATIENCE_MS = 120_000;
/** Nobody is there from the start: rather a wrong address than a restart. */
const FIRST_PATIENCE_MS = 5_000;
const LONG_POLL_SECONDS = 30;
/** A running job changes more often than anybody can read. */
const CHANGE_EVERY_MS = 200;
const POLL_EVERY_MS = 1000;
/** In the last second of a time-out, which is too short for a long-poll. */
const LAST_POLLS_EVERY_MS = 100;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;
const ANSWER_MS = 15_000;

/**
 * Waits until a job has ended, across restarts of the service.
 * @throws {CliError} 124 after `timeoutMs`, 69 when the service stays away, 130 at the abort of `signal`
 */
export async function waitForJob(client: ServiceClient, id: string, options: WaitOptions): Promise<Job> {
  const { progress, signal } = options;
  const deadlineAt = options.timeoutMs === null ? null : Date.now() + options.timeoutMs;
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  let etag: string | null = null;
  let awaySince: number | null = null;
  let backoffMs = FIRST_BACKOFF_MS;
  let reached = false;

  /** Milliseconds, cut at the caller's deadline. */
  const within = (ms: number): number => (deadlineAt === null ? ms : Math.min(ms, deadlineAt - Date.now()));
  const pause = async (ms: number): Promise<void> => {
    await delay(Math.max(0, within(ms)), undefined, { signal }).catch(() => {});
  };

  for (;;) {
    if (signal.aborted) throw interrupted(id);
    if (deadlineAt !== null && Date.now() >= deadlineAt) throw timedOut(id, options.timeoutMs ?? 0);
    const askedAt = Date.now();
    try {
      const call = longPoll(path, progress.refresh, etag, within(LONG_POLL_SECONDS * 1000));
      const answer = await client.request('GET', call.path, {
        headers: call.headers,
        // A service that is frozen must not hold us beyond the caller's time.
        timeoutMs: Math.max(LAST_POLLS_EVERY_MS, within(call.timeoutMs)),
      });
      if (awaySince !== null) progress.note('The service answers again.');
      awaySince = null;
      backoffMs = FIRST_BACKOFF_MS;
      reached = true;
      if (answer.status !== 304) {
        const job = parseBody(jobSchema, answer.body);
        progress.update(job);
        if (isTerminalJobState(job.state)) return job;
        if (etag === null && answer.etag !== null) {
          etag = answer.etag;
          continue;
        }
        etag = answer.etag;
      }
      // An answer that did not wait (the service is ending, or knows no waiting) must not make a tight circle.
      await pause(pollEveryMs(call.waits, progress.refresh, etag) - (Date.now() - askedAt));
    } catch (error) {
      if (signal.aborted) throw interrupted(id);
      if (!isTransient(error)) throw error;
      if (error instanceof ServiceProblem && error.code === 'TOO_MANY_WAITERS') {
        // It is there, and tells the state to those who do not wait.
        etag = null;
        await pause(error.retryAfterMs ?? 2000);
        continue;
      }
      if (awaySince === null) {
        awaySince = Date.now();
        const what =
          error instanceof ServiceUnreachable ? 'does not answer' : 'is not available at the moment';
        progress.note(`The service ${what}; trying again.`);
      }
      const patienceMs = Math.min(options.patienceMs ?? PATIENCE_MS, reached ? Infinity : FIRST_PATIENCE_MS);
      // With a time-out of the caller's own, that one decides.
      if ((deadlineAt === null || !reached) && Date.now() - awaySince >= patienceMs) throw error;
      const asked = 'retryAfterMs' in error ? (error.retryAfterMs ?? 0) : 0;
      // Full jitter: a thousand clients of a restarted service come back one by one.
      await pause(Math.max(Math.min(asked, MAX_BACKOFF_MS), Math.random() * backoffMs));
      backoffMs = Math.min(MAX_BACKOFF_MS, backoffMs * 2);
    }
  }
}

function pollEveryMs(waited: boolean, refresh: ProgressView['refresh'], etag: string | null): number {
  if (etag === null) return POLL_EVERY_MS;
  if (!waited) return LAST_POLLS_EVERY_MS;
  return refresh === 'changes' ? CHANGE_EVERY_MS : POLL_EVERY_MS;
}

function longPoll(
  path: string,
  refresh: ProgressView['refresh'],
  etag: string | null,
  atMostMs: number,
): { path: string; headers: Record<string, string>; timeoutMs: number; waits: boolean } {
  const plain = { path, headers: {}, timeoutMs: ANSWER_MS, waits: false };
  if (etag === null) return plain;
  const waitMs = Math.min(atMostMs, typeof refresh === 'object' ? refresh.everyMs : atMostMs);
  // RFC 7240 knows whole seconds only.
  const seconds = Math.floor(waitMs / 1000);
  if (seconds < 1) return plain;
  return {
    path: refresh === 'changes' ? path : `${path}?until=terminal`,
    headers: { prefer: `wait=${seconds}`, 'if-none-match': etag },
    timeoutMs: seconds * 1000 + ANSWER_MS,
    waits: true,
  };
}

function timedOut(id: string, timeoutMs: number): CliError {
  return new CliError(
    `Job ${id} has not ended after ${durationText(timeoutMs / 1000)}. It goes on; see it with "writeback wait ${id}".`,
    EXIT.waitTimedOut,
  );
}

function interrupted(id: string): CliError {
  return new CliError(
    `Job ${id} goes on without us: "writeback wait ${id}" waits again, "writeback cancel ${id}" ends it.`,
    EXIT.interrupted,
  );
}
