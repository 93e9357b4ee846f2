import { z } from 'zod';
import { jobSchema } from '../../model/job.js';
import { jobListQuerySchema } from '../../model/job-queries.js';
import type { JobFilter } from '../../store/types.js';
import { operation, type RouteContext } from '../deps.js';
import { JOB_EXAMPLE } from '../examples.js';
import { jobFilter } from '../job-filter.js';
import { LINK_DOCS, linkToNext } from '../link.js';

const jobPageSchema = z.object({
  items: z.array(jobSchema),
  nextCursor: z.string().nullable().meta({ description: 'For the next page; null on the last one.' }),
});

/** GET /v1/jobs */
export function listJobs({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/jobs',
    access: 'submit',
    schema: {
      operationId: 'listJobs',
      tags: ['jobs'],
      summary: 'List jobs',
      description:
        'Jobs, newest first, page by page. Filters are combined: all must hold. A page may have fewer jobs than asked for, even none, and still not be the last: go on as long as there is a `nextCursor`.',
      querystring: jobListQuerySchema,
      response: { 200: jobPageSchema },
      'x-docs': {
        responses: {
          200: {
            description: 'A page of jobs.',
            headers: LINK_DOCS,
            example: { items: [JOB_EXAMPLE], nextCursor: null },
          },
        },
        errors: ['ROLE_TOO_LOW', 'VALIDATION', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request, reply) {
      const { state, createdAfter, createdBefore, cursor, limit } = request.query;
      const filter: JobFilter = {
        ...jobFilter(request.principal, request.query),
        ...(state && { states: state }),
        ...(createdAfter !== undefined && { createdAfter: new Date(createdAfter) }),
        ...(createdBefore !== undefined && { createdBefore: new Date(createdBefore) }),
      };
      const page = await store.listJobs(filter, cursor ?? null, limit);
      linkToNext(request, reply, page.nextCursor);
      return page;
    },
  });
}
