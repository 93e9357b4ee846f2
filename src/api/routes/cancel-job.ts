import { jobSchema } from '../../model/job.js';
import { jobParamsSchema } from '../../model/job-queries.js';
import { isTerminalJobState } from '../../model/words.js';
import { entityTag } from '../conditional.js';
import { operation, type RouteContext } from '../deps.js';
import { JOB_EXAMPLE } from '../examples.js';

/** POST /v1/jobs/{id}/cancel */
export function cancelJob({ store }: RouteContext) {
  return operation({
    method: 'POST',
    url: '/v1/jobs/:id/cancel',
    access: 'submit',
    schema: {
      operationId: 'cancelJob',
      tags: ['jobs'],
      summary: 'Cancel a job',
      description:
        'Files that wait are not begun any more, and files under way are not waited for: they end as `canceled`. What is done stays done. Idempotent: a job that has ended is returned as it is (200), any other is on its way to `canceled` (202).',
      params: jobParamsSchema,
      response: { 200: jobSchema, 202: jobSchema },
      'x-docs': {
        responses: {
          200: {
            description: 'The job has ended.',
            example: { ...JOB_EXAMPLE, state: 'canceled', finishedAt: '2026-01-31T12:00:01.070Z' },
          },
          202: { description: 'The job is being canceled.', example: { ...JOB_EXAMPLE, state: 'canceling' } },
        },
        errors: ['MALFORMED', 'CROSS_SITE', 'VALIDATION', 'JOB_NOT_FOUND', 'JOB_GONE', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request, reply) {
      const job = await store.cancel(request.params.id);
      return reply
        .code(isTerminalJobState(job.state) ? 200 : 202)
        .header('etag', entityTag(job.revision))
        .send(job);
    },
  });
}
