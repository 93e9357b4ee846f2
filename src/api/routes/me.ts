import { z } from 'zod';
import { grantsSchema } from '../../model/principal.js';
import { operation } from '../deps.js';

const meSchema = z
  .object({ name: z.string().meta({ description: 'As jobs show it.' }), ...grantsSchema.shape })
  .meta({ id: 'Principal' });

/** GET /v1/me */
export function showMe() {
  return operation({
    method: 'GET',
    url: '/v1/me',
    access: 'submit',
    schema: {
      operationId: 'getMe',
      tags: ['service'],
      summary: 'Who am I?',
      description:
        'The principal of the credential that was sent, and what it may do. Without any credential configured everybody is `local`.',
      response: { 200: meSchema },
      'x-docs': {
        responses: {
          200: {
            description: 'The principal.',
            example: {
              name: 'alice',
              role: 'submit',
              caches: [{ name: 'projects', prefixes: ['/exp1/alice'] }],
              nodes: [],
              quotas: { queuedFiles: 1_000_000, runningJobs: 100, requestsPerMinute: 600 },
              identity: { uid: 1001, gid: 1001, gids: [] },
            },
          },
        },
        errors: [],
      },
    },
    async handler({ principal }) {
      return principal;
    },
  });
}
