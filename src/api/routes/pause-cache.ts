import { cacheSchema } from '../../model/job.js';
import { cacheParamsSchema, pauseRequestSchema } from '../../model/target-requests.js';
import { operation, type RouteContext } from '../deps.js';
import { CACHE_EXAMPLE } from '../examples.js';

const REASON = 'Core filer upgrade until 14:00, ask ops';

/** POST /v1/caches/{name}/pause */
export function pauseCache({ store }: RouteContext) {
  return operation({
    method: 'POST',
    url: '/v1/caches/:name/pause',
    access: 'operate',
    schema: {
      operationId: 'pauseCache',
      tags: ['caches'],
      summary: 'Pause a cache',
      description:
        'No worker takes up more files of this cache until it is resumed; flushes under way go on. Jobs are still accepted and show the reason. Deadlines of jobs go on. Pausing a paused cache changes the reason.',
      params: cacheParamsSchema,
      body: pauseRequestSchema,
      response: { 200: cacheSchema },
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
            description: 'The cache, paused.',
            example: { ...CACHE_EXAMPLE, paused: true, pausedReason: REASON },
          },
        },
        errors: [
          'MALFORMED',
          'CROSS_SITE',
          'BODY_TOO_LARGE',
          'REQUEST_TIMEOUT',
          'UNSUPPORTED_MEDIA_TYPE',
          'VALIDATION',
          'CACHE_NOT_FOUND',
          'STORE_UNAVAILABLE',
        ],
      },
    },
    async handler(request) {
      return store.pauseCache(request.params.name, request.body.reason);
    },
  });
}
