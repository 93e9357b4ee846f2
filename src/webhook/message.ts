import type { Job } from '../model/job.js';
import { type WebhookMessage, webhookMessageSchema } from '../model/webhook-message.js';
import type { WebhookEvent } from '../model/words.js';

/** The body of a message, as JSON. @param now milliseconds since 1970 */
export function message(event: WebhookEvent, job: Job, now: number): string {
  const at = { 'job.started': job.startedAt, 'job.failing': null, 'job.ended': job.finishedAt }[event];
  return JSON.stringify({
    type: event,
    timestamp: at ?? new Date(now).toISOString(),
    data: webhookMessageSchema.shape.data.parse(job),
  } satisfies WebhookMessage);
}
