import { z } from 'zod';
import { eventsQuerySchema } from '../../model/job-queries.js';
import { operation, type RouteContext } from '../deps.js';
import { JOB_EXAMPLE } from '../examples.js';
import { jobFilter, wishOf } from '../job-filter.js';
import { cutAfter, eventsOf, LONGEST_STREAM_MS, sendStream } from '../streams.js';

const TYPE = 'text/event-stream';
/** Places are counts of microseconds. */
const PLACE = /^\d{1,16}$/;

/** GET /v1/events */
export function listenToJobs({ feed, waiters, admissions, limits }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/events',
    access: 'submit',
    exposeHeadRoute: false,
    schema: {
      operationId: 'listenToJobs',
      tags: ['jobs'],
      summary: 'Listen to all jobs',
      description: `Server-Sent Events of every job that changes from now on, new ones included; without the role \`operate\` only of one's own. Each has the whole job as \`data\`, as \`GET /v1/jobs/{id}\` answers.

- \`event: job\`: a job was made, or something of it changed.
- \`event: end\`: a job has ended.

Only the newest state of a job counts: with much to tell, each job is told of less often (at most four times a second), and states in between are left out; the end never is. To follow a list without a gap, connect first and then read \`/v1/jobs\`. What a job shows of its cache (\`paused\`, and why it waits) can change without an event of the job.

A connection that broke, or was ended by the service after an hour, goes on with \`Last-Event-ID\`: then every job that has changed since comes once, as it is now. Jobs that were deleted after their retention do not come any more. A comment and the newest \`id\` come when nothing else did for 15 seconds. Its credential is looked at again while it is open: when that is revoked or expires, or its principal loses its role, a comment says so and the connection ends. Listeners count as waiting requests, of which there may be ${limits.waiters}.`,
      querystring: eventsQuerySchema,
      response: {},
      'x-docs': {
        headers: [
          {
            name: 'Last-Event-ID',
            description: 'The `id` of the last event that came: what changed since then comes first.',
          },
        ],
        responses: {
          200: {
            description: 'The events.',
            content: {
              [TYPE]: {
                schema: z.string(),
                example: `id: 1769860800125000\nevent: job\ndata: ${JSON.stringify(JOB_EXAMPLE)}\n\n`,
              },
            },
          },
        },
        errors: ['ROLE_TOO_LOW', 'VALIDATION', 'TOO_MANY_WAITERS', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request, reply) {
      const field = request.headers['last-event-id'];
      const known = typeof field === 'string' && PLACE.test(field) ? Number(field) : undefined;
      const place = waiters.enter(LONGEST_STREAM_MS, reply.raw);
      const admitted = admissions.watch(request, reply.raw);
      const until = AbortSignal.any([place.signal, admitted]);
      const events = await feed.listen(known, wishOf(jobFilter(request.principal, request.query)), until);
      cutAfter(until, reply.raw);
      // Kept alive after the last event, it would be waited for when the service ends.
      reply.header('connection', 'close');
      // A proxy that gathers an answer before it passes it on would make this useless.
      reply.header('cache-control', 'no-store').header('x-accel-buffering', 'no');
      return sendStream(reply, TYPE, eventsOf(events, admitted));
    },
  });
}
