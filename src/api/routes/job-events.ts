import { z } from 'zod';
import { jobParamsSchema } from '../../model/job-queries.js';
import { isTerminalJobState } from '../../model/words.js';
import { operation, type RouteContext } from '../deps.js';
import { JOB_EXAMPLE } from '../examples.js';
import { cutAfter, eventsOf, LONGEST_STREAM_MS, sendStream } from '../streams.js';

const TYPE = 'text/event-stream';

/** GET /v1/jobs/{id}/events */
export function listenToJob({ store, jobEvents, waiters, admissions, limits }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/jobs/:id/events',
    access: 'submit',
    exposeHeadRoute: false,
    schema: {
      operationId: 'listenToJob',
      tags: ['jobs'],
      summary: 'Listen to a job',
      description: `Server-Sent Events, as \`EventSource\` of a browser reads them: the job as it is now, then at each change (at most four a second), and when it has ended. Each has the job as \`data\` and its revision as \`id\`.

- \`event: job\`: something changed.
- \`event: end\`: the job has ended; nothing comes after that.

A comment comes when nothing else did for 15 seconds. A connection that broke, or was ended by the service after an hour, goes on with \`Last-Event-ID\`; after the end that is answered with 204, at which \`EventSource\` stops. Its credential is looked at again while it is open: when that is revoked or expires, or its principal loses its role, a comment says so and the connection ends. Listeners count as waiting requests, of which there may be ${limits.waiters}.`,
      params: jobParamsSchema,
      response: {},
      'x-docs': {
        headers: [
          {
            name: 'Last-Event-ID',
            description: 'The `id` of the last event that came; what is known is not sent.',
          },
        ],
        responses: {
          200: {
            description: 'The events, until the job has ended.',
            content: {
              [TYPE]: {
                schema: z.string(),
                example: `id: 7.2\nevent: job\ndata: ${JSON.stringify(JOB_EXAMPLE)}\n\n`,
              },
            },
          },
          204: { description: 'The job has ended, and `Last-Event-ID` names its end.' },
        },
        errors: ['VALIDATION', 'JOB_NOT_FOUND', 'JOB_GONE', 'TOO_MANY_WAITERS', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request, reply) {
      const job = await store.getJob(request.params.id);
      const field = request.headers['last-event-id'];
      const known = field === undefined ? undefined : String(field);
      if (isTerminalJobState(job.state) && job.revision === known) return reply.code(204).send();
      const place = waiters.enter(LONGEST_STREAM_MS, reply.raw);
      const admitted = admissions.watch(request, reply.raw);
      const until = AbortSignal.any([place.signal, admitted]);
      cutAfter(until, reply.raw);
      // Kept alive after the last event, it would be waited for when the service ends.
      reply.header('connection', 'close');
      // A proxy that gathers an answer before it passes it on would make this useless.
      reply.header('cache-control', 'no-store').header('x-accel-buffering', 'no');
      return sendStream(reply, TYPE, eventsOf(jobEvents.listen(job, known, until), admitted));
    },
  });
}
