import { z } from 'zod';
import { BrokerError } from '../../model/errors.js';
import { jobSchema } from '../../model/job.js';
import { hasRole, type Principal } from '../../model/principal.js';
import { jobListQuerySchema } from '../../model/requests.js';
import type { JobFilter } from '../../store/types.js';
import { operation, type RouteContext } from '../deps.js';
import { JOB_EXAMPLE } from '../examples.js';
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
      const principal = visibleTo(request.principal, request.query.principal);
      const { kind, state, cache, node, label, createdAfter, createdBefore, cursor, limit } = request.query;
      const filter: JobFilter = {
        ...(principal !== undefined && { principal }),
        ...(kind && { kind }),
        ...(state && { states: state }),
        ...(cache !== undefined && { cache }),
        ...(node !== undefined && { node }),
        ...(label && { labels: Object.fromEntries(label.map(keyAndValue)) }),
        ...(createdAfter !== undefined && { createdAfter: new Date(createdAfter) }),
        ...(createdBefore !== undefined && { createdBefore: new Date(createdBefore) }),
      };
      const page = await store.listJobs(filter, cursor ?? null, limit);
      linkToNext(request, reply, page.nextCursor);
      return page;
    },
  });
}

/** Whose jobs the caller may list of those it asks for. Undefined: everybody's. */
function visibleTo(caller: Principal, asked: string | undefined): string | undefined {
  if (hasRole(caller.role, 'operate')) return asked;
  if (asked === undefined || asked === caller.name) return caller.name;
  throw new BrokerError(
    'ROLE_TOO_LOW',
    `Jobs of other principals are for the role operate; the principal ${JSON.stringify(caller.name)} has the role ${caller.role}.`,
  );
}

function keyAndValue(label: string): [string, string] {
  const equals = label.indexOf('=');
  return [label.slice(0, equals), label.slice(equals + 1)];
}
