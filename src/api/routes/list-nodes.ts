import { z } from 'zod';
import { nodeSchema } from '../../model/node.js';
import { nodeListQuerySchema } from '../../model/target-requests.js';
import { seesNode } from '../access-rules.js';
import { operation, type RouteContext } from '../deps.js';
import { NODE_EXAMPLE } from '../examples.js';
import { LINK_DOCS, linkToNext } from '../link.js';

const nodePageSchema = z.object({
  items: z.array(nodeSchema),
  nextCursor: z.string().nullable().meta({ description: 'For the next page; null on the last one.' }),
});

/** GET /v1/nodes */
export function listNodes({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/nodes',
    access: 'submit',
    schema: {
      operationId: 'listNodes',
      tags: ['nodes'],
      summary: 'List nodes',
      description:
        'The nodes that have or had an agent, and those that jobs have named, by name and page by page: whether an agent is there, load, pause. One without agent and without jobs for a day is forgotten. Without the role `operate` those whose files one may transfer.',
      querystring: nodeListQuerySchema,
      response: { 200: nodePageSchema },
      'x-docs': {
        responses: {
          200: {
            description: 'A page of nodes.',
            headers: LINK_DOCS,
            example: { items: [NODE_EXAMPLE], nextCursor: null },
          },
        },
        errors: ['VALIDATION', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request, reply) {
      const { cursor, limit } = request.query;
      const shows = (name: string): boolean => seesNode(request.principal, name);
      const page = await store.listNodes(shows, cursor ?? null, limit);
      linkToNext(request, reply, page.nextCursor);
      return page;
    },
  });
}
