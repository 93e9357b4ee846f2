import { setTimeout as delay } from 'node:timers/promises';
import { BrokerError } from '../model/errors.js';
import type { Job } from '../model/job.js';
import { isTerminalJobState } from '../model/words.js';
import type { JobStore, Revision } from '../store/types.js';

const PING_MS = 15_000;
const EVENTS_APART_MS = 250;
/** Told to the client for its reconnection; also how long we wait for a store that is away. */
const AGAIN_MS = 2000;

/** A line that tells a client how long to wait before it connects again. */
export function reconnectAfter(ms: number): string {
  return `retry: ${ms}\n`;
}

/** A job in the form of text/event-stream: `end` when it has ended, else `job`. */
export function jobEvent({ revision: _, ...job }: Job & Revision, id: string): string {
  return `id: ${id}\nevent: ${isTerminalJobState(job.state) ? 'end' : 'job'}\ndata: ${JSON.stringify(job)}\n\n`;
}

/**
 * The events of a job in the form of text/event-stream: its present state unless `lastEventId` names it, every change
 * at most four times a second (only the newest state counts), a comment when nothing happens, the end. Ends after
 * that, at the abort, or when the job is gone.
 */
export async function* jobEvents(
  store: JobStore,
  first: Job & Revision,
  lastEventId: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  yield `${reconnectAfter(AGAIN_MS)}\n`;
  let job = first;
  let known = lastEventId;
  for (;;) {
    const toldAt = Date.now();
    if (job.revision !== known) {
      yield jobEvent(job, job.revision);
      if (isTerminalJobState(job.state)) return;
      known = job.revision;
    } else {
      yield ': ping\n\n';
    }
    try {
      await changeWithin(PING_MS, signal, (until) => store.waitForChange(job.id, job.revision, false, until));
      await sleep(toldAt + EVENTS_APART_MS - Date.now(), signal);
      if (signal.aborted) return;
      job = await store.getJob(job.id);
    } catch (error) {
      if (!(error instanceof BrokerError) || error.code !== 'STORE_UNAVAILABLE') return;
      await sleep(AGAIN_MS, signal);
    }
    if (signal.aborted) return;
  }
}

async function changeWithin(
  ms: number,
  signal: AbortSignal,
  wait: (until: AbortSignal) => Promise<void>,
): Promise<void> {
  const controller = new AbortController();
  const abort = () => controller.abort();
  if (signal.aborted) abort();
  const timer = setTimeout(abort, ms);
  signal.addEventListener('abort', abort);
  try {
    await wait(controller.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await delay(ms, undefined, { signal, ref: false }).catch(() => {});
}
