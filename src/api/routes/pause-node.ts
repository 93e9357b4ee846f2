import { nodeSchema } from '../../model/node.js';
import { nodeParamsSchema, pauseRequestSchema } from '../../model/target-requests.js';
import { operation, type RouteContext } from '../deps.js';
import { NODE_EXAMPLE } from '../examples.js';

const REASON = 'The file system is upgraded until 14:00, ask ops';

/** POST /v1/nodes/{name}/pause */
export function pauseNode({ store }: RouteContext) {
  return operation({
    method: 'POST',
    url: '/v1/nodes/:name/pause',
    access: 'operate',
    schema: {
      operationId: 'pauseNode',
      tags: ['nodes'],
      summary: 'Pause a node',
      description:
        'Its agent stops copying within seconds, also in mid-file; what is durable stays, and the copies go on from there when the node is resumed. Jobs are still accepted and show the reason. Deadlines of jobs go on. Pausing a paused node changes the reason.',
      params: nodeParamsSchema,
      body: pauseRequestSchema,
      response: { 200: nodeSchema },
      'x-docs': {
        requestBody: {
          required: true,
          description: 'Why.',
          content: {
            'application/json': {
              schema: pauseRequestSchema,
              examples: { upgrade: { summary: 'A planned interruption', value: { reason: REASON } } },
            },
          },
        },
        responses: {
          200: {
            description: 'The node, paused.',
            example: { ...NODE_EXAMPLE, paused: true, pausedReason: REASON },
          },
        },
        errors: [
          'MALFORMED',
          'CROSS_SITE',
          'BODY_TOO_LARGE',
          'REQUEST_TIMEOUT',
          'UNSUPPORTED_MEDIA_TYPE',
          'VALIDATION',
          'NODE_NOT_FOUND',
          'STORE_UNAVAILABLE',
        ],
      },
    },
    async handler(request) {
      return store.pauseNode(request.params.name, request.body.reason);
    },
  });
}
