import { z } from 'zod';
import { jobFileSchema } from '../../model/job.js';
import { fileListQuerySchema, jobParamsSchema } from '../../model/job-queries.js';
import { operation, type RouteContext } from '../deps.js';
import { FILE_EXAMPLE } from '../examples.js';
import { LINK_DOCS, linkToNext } from '../link.js';

const filePageSchema = z.object({
  items: z.array(jobFileSchema),
  nextCursor: z.string().nullable().meta({ description: 'For the next page; null on the last one.' }),
});

/** GET /v1/jobs/{id}/files */
export function listFiles({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/jobs/:id/files',
    access: 'submit',
    schema: {
      operationId: 'listFiles',
      tags: ['jobs'],
      summary: 'List the files of a job',
      description:
        'Files in the order in which they were submitted, page by page, with state, outcome, evidence and errors. A page may have fewer files than asked for, even none, and still not be the last: go on as long as there is a `nextCursor`.',
      params: jobParamsSchema,
      querystring: fileListQuerySchema,
      response: { 200: filePageSchema },
      'x-docs': {
        responses: {
          200: {
            description: 'A page of files.',
            headers: LINK_DOCS,
            example: { items: [FILE_EXAMPLE], nextCursor: null },
          },
        },
        errors: ['VALIDATION', 'JOB_NOT_FOUND', 'JOB_GONE', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request, reply) {
      const { state, code, cursor, limit } = request.query;
      const filter = { ...(state && { states: state }), ...(code && { code }) };
      const page = await store.listFiles(request.params.id, filter, cursor ?? null, limit);
      linkToNext(request, reply, page.nextCursor);
      return page;
    },
  });
}
