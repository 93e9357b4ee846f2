import { jobSchema } from '../../model/job.js';
import { jobParamsSchema } from '../../model/job-queries.js';
import { EXAMPLE_JOB_ID } from '../../model/request-fields.js';
import { entityTag } from '../conditional.js';
import { operation, type RouteContext } from '../deps.js';
import { QUEUED_JOB_EXAMPLE } from '../examples.js';
import { jobGrant } from '../grants.js';
import { originOf } from '../job-intake.js';
import { refuseWhileShuttingDown } from '../request-rules.js';

/** POST /v1/jobs/{id}/retry */
export function retryJob(context: RouteContext) {
  return operation({
    method: 'POST',
    url: '/v1/jobs/:id/retry',
    access: 'submit',
    schema: {
      operationId: 'retryJob',
      tags: ['jobs'],
      summary: 'Retry what did not succeed',
      description:
        "Makes a new job of the failed, expired and canceled files of a job that has ended, with the same options and labels; `parentJobId` links it to its parent. Every call makes another one. It belongs to whom its parent belongs; one's own has only what one may still ask for.",
      params: jobParamsSchema,
      response: { 202: jobSchema },
      'x-docs': {
        responses: {
          202: {
            description: 'The new job.',
            headers: {
              Location: { description: 'Where the new job is.', example: `/v1/jobs/${EXAMPLE_JOB_ID}` },
            },
            example: { ...QUEUED_JOB_EXAMPLE, parentJobId: 'job_01m7yx1w7n0f2c9k3t5r8q4v6b' },
          },
        },
        errors: [
          'MALFORMED',
          'CROSS_SITE',
          'VALIDATION',
          'CACHE_NOT_ALLOWED',
          'NODE_NOT_ALLOWED',
          'PATH_NOT_ALLOWED',
          'JOB_NOT_FOUND',
          'JOB_NOT_FINISHED',
          'NOTHING_TO_RETRY',
          'QUOTA_EXCEEDED',
          'JOB_GONE',
          'STORE_UNAVAILABLE',
          'SHUTTING_DOWN',
        ],
      },
    },
    async handler(request, reply) {
      refuseWhileShuttingDown(context);
      const { principal, params } = request;
      const former = await context.store.getJob(params.id);
      const origin = originOf(request);
      const job =
        former.principal === principal.name
          ? await context.store.retry(params.id, principal, origin, jobGrant(principal, former))
          : await context.store.retry(params.id, null, origin);
      request.log.info({ job: job.id, parent: params.id }, 'job accepted');
      return reply
        .code(202)
        .header('location', `/v1/jobs/${encodeURIComponent(job.id)}`)
        .header('etag', entityTag(job.revision))
        .send(job);
    },
  });
}
