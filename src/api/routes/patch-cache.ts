import { cacheSchema } from '../../model/job.js';
import { cacheChangesSchema, cacheParamsSchema } from '../../model/target-requests.js';
import { operation, type RouteContext } from '../deps.js';
import { CACHE_EXAMPLE } from '../examples.js';
import { JSON_BODY_ERRORS } from '../problem.js';

/** PATCH /v1/caches/{name} */
export function patchCache({ store }: RouteContext) {
  return operation({
    method: 'PATCH',
    url: '/v1/caches/:name',
    access: 'admin',
    schema: {
      operationId: 'patchCache',
      tags: ['caches'],
      summary: 'Change the limits of a cache',
      description:
        'In force in every worker within two seconds, and until they are changed again, also over restarts and changes of the configuration. A limit that is not given stays as it is; `"limits": null` goes back to the configuration. Flushes under way go on: with a lower `inFlight` none begins before enough of them have ended.',
      params: cacheParamsSchema,
      body: cacheChangesSchema,
      response: { 200: cacheSchema },
      'x-docs': {
        requestBody: {
          required: true,
          description: 'The limits that change.',
          content: {
            'application/json': {
              schema: cacheChangesSchema,
              examples: {
                gentle: {
                  summary: 'Go easy on the core filer',
                  value: { limits: { inFlight: 32, filesPerSecond: 200 } },
                },
                unlimited: {
                  summary: 'As many per second as it takes',
                  value: { limits: { filesPerSecond: null } },
                },
                configured: { summary: 'Back to the configuration', value: { limits: null } },
              },
            },
          },
        },
        responses: {
          200: {
            description: 'The cache, with the limits that are in force.',
            example: { ...CACHE_EXAMPLE, limits: { inFlight: 32, filesPerSecond: 200 } },
          },
        },
        errors: [...JSON_BODY_ERRORS, 'CACHE_NOT_FOUND', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request) {
      return store.limitCache(request.params.name, request.body.limits);
    },
  });
}
