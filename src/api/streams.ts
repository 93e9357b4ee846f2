import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';

/** A reader that takes nothing, or a very long answer, does not hold on to the service for longer. */
export const LONGEST_STREAM_MS = 3600_000;
/** What still can be said when the time is over. */
const LAST_WORDS_MS = 1000;

/** Answers with parts as they are made, no faster than they are read. Leaving `parts` early cuts the answer. */
export function sendStream(
  reply: FastifyReply,
  type: string,
  parts: AsyncIterable<string | Buffer>,
): FastifyReply {
  const timer = setTimeout(() => cut(reply.raw), LONGEST_STREAM_MS + LAST_WORDS_MS);
  timer.unref();
  reply.raw.once('close', () => clearTimeout(timer));
  return reply.header('content-type', type).send(Readable.from(parts));
}

/** The events, and why they end if that is the credential of the request: `EventSource` knows no other end than asking again. */
export async function* eventsOf(
  events: AsyncIterable<string | Buffer>,
  admitted: AbortSignal,
): AsyncGenerator<string | Buffer, void, undefined> {
  yield* events;
  if (admitted.aborted) yield `: ${(admitted.reason as Error).message}\n\n`;
}

/** At the abort of `signal` the answer ends by itself, or it is cut. */
export function cutAfter(signal: AbortSignal, response: ServerResponse): void {
  signal.addEventListener('abort', () => setTimeout(() => cut(response), LAST_WORDS_MS).unref(), {
    once: true,
  });
}

function cut(response: ServerResponse): void {
  if (!response.writableFinished) response.destroy();
}
