import { z } from 'zod';
import type { StoreHealth } from '../../store/types.js';
import { operation, type RouteContext } from '../deps.js';

const readinessSchema = z.object({
  status: z
    .enum(['ready', 'degraded', 'unavailable', 'shutting-down'])
    .meta({ description: '`degraded`: it works, but `warnings` say what is weaker than it should be.' }),
  store: z.object({
    ok: z.boolean(),
    warnings: z
      .array(z.string())
      .meta({ description: 'E.g. that an accepted job may not survive a power cut.' }),
  }),
});
type Readiness = z.infer<typeof readinessSchema>;

/** GET /readyz: requests make sense now. */
export function readyz({ store, shuttingDown, log }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/readyz',
    access: 'public',
    schema: {
      operationId: 'readyz',
      tags: ['service'],
      summary: 'Does it take work?',
      description:
        'Asks the store. 200 also when it works with less durability than it should have; then `status` is `degraded` and `warnings` say why.',
      response: { 200: readinessSchema, 503: readinessSchema },
      'x-docs': {
        responses: {
          200: {
            description: 'It does.',
            example: {
              status: 'degraded',
              store: {
                ok: true,
                warnings: ['appendfsync is everysec: a power cut may lose the jobs of the last second.'],
              },
            },
          },
          503: {
            description: 'The store does not answer, or the service is shutting down. Send work elsewhere.',
            example: { status: 'unavailable', store: { ok: false, warnings: ['Redis does not answer.'] } },
          },
        },
        errors: [],
      },
    },
    async handler(_request, reply) {
      const health = await storeHealth();
      const readiness: Readiness = { status: statusOf(health), store: health };
      const ready = readiness.status === 'ready' || readiness.status === 'degraded';
      return reply
        .code(ready ? 200 : 503)
        .header('cache-control', 'no-store')
        .send(readiness);
    },
  });

  function statusOf({ ok, warnings }: StoreHealth): Readiness['status'] {
    if (shuttingDown()) return 'shutting-down';
    if (!ok) return 'unavailable';
    return warnings.length > 0 ? 'degraded' : 'ready';
  }

  async function storeHealth(): Promise<StoreHealth> {
    try {
      return await store.health();
    } catch (err) {
      log.warn({ err }, 'The store gives no account of its health');
      return { ok: false, warnings: ['The store does not answer.'] };
    }
  }
}
