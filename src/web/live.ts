import { useEffect, useRef, useState } from 'preact/hooks';
import type { Job } from '../model/job.js';
import { isTerminalJobState } from '../model/words.js';
import { getJob, type JobQuery, listen, Refusal, Unreachable } from './api.js';
import { returns, visible } from './connection.js';

/** What is shown stays what was known last; it is asked anew while somebody looks, and when the service is back. */

/** What costs the service much is asked for less often: nine tenths of the time it is not working on it. */
const PAUSE_PER_WORK = 9;
/** A change that was heard of is shown after so long at the earliest. */
const SOON_MS = 1000;

export interface Live<T> {
  /** Undefined: nothing is known yet. */
  data: T | undefined;
  refusal: Refusal | null;
  /** What is shown is not yet what was asked for last. */
  stale: boolean;
  /** Asks anew, soon and not at once: many may want it. */
  refreshSoon(): void;
  /** Something is known from elsewhere. */
  update(change: (data: T) => T): void;
}

interface Known<T> {
  key: string;
  data: T | undefined;
  refusal: Refusal | null;
}

/**
 * Asks now, and again `everyMs` after each answer (null: not again).
 * @param key what is asked for: with another key it is asked at once
 */
export function usePolled<T>(
  key: string,
  everyMs: number | null,
  load: (signal: AbortSignal) => Promise<T>,
): Live<T> {
  const [known, setKnown] = useState<Known<T>>({ key: '', data: undefined, refusal: null });
  const [asked, setAsked] = useState(0);
  const newest = useRef(load);
  newest.current = load;
  const tookMs = useRef(0);
  const soonTimer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const isVisible = visible.value;
  const returned = returns.value;

  // A return of the service and a refresh are reasons to ask anew.
  useEffect(() => {
    if (!isVisible) return;
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const again = (ms: number): void => {
      timer = setTimeout(() => void round(), ms);
    };
    const round = async (): Promise<void> => {
      const begin = performance.now();
      try {
        const data = await newest.current(controller.signal);
        if (controller.signal.aborted) return;
        tookMs.current = performance.now() - begin;
        setKnown({ key, data, refusal: null });
        if (everyMs !== null) again(Math.max(everyMs, tookMs.current * PAUSE_PER_WORK));
      } catch (error) {
        if (controller.signal.aborted || error instanceof Unreachable) return;
        if (!(error instanceof Refusal)) throw error;
        setKnown(({ data }) => ({ key, data, refusal: error }));
        if (error.status === 429) again(Math.max(error.retryAfterMs, everyMs ?? 0));
      }
    };
    void round();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [key, everyMs, isVisible, returned, asked]);

  const refresh = (): void => setAsked((count) => count + 1);
  return {
    data: known.data,
    refusal: known.refusal,
    stale: known.key !== key,
    refreshSoon() {
      soonTimer.current ??= setTimeout(
        () => {
          soonTimer.current = undefined;
          refresh();
        },
        Math.max(SOON_MS, tookMs.current * PAUSE_PER_WORK),
      );
    },
    update: (change) =>
      setKnown((now) => (now.data === undefined ? now : { ...now, data: change(now.data) })),
  };
}

const AGAIN_MS = 2000;
const POLL_MS = 3000;

export type LiveJob = Pick<Live<Job>, 'data' | 'refusal' | 'update'>;

/** A job as it is, told at each change until it has ended. */
export function useJob(id: string): LiveJob {
  const [known, setKnown] = useState<Known<Job>>({ key: id, data: undefined, refusal: null });
  const isVisible = visible.value;
  const returned = returns.value;

  // A return of the service is a reason to ask anew.
  useEffect(() => {
    if (!isVisible) return;
    const controller = new AbortController();
    const show = (job: Job): void => setKnown({ key: id, data: job, refusal: null });
    void followJob(id, show, controller.signal).catch((error: unknown) => {
      if (controller.signal.aborted || error instanceof Unreachable) return;
      if (!(error instanceof Refusal)) throw error;
      setKnown(({ data }) => ({ key: id, data, refusal: error }));
    });
    return () => controller.abort();
  }, [id, isVisible, returned]);

  return {
    data: known.data,
    refusal: known.refusal,
    update: (change) =>
      setKnown((now) => (now.data === undefined ? now : { ...now, data: change(now.data) })),
  };
}

async function followJob(id: string, show: (job: Job) => void, signal: AbortSignal): Promise<void> {
  let lastEventId: string | undefined;
  let mayListen = true;
  for (;;) {
    try {
      if (mayListen) {
        let ended = false;
        const more = await listen(`/v1/jobs/${encodeURIComponent(id)}/events`, {
          lastEventId,
          signal,
          onEvent(event) {
            lastEventId = event.id;
            if (event.data !== '') show(JSON.parse(event.data) as Job);
            if (event.type === 'end') ended = true;
          },
        });
        if (!more || ended) return;
        await pause(AGAIN_MS, signal);
      } else {
        const job = await getJob(id, signal);
        show(job);
        if (isTerminalJobState(job.state)) return;
        await pause(POLL_MS, signal);
        mayListen = true;
      }
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 429) throw error;
      // Too many listen: asking now and then costs the service less. Or this principal has asked too often.
      if (!mayListen) await pause(error.retryAfterMs, signal);
      mayListen = false;
    }
  }
}

/**
 * Listens to the jobs that a filter is about (all but its states), new ones included.
 * @returns whether it hears of them; if not, one has to ask
 */
export function useJobEvents(query: JobQuery, onJobs: (jobs: Job[]) => void): boolean {
  const [listening, setListening] = useState(false);
  const newest = useRef(onJobs);
  newest.current = onJobs;
  const isVisible = visible.value;
  const returned = returns.value;
  const { kind, cache, node, label } = query;

  // A return of the service is a reason to listen anew.
  useEffect(() => {
    if (!isVisible) return;
    const controller = new AbortController();
    const gathered = new Map<string, Job>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tell = (): void => {
      timer = undefined;
      newest.current([...gathered.values()]);
      gathered.clear();
    };
    const follow = async (): Promise<void> => {
      let lastEventId: string | undefined;
      while (!controller.signal.aborted) {
        await listen('/v1/events', {
          query: { kind, cache, node, label },
          lastEventId,
          signal: controller.signal,
          onEvent(event) {
            lastEventId = event.id;
            setListening(true);
            if (event.data === '') return;
            const job = JSON.parse(event.data) as Job;
            gathered.set(job.id, job);
            timer ??= setTimeout(tell, GATHER_MS);
          },
        });
        await pause(AGAIN_MS, controller.signal);
      }
    };
    // Whatever it is that refuses to be listened to: asking works still.
    void follow().catch(() => setListening(false));
    return () => {
      controller.abort();
      clearTimeout(timer);
      setListening(false);
    };
  }, [kind, cache, node, label, isVisible, returned]);

  return listening;
}

/** One drawing for all events that come within this time. */
const GATHER_MS = 200;

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
