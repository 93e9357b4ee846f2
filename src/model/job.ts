import { z } from 'zod';
import { FILE_ERROR_CODES } from './errors.js';
import { jobWebhookSchema } from './webhook.js';
import {
  DIALECTS,
  EVIDENCE,
  FILE_OUTCOMES,
  FILE_STATES,
  FLUSH_MODES,
  JOB_KINDS,
  JOB_STATES,
  PATHS_ARE,
  PHASES,
} from './words.js';

/** What the API shows of jobs, files, errors and caches. Times are RFC 3339 UTC; unknown is null, never 0. */

const count = z.int().min(0);
const time = z.iso.datetime();

export const progressSchema = z
  .object({
    filesTotal: count.meta({ description: 'Files known so far.' }),
    filesTotalFinal: z.boolean().meta({ description: 'False while directories are still being expanded.' }),
    filesPending: count,
    filesActive: count.meta({ description: 'Files in the hands of a worker.' }),
    filesSucceeded: count.meta({ description: 'Includes filesAlreadyClean.' }),
    filesAlreadyClean: count.meta({ description: 'Succeeded without anything to write.' }),
    filesFailed: count,
    filesSkipped: count.meta({
      description:
        'Not tried on purpose: entries listed more than once, however they are spelled, and what is no regular file in a directory.',
    }),
    filesCanceled: count,
    filesExpired: count,
    bytesTotal: count.nullable().meta({
      description:
        'Null while unknown: a flush learns sizes as it goes; the agent of a transfer looks at every file before it copies.',
    }),
    bytesDone: count.meta({
      description:
        'Sizes of the files that succeeded; for a transfer also what is durable already of files under way.',
    }),
    filesPerSecond: z.number().min(0).nullable(),
    bytesPerSecond: z.number().min(0).nullable(),
    etaSeconds: z.number().min(0).nullable(),
    faults: count.meta({ description: 'Attempts that failed, also those that were retried with success.' }),
    updatedAt: time,
  })
  .meta({ id: 'Progress' });
export type Progress = z.infer<typeof progressSchema>;

export const jobWarningSchema = z
  .object({ code: z.string(), message: z.string(), count: count.nullable() })
  .meta({ id: 'JobWarning' });
export type JobWarning = z.infer<typeof jobWarningSchema>;

export const flushOptionsSchema = z
  .object({
    pathsAre: z.enum(PATHS_ARE),
    clientMount: z.string().nullable(),
    dialect: z.enum(DIALECTS),
    mode: z.enum(FLUSH_MODES),
    fileTimeoutSeconds: z.number(),
    deadlineSeconds: z.number(),
  })
  .meta({ id: 'FlushOptions' });
export type FlushJobOptions = z.infer<typeof flushOptionsSchema>;

/** What a transfer may use of its node. Null: no limit of its own; those of the node hold besides. */
export const transferLimitsSchema = z
  .object({
    bytesPerSecond: z.number().positive().nullable(),
    cpuPercent: z.number().positive().nullable().meta({ description: 'Per cent of one CPU.' }),
  })
  .meta({ id: 'TransferLimits' });
export type TransferLimits = z.infer<typeof transferLimitsSchema>;

export const transferOptionsSchema = z
  .object({
    verify: z.boolean().meta({ description: 'Every copy is read again and compared with its source.' }),
    limits: transferLimitsSchema.meta({ description: 'As they are now; `PATCH` changes them.' }),
    scrTransferFile: z
      .string()
      .nullable()
      .meta({ description: 'The SCR transfer file that is driven, instead of a list of files.' }),
    fileTimeoutSeconds: z.number(),
    deadlineSeconds: z.number(),
  })
  .meta({ id: 'TransferOptions' });
export type TransferJobOptions = z.infer<typeof transferOptionsSchema>;

export const jobSchema = z
  .object({
    id: z.string(),
    kind: z.enum(JOB_KINDS),
    principal: z.string().meta({ description: 'Whose job it is.' }),
    state: z.enum(JOB_STATES),
    paused: z.boolean().meta({ description: 'Its cache or node is paused; pausedReason says why.' }),
    pausedReason: z.string().nullable(),
    statusDetail: z.string().nullable().meta({
      description:
        'One sentence: what the job waits for (its cache is paused or unreachable, nobody serves it), else the newest fault.',
    }),
    warnings: z.array(jobWarningSchema),
    cache: z.string().nullable().meta({ description: 'Of a flush; null for a transfer.' }),
    export: z.string().nullable().meta({ description: 'Of a flush; null for a transfer.' }),
    node: z.string().nullable().meta({ description: 'Whose agent copies; null for a flush.' }),
    labels: z.record(z.string(), z.string()),
    options: z.union([flushOptionsSchema, transferOptionsSchema]).meta({ description: 'By kind of job.' }),
    webhook: jobWebhookSchema.nullable().meta({ description: 'Whom it calls, and when.' }),
    parentJobId: z.string().nullable().meta({ description: 'The job whose files this one retries.' }),
    createdAt: time,
    startedAt: time.nullable(),
    finishedAt: time.nullable(),
    deadlineAt: time.meta({ description: 'What is not done by then is expired.' }),
    goneAt: time.nullable().meta({ description: 'End of retention; afterwards the job answers 410.' }),
    progress: progressSchema,
  })
  .meta({ id: 'Job' });
