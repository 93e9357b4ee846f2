import { z } from 'zod';
import { nodeSchema } from '../../model/node.js';
import { seesNode } from '../access-rules.js';
import { operation, type RouteContext } from '../deps.js';
import { NODE_EXAMPLE } from '../examples.js';

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
        'The nodes that have or had an agent, and those that jobs have named: whether an agent is there, load, pause. One without agent and without jobs for a day is forgotten. Without the role `operate` those whose files one may transfer.',
      response: { 200: z.object({ items: z.array(nodeSchema) }) },
      'x-docs': {
        responses: { 200: { description: 'All nodes, by name.', example: { items: [NODE_EXAMPLE] } } },
        errors: ['STORE_UNAVAILABLE'],
      },
    },
    async handler({ principal }) {
      const nodes = await store.listNodes();
      return { items: nodes.filter(({ name }) => seesNode(principal, name)) };
    },
  });
}
