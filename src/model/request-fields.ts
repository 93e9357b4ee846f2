import { z } from 'zod';
import type { ApiLimits } from './limits.js';
import { CONFLICT_WAYS, WEBHOOK_EVENTS } from './words.js';

/**
 * Fields that several requests have. Every limit that a person meets stands in a description, and so in the OpenAPI
 * document.
 */

/** An id as jobs have them, for examples. */
export const EXAMPLE_JOB_ID = 'job_01m7yx4sqram8jdtvpaw5zrxqv';

/** A label key; short and plain enough for a URL, a log and a file name. */
export const LABEL_KEY = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;
const LABEL_KEY_RULE =
  'a label key is a letter or digit, then letters, digits, ".", "_", "/" or "-", at most 63';

/** Text without control characters, counted in bytes of UTF-8. */
export function shortText(maxBytes: number, minLength = 0) {
  return z
    .string()
    .min(minLength)
    .max(maxBytes)
    .regex(/^\P{Cc}*$/u, 'must not have control characters in it')
    .refine((text) => Buffer.byteLength(text) <= maxBytes, `has more than ${maxBytes} bytes`);
}

/** What every request for a job may say; `seconds` takes a number from a JSON body, or from the text of a query. */
export function jobFields(limits: ApiLimits, seconds: (max: number) => z.ZodType<number, unknown>) {
  const { fileTimeoutSeconds, deadlineSeconds } = limits;
  return {
    fileTimeoutSeconds: seconds(fileTimeoutSeconds.max)
      .optional()
      .meta({
        description: `Seconds that one file may take once a worker has it in hand; then it ends as \`expired\`. Default ${fileTimeoutSeconds.default}, at most ${fileTimeoutSeconds.max}.`,
      }),
    deadlineSeconds: seconds(deadlineSeconds.max)
      .optional()
      .meta({
        description: `Seconds from now after which whatever is not done ends as \`expired\`. Default ${deadlineSeconds.default}, at most ${deadlineSeconds.max}.`,
      }),
    webhook: z
      .string()
      .min(1)
      .max(2048)
      .optional()
      .meta({
        description:
          'Whom to call when the job has ended, as in Standard Webhooks: the name of an endpoint that the service has configured, or a URL of an origin that it allows. What was told is at `/v1/jobs/{id}/deliveries`.',
        examples: ['scheduler'],
      }),
    webhookEvents: z.array(z.enum(WEBHOOK_EVENTS)).min(1).optional().meta({
      description:
        'When to call it. `job.started`: a worker begins. `job.failing`: the first file has failed. `job.ended` (the default): the job has ended. Each is told once.',
    }),
    conflict: z.enum(CONFLICT_WAYS).optional().meta({
      description:
        '`join`: if an identical job (the same files in any order, place, options and labels) has not ended, the answer is that job, with `Job-Joined: true`. Without it every request makes a job. What is written to a file after such a job is done with it, is not taken once more.',
    }),
  };
}

export function labelsField(limits: ApiLimits) {
  return z
    .record(z.string().regex(LABEL_KEY, LABEL_KEY_RULE), shortText(limits.labelValueBytes))
    .refine((labels) => Object.keys(labels).length <= limits.labels, `at most ${limits.labels} labels`)
    .optional()
    .meta({
      description: `Labels to find the job by: at most ${limits.labels}, ${LABEL_KEY_RULE}, a value has at most ${limits.labelValueBytes} bytes.`,
      examples: [{ run: '42' }],
    });
}

/** A label in a query. */
export function labelParameter(description: string) {
  return z
    .array(z.string().regex(/^[^=]+=/, 'a label is KEY=VALUE'))
    .optional()
    .meta({ description });
}

function globsField(limits: ApiLimits, description: string, example: string) {
  return z
    .array(shortText(limits.globBytes, 1))
    .max(limits.globs)
    .optional()
    .meta({
      description: `${description} Matched component by component against the path below the directory: \`*\`, \`?\`, \`[a-z]\` and \`{a,b}\` within one, at most three \`*\` each, and \`**\` for any number of directories. At most ${limits.globs}, each ${limits.globBytes} bytes.`,
      examples: [[example]],
    });
}

/** Which of the files below a directory are meant. */
export function globFields(limits: ApiLimits) {
  return {
    include: globsField(limits, 'Only files whose path below the directory matches one of these.', '**/*.h5'),
    exclude: globsField(limits, 'Not these.', '**/*.tmp'),
  };
}

/** Which page of a list, and how much of it. */
export function pageFields(standard: number, max: number) {
  return {
    cursor: z
      .string()
      .min(1)
      .max(1024)
      .optional()
      .meta({ description: 'Where to go on: `nextCursor` of the page before. Opaque.' }),
    limit: z.coerce
      .number()
      .int()
      .min(1)
      .max(max)
      .default(standard)
      .meta({ description: `Items on a page, at most ${max}.` }),
  };
}
