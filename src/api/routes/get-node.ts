import { nodeSchema } from '../../model/node.js';
import { nodeParamsSchema } from '../../model/target-requests.js';
import { operation, type RouteContext } from '../deps.js';
import { NODE_EXAMPLE } from '../examples.js';

/** GET /v1/nodes/{name} */
export function getNode({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/nodes/:name',
    access: 'submit',
    schema: {
      operationId: 'getNode',
      tags: ['nodes'],
      summary: 'Get a node',
      description: 'Whether an agent of the node is there, its load and its pause.',
      params: nodeParamsSchema,
      response: { 200: nodeSchema },
      'x-docs': {
        responses: { 200: { description: 'The node.', example: NODE_EXAMPLE } },
        errors: ['VALIDATION', 'NODE_NOT_FOUND', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request) {
      return store.getNode(request.params.name);
    },
  });
}
