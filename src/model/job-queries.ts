import { z } from 'zod';
import { FILE_ERROR_CODES } from './errors.js';
import { EXAMPLE_JOB_ID, labelParameter, pageFields } from './request-fields.js';
import { FILE_STATES, JOB_KINDS, JOB_STATES, REPORT_FORMATS, REPORT_SCOPES } from './words.js';

/** What is asked of jobs that are there. */

/** What jobs can be told by that never changes. */
const jobFilterFields = {
  principal: z.string().min(1).max(128).optional().meta({
    description: "Only jobs of this principal. Without the role `operate` only one's own are listed.",
  }),
  kind: z.enum(JOB_KINDS).optional().meta({ description: 'Only jobs of this kind.' }),
  cache: z
    .string()
    .min(1)
    .max(255)
    .optional()
    .meta({ description: 'Only jobs of this cache (a name or an address).' }),
  node: z.string().min(1).max(255).optional().meta({ description: 'Only transfers of this node.' }),
  label: labelParameter('Only jobs with this label, `KEY=VALUE`, e.g. `run=42`; repeatable, all must match.'),
};

export const eventsQuerySchema = z.strictObject(jobFilterFields);
export type EventsQuery = z.infer<typeof eventsQuerySchema>;

export const jobListQuerySchema = z.strictObject({
  ...jobFilterFields,
  state: z
    .array(z.enum(JOB_STATES))
    .optional()
    .meta({ description: 'Only jobs in one of these states; repeatable.' }),
  createdAfter: z.iso.datetime({ offset: true }).optional().meta({
    description: 'Only jobs created at this time or later (RFC 3339, e.g. `2026-01-31T00:00:00Z`).',
  }),
  createdBefore: z.iso.datetime({ offset: true }).optional().meta({
    description: 'Only jobs created before this time (RFC 3339).',
  }),
  ...pageFields(50, 500),
});

export const jobQuerySchema = z.strictObject({
  until: z.enum(['terminal']).optional().meta({
    description: 'With `Prefer: wait`: wait for the end of the job and not for the next change of anything.',
  }),
});

export const fileListQuerySchema = z.strictObject({
  state: z
    .array(z.enum(FILE_STATES))
    .optional()
    .meta({ description: 'Only files in one of these states; repeatable.' }),
  code: z
    .enum(FILE_ERROR_CODES)
    .optional()
    .meta({ description: 'Only files whose last error has this code.' }),
  ...pageFields(100, 1000),
});

export const reportQuerySchema = z.strictObject({
  format: z.enum(REPORT_FORMATS).default('csv').meta({ description: 'The form of the document.' }),
  scope: z.enum(REPORT_SCOPES).default('failed').meta({
    description: '`failed`: what failed, expired or was canceled. `all`: every file.',
  }),
});

export const jobParamsSchema = z.strictObject({
  id: z
    .string()
    .min(1)
    .max(128)
    .meta({ description: 'The id of the job, from the answer to its request.', examples: [EXAMPLE_JOB_ID] }),
});
