import { nodeSchema } from '../../model/node.js';
import { nodeParamsSchema } from '../../model/target-requests.js';
import { operation, type RouteContext } from '../deps.js';
import { NODE_EXAMPLE } from '../examples.js';

/** POST /v1/nodes/{name}/resume */
export function resumeNode({ store }: RouteContext) {
  return operation({
    method: 'POST',
    url: '/v1/nodes/:name/resume',
    access: 'operate',
    schema: {
      operationId: 'resumeNode',
      tags: ['nodes'],
      summary: 'Resume a node',
      description: 'Ends the pause. Idempotent.',
      params: nodeParamsSchema,
      response: { 200: nodeSchema },
      'x-docs': {
        responses: { 200: { description: 'The node, not paused.', example: NODE_EXAMPLE } },
        errors: ['MALFORMED', 'CROSS_SITE', 'VALIDATION', 'NODE_NOT_FOUND', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request) {
      return store.resumeNode(request.params.name);
    },
  });
}
