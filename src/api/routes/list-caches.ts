import { z } from 'zod';
import { cacheSchema } from '../../model/job.js';
import { seesCache } from '../access-rules.js';
import { operation, type RouteContext } from '../deps.js';
import { CACHE_EXAMPLE } from '../examples.js';

/** GET /v1/caches */
export function listCaches({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/caches',
    access: 'submit',
    schema: {
      operationId: 'listCaches',
      tags: ['caches'],
      summary: 'List caches',
      description:
        'The configured caches, and the addresses that jobs have named: health, load, limits, pause. Without the role `operate` those that one may flush.',
      response: { 200: z.object({ items: z.array(cacheSchema) }) },
      'x-docs': {
        responses: { 200: { description: 'All caches.', example: { items: [CACHE_EXAMPLE] } } },
        errors: ['STORE_UNAVAILABLE'],
      },
    },
    async handler({ principal }) {
      const caches = await store.listCaches();
      return { items: caches.filter(({ name }) => seesCache(principal, name)) };
    },
  });
}
