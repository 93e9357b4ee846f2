import { z } from 'zod';
import { cacheLimitsSchema } from './cache.js';
import { FILE_ERROR_CODES } from './errors.js';
import type { ApiLimits } from './limits.js';
import { NODE_NAME, NODE_NAME_RULE } from './node.js';
import { LIST_DELIMITERS } from './path-list.js';
import {
  CONFLICT_WAYS,
  DIALECTS,
  FILE_STATES,
  FLUSH_MODES,
  JOB_KINDS,
  JOB_STATES,
  PATHS_ARE,
  REPORT_FORMATS,
  REPORT_SCOPES,
  WEBHOOK_EVENTS,
} from './words.js';

/** What requests may say. Every limit that a person meets stands in a description, and so in the OpenAPI document. */

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

/** For a JSON body and (coerced from text) for a query, as all below. */
function timeFields(limits: ApiLimits, seconds: (max: number) => z.ZodType<number, unknown>) {
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

function optionFields(limits: ApiLimits, seconds: (max: number) => z.ZodType<number, unknown>) {
  return {
    pathsAre: z.enum(PATHS_ARE).optional().meta({
      description:
        'Which name of a file the paths are: relative to the export (`export`, the default), in the namespace of the cache, beginning with the export (`namespace`), or as seen by a client that mounted the namespace (`client`; needs `clientMount` in the configuration of the cache).',
    }),
    mode: z.enum(FLUSH_MODES).optional().meta({
      description:
        '`async` (default): start a flush and poll it. `sync`: one call whose reply comes when the file is written back.',
    }),
    dialect: z.enum(DIALECTS).optional().meta({
      description:
        'How the target is asked to write back. Only for an address that is not configured; a configured cache has its dialect in the configuration.',
    }),
    ...timeFields(limits, seconds),
  };
}

function labelsField(limits: ApiLimits) {
  return z
    .record(z.string().regex(LABEL_KEY, LABEL_KEY_RULE), shortText(limits.labelValueBytes))
    .refine((labels) => Object.keys(labels).length <= limits.labels, `at most ${limits.labels} labels`)
    .optional()
    .meta({
      description: `Labels to find the job by: at most ${limits.labels}, ${LABEL_KEY_RULE}, a value has at most ${limits.labelValueBytes} bytes.`,
      examples: [{ run: '42' }],
    });
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

function cacheField() {
  return z.string().min(1).max(255).meta({
    description:
      'A configured cache, or, within the networks that the service allows (`adHoc.networks`, loopback by default), an IPv4 or IPv6 address or a host name. A name is resolved once, now: the job keeps the addresses.',
  });
}

function exportField() {
  return z
    .string()
    .min(1)
    .max(1024)
    .regex(/^\//, 'an export is an absolute path of the namespace of the cache, e.g. "/exp1"')
    .meta({
      description:
        'The export that holds the files: absolute, and one of the exports of the cache if its configuration lists any.',
    });
}

/** The JSON body of `POST /v1/flushes`. */
export function flushRequestSchema(limits: ApiLimits) {
  return z.strictObject({
    cache: cacheField(),
    export: exportField(),
    files: z
      .array(z.string())
      .optional()
      .meta({
        description: `Paths of regular files, each at most ${limits.pathBytes} bytes; together with everything else at most ${limits.jsonBodyBytes} bytes. A byte of a name that is not UTF-8 is written as a lone surrogate, \`\\udc80\` to \`\\udcff\`. Longer lists are sent streamed.`,
        examples: [['/run42/out.0', '/run42/out.1']],
      }),
    directories: z
      .array(
        z.strictObject({
          path: z
            .string()
            .min(1)
            .meta({
              description: 'A directory; everything below it is flushed.',
              examples: ['/run42/checkpoints'],
            }),
          include: globsField(
            limits,
            'Only files whose path below the directory matches one of these.',
            '**/*.h5',
          ),
          exclude: globsField(limits, 'Not these.', '**/*.tmp'),
        }),
      )
      .max(limits.directories)
      .optional()
      .meta({
        description: `Directories, expanded recursively when the job runs. At most ${limits.directories}. A file that is named in several ways, by the list or by directories that overlap, is flushed once.`,
      }),
    ...optionFields(limits, (max) => z.number().positive().max(max)),
    labels: labelsField(limits),
  });
}
export type FlushRequest = z.infer<ReturnType<typeof flushRequestSchema>>;

const nodeField = z.string().regex(NODE_NAME, NODE_NAME_RULE).meta({
  description:
    'The node whose agent copies: the name it was started with (`writeback serve --role agent --node NAME`). Without a connected agent the job waits, and says so.',
});

const bytesPerSecond = z
  .number()
  .positive()
  .max(1e15)
  .nullable()
  .optional()
  .meta({ description: 'Bytes per second, over all files of the job; null: no limit.' });
const cpuPercent = z
  .number()
  .positive()
  .max(100_000)
  .nullable()
  .optional()
  .meta({ description: 'Per cent of one CPU that the agent may use; null: no limit.' });

const limitsField = z.strictObject({ bytesPerSecond, cpuPercent }).meta({
  description:
    'What the job may use. The lower of these and of those that the agent has in its configuration holds.',
});

const sourceField = z.string().min(1).meta({
  description:
    'Absolute path of a regular file on the node, within the source roots of its agent. A byte of a name that is not UTF-8 is written as a lone surrogate, `\\udc80` to `\\udcff`.',
});
const destinationField = z.string().min(1).meta({
  description:
    'Absolute path that the copy gets, within the destination roots of the agent. Missing directories are made.',
});
const sizeField = z.int().min(0).optional().meta({
  description: 'Bytes that the file must have; the file fails if it has not. Optional.',
});
const verifyField = z
  .boolean()
  .optional()
  .meta({ description: 'Read every copy again and compare it with its source (CRC-32).' });

/** One file of a transfer: an element of `files`, or a line of the streamed form. */
export const transferFileSchema = z.strictObject({
  source: sourceField,
  destination: destinationField,
  size: sizeField,
});
export type TransferFile = z.infer<typeof transferFileSchema>;

/** The JSON body of `POST /v1/transfers`. */
export function transferRequestSchema(limits: ApiLimits) {
  return z.strictObject({
    node: nodeField,
    files: z
      .array(transferFileSchema)
      .optional()
      .meta({ description: 'Files to copy. Longer lists are sent streamed.' }),
    directories: z
      .array(
        z.strictObject({
          source: z
            .string()
            .min(1)
            .meta({
              description: 'A directory on the node; every regular file below it is copied.',
              examples: ['/local/run42'],
            }),
          destination: z
            .string()
            .min(1)
            .meta({
              description: 'The directory that becomes the same below it.',
              examples: ['/lustre/run42'],
            }),
          include: globsField(
            limits,
            'Only files whose path below the directory matches one of these.',
            '**/*.h5',
          ),
          exclude: globsField(limits, 'Not these.', '**/*.tmp'),
        }),
      )
      .max(limits.directories)
      .optional()
      .meta({
        description: `Directories, expanded recursively when the job runs. At most ${limits.directories}.`,
      }),
    scrTransferFile: z
      .string()
      .min(1)
      .optional()
      .meta({
        description:
          'Absolute path of an SCR transfer file on the node, within the source roots of its agent: what it lists is copied. Instead of `files` and `directories`.',
        examples: ['/local/scr/transfer.scr'],
      }),
    limits: limitsField.optional(),
    verify: verifyField,
    ...timeFields(limits, (max) => z.number().positive().max(max)),
    labels: labelsField(limits),
  });
}
export type TransferRequest = z.infer<ReturnType<typeof transferRequestSchema>>;

function labelParameter(description: string) {
  return z
    .array(z.string().regex(/^[^=]+=/, 'a label is KEY=VALUE'))
    .optional()
    .meta({ description });
}

/** The query of `POST /v1/flushes` when the body is the list itself. */
export function flushQuerySchema(limits: ApiLimits) {
  return z.strictObject({
    cache: cacheField(),
    export: exportField(),
    ...optionFields(limits, (max) => z.coerce.number().positive().max(max)),
    label: labelParameter('`KEY=VALUE`, e.g. `run=42`; repeatable; rules as for `labels` of the JSON form.'),
    delimiter: z.enum(LIST_DELIMITERS).optional().meta({
      description:
        'For text/plain: what ends a path. `newline` (default; a CR before it is dropped) or `nul`, as `find -print0` writes.',
    }),
  });
}
export type FlushQuery = z.infer<ReturnType<typeof flushQuerySchema>>;

/** The query of `POST /v1/transfers` when the body is the list itself. */
export function transferQuerySchema(limits: ApiLimits) {
  return z.strictObject({
    node: nodeField,
    bytesPerSecond: z.coerce.number().positive().max(1e15).optional().meta({
      description: 'Bytes per second, over all files of the job.',
    }),
    cpuPercent: z.coerce.number().positive().max(100_000).optional().meta({
      description: 'Per cent of one CPU that the agent may use.',
    }),
    verify: z
      .enum(['true', 'false'])
      .optional()
      .meta({ description: 'Read every copy again and compare it with its source (CRC-32).' }),
    ...timeFields(limits, (max) => z.coerce.number().positive().max(max)),
    label: labelParameter('`KEY=VALUE`, e.g. `run=42`; repeatable; rules as for `labels` of the JSON form.'),
  });
}
export type TransferQuery = z.infer<ReturnType<typeof transferQuerySchema>>;

/** The JSON body of `PATCH /v1/jobs/{id}`. */
export const jobPatchSchema = z.strictObject({
  limits: limitsField
    .refine((limits) => Object.keys(limits).length > 0, 'names no limit')
    .meta({ description: 'New limits of a transfer; one that is not named stays as it is.' }),
});

const cursor = z
  .string()
  .min(1)
  .max(1024)
  .optional()
  .meta({ description: 'Where to go on: `nextCursor` of the page before. Opaque.' });

function pageLimit(standard: number, max: number) {
  return z.coerce
    .number()
    .int()
    .min(1)
    .max(max)
    .default(standard)
    .meta({ description: `Items on a page, at most ${max}.` });
}

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
  cursor,
  limit: pageLimit(50, 500),
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
  cursor,
  limit: pageLimit(100, 1000),
});

export const nodeListQuerySchema = z.strictObject({ cursor, limit: pageLimit(100, 1000) });

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

export const cacheParamsSchema = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(255)
    .meta({ description: 'A configured cache, or an address that jobs have named.', examples: ['projects'] }),
});

export const nodeParamsSchema = z.strictObject({
  name: z
    .string()
    .regex(NODE_NAME, NODE_NAME_RULE)
    .meta({
      description: 'A node that has or had an agent, or jobs.',
      examples: ['n042'],
    }),
});

export const cacheChangesSchema = z.strictObject({
  limits: z
    .strictObject({
      inFlight: cacheLimitsSchema.shape.inFlight
        .unwrap()
        .optional()
        .meta({ description: 'Flushes outstanding on the cache, over all workers.' }),
      filesPerSecond: cacheLimitsSchema.shape.filesPerSecond
        .unwrap()
        .optional()
        .meta({ description: 'Flushes begun per second, over all workers; null: any number.' }),
    })
    .refine((limits) => Object.values(limits).some((limit) => limit !== undefined), {
      message: 'give "inFlight", "filesPerSecond" or both',
    })
    .nullable()
    .meta({ description: 'What is not given stays as it is. Null: back to the configuration.' }),
});

export const pauseRequestSchema = z.strictObject({
  reason: z
    .string()
    .trim()
    .min(1)
    .max(500)
    .meta({
      description: 'Why, for everybody whose job waits.',
      examples: ['Core filer upgrade until 14:00, ask ops'],
    }),
});
