import { setTimeout as delay } from 'node:timers/promises';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { isTransient } from './service-client.js';

/**
 * For the hooks of schedulers, which must neither take long nor fail: a node is not free for the next batch job while
 * the hook of the last one runs, and most schedulers take it out of service when the hook fails.
 */

export const EPILOG_SECONDS = 10;
const PAUSE_MS = 500;
/** Whatever was told that the time is up may still say what it waited for. */
const LAST_WORDS_MS = 500;

/** @param args what follows the program's name: the status is 0 even if they make no sense */
export function isEpilog(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args[0] === 'submit' && args.slice(0, end < 0 ? undefined : end).includes('--epilog');
}

/** Ends within the time, whatever `run` waits for. @throws {CliError} when the time is up, and what `run` throws */
export async function inEpilog<T>(
  context: CliContext,
  withinSeconds: number,
  run: (context: CliContext) => Promise<T>,
): Promise<T> {
  const timeUp = AbortSignal.timeout(withinSeconds * 1000);
  const inner = { ...context, signal: AbortSignal.any([context.signal, timeUp]) };
  const late = new CliError(`Not submitted within ${withinSeconds} s.`, EXIT.waitTimedOut);
  const asked = run(inner).catch((error) => {
    const isSaid = error instanceof CliError && error.message !== '';
    throw timeUp.aborted && !isSaid ? late : error;
  });
  // Not every wait knows the signal: a file system may keep us for ever.
  asked.catch(() => {});
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late), withinSeconds * 1000 + LAST_WORDS_MS);
  });
  return Promise.race([asked, over]).finally(() => clearTimeout(timer));
}

/** In a hook: tries again while the service is away and there is time. @throws what `run` threw last */
export async function patiently<T>(
  context: CliContext,
  epilog: boolean | undefined,
  run: () => Promise<T>,
): Promise<T> {
  for (;;) {
    let last: unknown;
    try {
      return await run();
    } catch (error) {
      if (!epilog || !mayPass(error)) throw error;
      last = error;
    }
    await delay(PAUSE_MS, undefined, { signal: context.signal }).catch(() => {});
    if (context.signal.aborted) throw last;
  }
}

/** True for what may be over at the next try. */
export function mayPass(error: unknown): boolean {
  return isTransient(error) || (error instanceof CliError && isTransient(error.cause));
}
