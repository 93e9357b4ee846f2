import { jobSchema } from '../../model/job.js';
import { jobParamsSchema } from '../../model/job-queries.js';
import { jobPatchSchema } from '../../model/transfer-request.js';
import { entityTag } from '../conditional.js';
import { operation, type RouteContext } from '../deps.js';
import { TRANSFER_JOB_EXAMPLE } from '../examples.js';
import { JSON_BODY_ERRORS } from '../problem.js';

/** PATCH /v1/jobs/{id} */
export function patchJob({ store }: RouteContext) {
  return operation({
    method: 'PATCH',
    url: '/v1/jobs/:id',
    access: 'submit',
    schema: {
      operationId: 'changeJob',
      tags: ['jobs'],
      summary: 'Change the limits of a transfer',
      description:
        'Takes effect within a second, also for the files that are being copied. A limit that is not named stays as it is; null removes it. The limits of the node itself hold besides. The limits of a flush are those of its cache: 409.',
      params: jobParamsSchema,
      body: jobPatchSchema,
      response: { 200: jobSchema },
      'x-docs': {
        requestBody: {
          required: true,
          description: 'What is to change.',
          content: {
            'application/json': {
              schema: jobPatchSchema,
              examples: {
                slower: { summary: '20 MiB/s', value: { limits: { bytesPerSecond: 20_971_520 } } },
                unlimited: {
                  summary: 'No limits of its own any more',
                  value: { limits: { bytesPerSecond: null, cpuPercent: null } },
                },
              },
            },
          },
        },
        responses: { 200: { description: 'The job with its new limits.', example: TRANSFER_JOB_EXAMPLE } },
        errors: [
          ...JSON_BODY_ERRORS,
          'JOB_NOT_FOUND',
          'JOB_GONE',
          'NOT_A_TRANSFER',
          'JOB_ENDED',
          'STORE_UNAVAILABLE',
        ],
      },
    },
    async handler(request, reply) {
      const { bytesPerSecond, cpuPercent } = request.body.limits;
      const job = await store.setLimits(request.params.id, {
        ...(bytesPerSecond !== undefined && { bytesPerSecond }),
        ...(cpuPercent !== undefined && { cpuPercent }),
      });
      return reply.header('etag', entityTag(job.revision)).send(job);
    },
  });
}
