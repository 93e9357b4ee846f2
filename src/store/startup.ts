import { setTimeout as delay } from 'node:timers/promises';
import { connectFailingFast, type RedisTarget } from './connect.js';
import { checkHealth } from './health.js';
import type { StoreHealth } from './types.js';

const RETRY_MS = 500;

/**
 * Waits until Redis takes commands, and tells how good it is.
 * @throws {Error} at `timeoutMs` or the abort; the message says which Redis and what is wrong with it
 */
export async function untilRedisAnswers(
  target: RedisTarget,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<StoreHealth> {
  const deadlineAt = Date.now() + timeoutMs;
  let reason = 'no answer';
  const connection = connectFailingFast(target, 'writeback-start');
  connection.on('error', (error: Error) => {
    reason = withoutArguments(error.message);
  });
  try {
    while (Date.now() < deadlineAt && !signal.aborted) {
      try {
        await connection.ping();
        return await checkHealth(connection);
      } catch (error) {
        // "Stream isn't writeable" only says that there is no connection; why, the error event told.
        if (error instanceof Error && error.name === 'ReplyError') reason = withoutArguments(error.message);
      }
      await delay(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  } finally {
    connection.disconnect();
  }
  throw new Error(
    `Redis at ${withoutPassword(target.url)} does not answer: ${reason}${adviceFor(reason, target)}`,
  );
}

function adviceFor(reason: string, { cluster }: RedisTarget): string {
  if (reason.startsWith('NOAUTH')) return '. Give its password in the URL: redis://:PASSWORD@HOST';
  if (cluster && reason.includes('slots cache'))
    return ' Do the URLs name nodes of a Cluster? If not, leave redis.cluster out.';
  return '';
}

/** A Redis that is too old repeats the password when it does not know the command that it came with. */
function withoutArguments(message: string): string {
  return message.replace(/,? with args beginning with:.*$/s, '');
}

/** For messages and logs: one URL, or several with commas between. A password may have an unencoded "@" or "/" in it. */
export function withoutPassword(url: string): string {
  return url.replace(/\?.*$/s, '?…').replace(/(:\/\/[^:@/]*):(?:(?!,\w+:\/\/).)*@/gs, '$1:…@');
}
