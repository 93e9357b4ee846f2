import { z } from 'zod';
import { jobParamsSchema } from '../../model/job-queries.js';
import { deliverySchema } from '../../model/webhook.js';
import { operation, type RouteContext } from '../deps.js';
import { DELIVERY_EXAMPLE } from '../examples.js';

const deliveryParamsSchema = jobParamsSchema.extend({
  deliveryId: z
    .string()
    .min(1)
    .max(128)
    .meta({ description: 'The `id` of the delivery.', examples: [DELIVERY_EXAMPLE.id] }),
});

/** GET /v1/jobs/{id}/deliveries */
export function listDeliveries({ store }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/v1/jobs/:id/deliveries',
    access: 'submit',
    schema: {
      operationId: 'listDeliveries',
      tags: ['jobs'],
      summary: 'List the calls of its webhook',
      description:
        'What the webhook of a job was told or is to be told, with the newest attempts. A job without a webhook has none, and one whose webhook has nothing to hear yet neither.',
      params: jobParamsSchema,
      response: { 200: z.object({ items: z.array(deliverySchema) }) },
      'x-docs': {
        responses: {
          200: {
            description: 'The deliveries, at most one per event.',
            example: { items: [DELIVERY_EXAMPLE] },
          },
        },
        errors: ['VALIDATION', 'JOB_NOT_FOUND', 'JOB_GONE', 'STORE_UNAVAILABLE'],
      },
    },
    async handler(request) {
      return { items: await store.listDeliveries(request.params.id) };
    },
  });
}

/** POST /v1/jobs/{id}/deliveries/{deliveryId}/resend */
export function resendDelivery({ store }: RouteContext) {
  return operation({
    method: 'POST',
    url: '/v1/jobs/:id/deliveries/:deliveryId/resend',
    access: 'submit',
    schema: {
      operationId: 'resendDelivery',
      tags: ['jobs'],
      summary: 'Call the webhook again',
      description:
        'Sends a delivery once more, whatever became of it: with the same `webhook-id` and body, a new time and signature, and if it fails with all the pauses and attempts of a new one. One that waits for its pause is sent now.',
      params: deliveryParamsSchema,
      response: { 202: deliverySchema },
      'x-docs': {
        responses: {
          202: {
            description: 'It is sent now.',
            example: { ...DELIVERY_EXAMPLE, state: 'pending', deliveredAt: null },
          },
        },
        errors: [
          'MALFORMED',
          'CROSS_SITE',
          'VALIDATION',
          'JOB_NOT_FOUND',
          'DELIVERY_NOT_FOUND',
          'JOB_GONE',
          'STORE_UNAVAILABLE',
        ],
      },
    },
    async handler(request, reply) {
      return reply.code(202).send(await store.resend(request.params.id, request.params.deliveryId));
    },
  });
}
