import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

/** What proxies log for a client that left before there was an answer: no status of HTTP. */
export const CLIENT_LEFT = 499;

/**
 * Calls `tell` once for every request at the end of its answer, also of one that broke off: a listener to events ends in
 * no other way, and fastify's `onResponse` hears nothing of it.
 */
export function whenAnswered(
  app: FastifyInstance,
  tell: (request: FastifyRequest, reply: FastifyReply, status: number, whole: boolean) => void,
): void {
  app.addHook('onRequest', (request, reply, done) => {
    const { raw } = reply;
    raw.once('close', () => {
      if (!raw.writableFinished) tell(request, reply, raw.headersSent ? raw.statusCode : CLIENT_LEFT, false);
    });
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    tell(request, reply, reply.statusCode, true);
    done();
  });
}