export type Job = z.infer<typeof jobSchema>;

export const fileErrorSchema = z
  .object({
    code: z.enum(FILE_ERROR_CODES),
    nfsStatus: count.nullable(),
    phase: z.enum(PHASES),
    message: z.string(),
  })
  .meta({ id: 'FileError' });

export const jobFileSchema = z
  .object({
    index: count.meta({ description: 'Position in the job, from 0.' }),
    path: z.string().meta({
      description:
        'As submitted; of a transfer the source. Bytes that are not UTF-8 appear as U+DC80 to U+DCFF.',
    }),
    destination: z
      .string()
      .nullable()
      .meta({ description: 'Where a transfer puts it, in the same form; null for a flush.' }),
    state: z.enum(FILE_STATES),
    outcome: z.enum(FILE_OUTCOMES).nullable().meta({
      description:
        '`already_clean`: the first time that the job asked the cache, there was nothing to write. Where the answer was lost on the way, or another worker had the file before, it is `flushed`.',
    }),
    evidence: z.enum(EVIDENCE).nullable(),
    attempts: count,
    size: count.nullable(),
    mtime: time.nullable(),
    durationMs: z.number().min(0).nullable(),
    firstError: fileErrorSchema.nullable(),
    lastError: fileErrorSchema.nullable(),
  })
  .meta({ id: 'JobFile' });
export type JobFile = z.infer<typeof jobFileSchema>;

export const errorGroupSchema = z
  .object({
    code: z.enum(FILE_ERROR_CODES),
    count,
    help: z.string(),
    retryable: z.boolean(),
    samples: z.array(z.object({ path: z.string(), message: z.string() })),
  })
  .meta({ id: 'ErrorGroup' });
export type ErrorGroup = z.infer<typeof errorGroupSchema>;

/** Whether files are sent to a cache at all. */
const CIRCUIT_STATES = ['closed', 'open', 'half-open'] as const;
const circuitSchema = z
  .object({
    state: z.enum(CIRCUIT_STATES).meta({
      description:
        '`closed`: files are flushed. `open`: its queue is held until `retryAt`. `half-open`: some files find out whether it can be closed.',
    }),
    code: z.enum(FILE_ERROR_CODES).nullable(),
    reason: z.string().nullable().meta({ description: 'What was seen of the cache last.' }),
    since: time.nullable(),
    retryAt: time.nullable(),
    tries: count.meta({ description: 'How many times in a row it was opened.' }),
  })
  .meta({
    description:
      'Opened when the cache does not answer, and when the storage behind it fails file after file (`breakerFaults`).',
  });

export const cacheSchema = z
  .object({
    name: z.string(),
    configured: z.boolean().meta({ description: 'False for an address that requests named directly.' }),
    dialect: z.enum(DIALECTS),
    addresses: z.array(z.string()),
    exports: z.array(z.string()).nullable().meta({ description: 'Null: any export of the server.' }),
    health: z.enum(['unknown', 'up', 'down']),
    healthDetail: z.string().nullable(),
    dialectProven: z
      .boolean()
      .meta({ description: 'The target has shown the hpc-cache dialect (10002 or 66).' }),
    circuit: circuitSchema,
    paused: z.boolean(),
    pausedReason: z.string().nullable(),
    slotsLeased: count.meta({
      description: 'Flushes that all workers together may have outstanding now, of `limits.inFlight`.',
    }),
    limits: z
      .object({ inFlight: count, filesPerSecond: z.number().nullable() })
      .meta({ description: 'In force: as configured, or as last changed by PATCH.' }),
    limitsConfigured: z
      .object({ inFlight: count, filesPerSecond: z.number().nullable() })
      .meta({ description: 'As the configuration has them.' }),
    workers: count.meta({ description: 'Running workers that serve it. With none, its jobs wait.' }),
    filesQueued: count,
    filesActive: count,
    jobsActive: count,
  })
  .meta({ id: 'Cache' });
export type Cache = z.infer<typeof cacheSchema>;

export const cacheHistorySchema = z
  .object({
    items: z
      .array(
        z.object({
          at: time.meta({ description: 'Begin of the minute.' }),
          filesSucceeded: count,
          filesFailed: count,
          bytes: count.meta({ description: 'Sizes of the files that succeeded.' }),
        }),
      )
      .meta({ description: 'The last 60 minutes, oldest first; the last one is still running.' }),
    filesPerSecond: z.number().min(0).meta({ description: 'Files that ended, over the last minute.' }),
    bytesPerSecond: z.number().min(0).meta({ description: 'Their bytes, over the last minute.' }),
  })
  .meta({ id: 'CacheHistory' });
export type CacheHistory = z.infer<typeof cacheHistorySchema>;
