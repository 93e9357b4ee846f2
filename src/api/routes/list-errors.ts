import { z } from 'zod';
import { errorGroupSchema } from '../../model/job.js';
import { jobParamsSchema } from '../../model/job-queries.js';
import { operation, type RouteContext } from '../deps.js';
import { ERROR_GROUP_EXAMPLE } from '../examples.js';

/** GET /v1/jobs/{id}/errors */
export function listErrors({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/jobs/:id/errors',
    access: 'submit',
    schema: {
      operationId: 'listErrors',
      tags: ['jobs'],
      summary: 'What went wrong in a job',
      description:
        'Files that ended in an error, counted by error code, with a few samples of each and what to do about it.',
      params: jobParamsSchema,
      response: { 200: z.object({ items: z.array(errorGroupSchema) }) },
      'x-docs': {
        responses: {
          200: { description: 'One entry per error code.', example: { items: [ERROR_GROUP_EXAMPLE] } },
        },
        errors: ['VALIDATION', 'JOB_NOT_FOUND', 'JOB_GONE', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request) {
      return { items: await store.errorGroups(request.params.id) };
    },
  });
}
