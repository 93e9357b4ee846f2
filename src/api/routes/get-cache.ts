import { cacheSchema } from '../../model/job.js';
import { cacheParamsSchema } from '../../model/target-requests.js';
import { operation, type RouteContext } from '../deps.js';
import { CACHE_EXAMPLE } from '../examples.js';

/** GET /v1/caches/{name} */
export function getCache({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/caches/:name',
    access: 'submit',
    schema: {
      operationId: 'getCache',
      tags: ['caches'],
      summary: 'Get a cache',
      description: 'Health, load, limits and pause of one cache.',
      params: cacheParamsSchema,
      response: { 200: cacheSchema },
      'x-docs': {
        responses: { 200: { description: 'The cache.', example: CACHE_EXAMPLE } },
        errors: ['VALIDATION', 'CACHE_NOT_FOUND', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request) {
      return store.getCache(request.params.name);
    },
  });
}
