import type { Job } from '../model/job.js';
import type { WebhookEvent } from '../model/words.js';

/** What of a job a message shows: enough to go on without asking, and nothing that grows with its files. */
const SHOWN = [
  'id',
  'kind',
  'principal',
  'state',
  'statusDetail',
  'cache',
  'export',
  'node',
  'labels',
  'parentJobId',
  'createdAt',
  'startedAt',
  'finishedAt',
  'progress',
] as const satisfies readonly (keyof Job)[];

/** The body of a message, as JSON: `type`, `timestamp` (when it happened) and `data` (the job as it is now). */
export function message(event: WebhookEvent, job: Job, now: number): string {
  const at = { 'job.started': job.startedAt, 'job.failing': null, 'job.ended': job.finishedAt }[event];
  return JSON.stringify({
    type: event,
    timestamp: at ?? new Date(now).toISOString(),
    data: Object.fromEntries(SHOWN.map((name) => [name, job[name]])),
  });
}
