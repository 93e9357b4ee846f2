import type { ServerResponse } from 'node:http';
import { type Job, jobSchema } from '../../model/job.js';
import { jobParamsSchema, jobQuerySchema } from '../../model/job-queries.js';
import { isTerminalJobState } from '../../model/words.js';
import type { Revision } from '../../store/types.js';
import { entityTag, matchesEntityTag, preferredWaitSeconds } from '../conditional.js';
import { operation, type RouteContext } from '../deps.js';
import { JOB_EXAMPLE } from '../examples.js';

/** GET /v1/jobs/{id}, at once or as a long-poll. */
export function getJob({ store, limits, waiters, admissions }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/jobs/:id',
    access: 'submit',
    schema: {
      operationId: 'getJob',
      tags: ['jobs'],
      summary: 'Get a job, or wait for it',
      description: `State and progress of a job; never its files. A job that is asked for more than some five times a second is told as it was at most a quarter of a second ago; a change of its state is told at once.

- \`If-None-Match\` with the \`ETag\` of an earlier answer: 304 if nothing has changed.
- \`Prefer: wait=N\` (RFC 7240) as well: the answer comes at the next change, or after N seconds with 304. At most ${limits.waitSeconds} seconds and ${limits.waiters} waiting requests.
- \`Prefer: wait=N\` with \`?until=terminal\`: the answer comes when the job has ended, or after N seconds; progress on the way does not count. \`If-None-Match\` is not needed for that.

\`Preference-Applied\` says if there was something to wait for. After its retention a job answers 410.`,
      params: jobParamsSchema,
      querystring: jobQuerySchema,
      response: { 200: jobSchema },
      'x-docs': {
        headers: [
          {
            name: 'If-None-Match',
            description: 'The `ETag` of the state that is known already.',
          },
          {
            name: 'Prefer',
            description: '`wait=N`: seconds to wait for a change, or for the end.',
          },
        ],
        responses: {
          200: {
            description: 'The job.',
            headers: {
              ETag: { description: 'Changes with everything that is shown here.', example: 'W/"7-1a"' },
              'Preference-Applied': { description: 'The wait that was granted.', example: 'wait=30' },
            },
            example: JOB_EXAMPLE,
          },
          304: { description: 'Nothing has changed since the state that `If-None-Match` names.' },
        },
        errors: ['VALIDATION', 'JOB_NOT_FOUND', 'JOB_GONE', 'TOO_MANY_WAITERS', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      const known = request.headers['if-none-match'];
      const untilTerminal = request.query.until === 'terminal';
      const asked = preferredWaitSeconds(request.headers.prefer);
      const seconds = asked === null ? 0 : Math.min(asked, limits.waitSeconds);
      let job = await (seconds > 0 ? store.getJob(id) : store.pollJob(id));
      if (seconds > 0 && isWorthWaiting(job, known, untilTerminal)) {
        reply.header('preference-applied', `wait=${seconds}`);
        const admitted = admissions.watch(request, reply.raw);
        await wait(id, job, untilTerminal, seconds, reply.raw, admitted);
        admitted.throwIfAborted();
        job = await store.getJob(id);
      }
      const etag = entityTag(job.revision);
      reply.header('etag', etag).header('cache-control', 'no-cache').header('vary', 'Prefer');
      if (matchesEntityTag(known, etag)) return reply.code(304).send();
      return job;
    },
  });

  function wait(
    id: string,
    job: Revision,
    untilTerminal: boolean,
    seconds: number,
    response: ServerResponse,
    admitted: AbortSignal,
  ) {
    return waiters.run(seconds * 1000, response, (signal) =>
      store.waitForChange(id, job.revision, untilTerminal, AbortSignal.any([signal, admitted])),
    );
  }
}

/** A job that has ended changes no more; without a known state every state is news. */
function isWorthWaiting(job: Job & Revision, known: string | undefined, untilTerminal: boolean): boolean {
  if (isTerminalJobState(job.state)) return false;
  return untilTerminal || matchesEntityTag(known, entityTag(job.revision));
}
