import { cacheSchema } from '../../model/job.js';
import { cacheParamsSchema } from '../../model/target-requests.js';
import { operation, type RouteContext } from '../deps.js';
import { CACHE_EXAMPLE } from '../examples.js';

/** POST /v1/caches/{name}/resume */
export function resumeCache({ store }: RouteContext) {
  return operation({
    method: 'POST',
    url: '/v1/caches/:name/resume',
    access: 'operate',
    schema: {
      operationId: 'resumeCache',
      tags: ['caches'],
      summary: 'Resume a cache',
      description: 'Ends the pause. Idempotent.',
      params: cacheParamsSchema,
      response: { 200: cacheSchema },
      'x-docs': {
        responses: { 200: { description: 'The cache, not paused.', example: CACHE_EXAMPLE } },
        errors: ['MALFORMED', 'CROSS_SITE', 'VALIDATION', 'CACHE_NOT_FOUND', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request) {
      return store.resumeCache(request.params.name);
    },
  });
}
