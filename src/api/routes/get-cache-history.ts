import { cacheHistorySchema } from '../../model/job.js';
import { cacheParamsSchema } from '../../model/target-requests.js';
import { operation, type RouteContext } from '../deps.js';
import { CACHE_HISTORY_EXAMPLE } from '../examples.js';

/** GET /v1/caches/{name}/history */
export function getCacheHistory({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/caches/:name/history',
    access: 'submit',
    schema: {
      operationId: 'getCacheHistory',
      tags: ['caches'],
      summary: 'Throughput of a cache over the last hour',
      description:
        'Files that ended and bytes that were written back, minute by minute, over all workers. Files that were canceled or expired are not throughput and are not counted.',
      params: cacheParamsSchema,
      response: { 200: cacheHistorySchema },
      'x-docs': {
        responses: { 200: { description: 'The last 60 minutes.', example: CACHE_HISTORY_EXAMPLE } },
        errors: ['VALIDATION', 'CACHE_NOT_FOUND', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request) {
      return store.cacheHistory(request.params.name);
    },
  });
}
