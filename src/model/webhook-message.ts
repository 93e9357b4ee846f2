import { z } from 'zod';
import { jobSchema } from './job.js';
import { WEBHOOK_EVENTS } from './words.js';

/** What of a job a message shows: enough to go on without asking, and nothing that grows with its files. */
const shownJobSchema = jobSchema.pick({
  id: true,
  kind: true,
  principal: true,
  state: true,
  statusDetail: true,
  cache: true,
  export: true,
  node: true,
  labels: true,
  parentJobId: true,
  createdAt: true,
  startedAt: true,
  finishedAt: true,
  progress: true,
});

/** The body of a call of a webhook. */
export const webhookMessageSchema = z.object({
  type: z.enum(WEBHOOK_EVENTS),
  timestamp: z.iso.datetime().meta({ description: 'When it happened.' }),
  data: shownJobSchema.meta({
    description: 'The job as it was when the message was made; every further attempt says the same.',
  }),
});
export type WebhookMessage = z.infer<typeof webhookMessageSchema>;
