import { z } from 'zod';
import { deliveryId } from '../model/webhook.js';
import { type WebhookMessage, webhookMessageSchema } from '../model/webhook-message.js';
import { WEBHOOK_EVENTS, type WebhookEvent } from '../model/words.js';
import { JOB_EXAMPLE } from './examples.js';

/** The `webhooks` of the OpenAPI document: what the service calls, told from the receiver's side. */

const SUMMARIES: Record<WebhookEvent, string> = {
  'job.started': 'A worker or agent begins with the job',
  'job.failing': 'The first file of the job has failed',
  'job.ended': 'The job has ended',
};

const DESCRIPTION = `The call of a webhook, as in [Standard Webhooks](https://www.standardwebhooks.com): verify \`webhook-signature\` with a library of theirs over the body as it came, and take a \`webhook-id\` that came before for the same message. Any 2xx is success; everything else, a redirect included, is tried again with growing pauses, except 410.`;

const HEADERS = [
  {
    name: 'webhook-id',
    description: 'The same in every attempt.',
    example: deliveryId(JOB_EXAMPLE.id, 'job.ended'),
  },
  {
    name: 'webhook-timestamp',
    description: 'Seconds since 1970 of this attempt. Refuse one that is minutes old.',
    example: '1769860800',
  },
  {
    name: 'webhook-signature',
    description:
      'One or more, separated by blanks: `v1,` and the base64 of the HMAC-SHA256 over `id.timestamp.body`. One that fits is enough.',
    example: 'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
  },
];

/** @param tidy takes out of a schema what nobody reads */
export function webhookOperations(tidy: (schema: unknown) => unknown): Record<string, unknown> {
  return Object.fromEntries(
    WEBHOOK_EVENTS.map((event) => [
      event,
      {
        post: {
          operationId: `on${event.replace(/(?:^|\.)(\w)/g, (_, letter: string) => letter.toUpperCase())}`,
          summary: SUMMARIES[event],
          description: DESCRIPTION,
          parameters: HEADERS.map(({ name, description, example }) => ({
            name,
            in: 'header',
            required: true,
            description,
            schema: { type: 'string' },
            example,
          })),
          requestBody: {
            required: true,
            content: { 'application/json': { schema: tidy(messageSchema()), example: exampleOf(event) } },
          },
          responses: { '2XX': { description: 'Delivered.' }, 410: { description: 'Do not try again.' } },
        },
      },
    ]),
  );
}

function messageSchema(): unknown {
  const {
    $schema: _,
    $defs: __,
    ...schema
  } = z.toJSONSchema(webhookMessageSchema, { target: 'draft-2020-12' });
  // What has an id stands among the components of the document.
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/$defs/', '"#/components/schemas/'));
}

function exampleOf(event: WebhookEvent): WebhookMessage {
  const at = '2026-01-31T12:03:20.460Z';
  const ended = event === 'job.ended' ? ({ state: 'succeeded', finishedAt: at } as const) : {};
  const data = webhookMessageSchema.shape.data.parse({ ...JOB_EXAMPLE, ...ended });
  return { type: event, timestamp: at, data };
}
