import { z } from 'zod';
import { operation, type RouteContext } from '../deps.js';

const healthSchema = z.object({
  status: z.literal('ok'),
  version: z.string(),
  uptimeSeconds: z.number().min(0),
});

/** GET /healthz: this process answers. */
export function healthz({ version }: RouteContext) {
  return operation({
    method: 'GET',
    url: '/healthz',
    access: 'public',
    schema: {
      operationId: 'healthz',
      tags: ['service'],
      summary: 'Is the process alive?',
      description:
        'Answers as long as the process does, whatever the store does: restart it when this fails.',
      response: { 200: healthSchema },
      'x-docs': {
        responses: {
          200: { description: 'It is.', example: { status: 'ok', version: '0.1.0', uptimeSeconds: 86.4 } },
        },
        errors: [],
      },
    },
    async handler() {
      return { status: 'ok', version, uptimeSeconds: process.uptime() };
    },
  });
}
