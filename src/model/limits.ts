import { z } from 'zod';
import { cacheConfigSchema } from './cache.js';
import { DIALECTS } from './words.js';

/** What one request, and all requests together, may ask of the service. Part of the configuration. */

const MIB = 1024 * 1024;

export const apiLimitsSchema = z.strictObject({
  jsonBodyBytes: z
    .int()
    .min(1024)
    .default(16 * MIB)
    .meta({ description: 'Bytes of one JSON body, after decompression. Longer lists are sent streamed.' }),
  streamedBodyBytes: z
    .int()
    .min(1024)
    .default(1024 * MIB)
    .meta({ description: 'Bytes of one streamed list, after decompression.' }),
  filesPerJob: z.int().min(1).default(5_000_000).meta({ description: 'Files in one request.' }),
  pathBytes: z.int().min(1).max(65536).default(4096).meta({ description: 'Bytes of one path.' }),
  directories: z.int().min(0).default(1000).meta({ description: 'Directories in one request.' }),
  globs: z.int().min(0).default(100).meta({ description: 'include and exclude patterns of one directory.' }),
  globBytes: z.int().min(1).max(4096).default(256).meta({ description: 'Bytes of one pattern.' }),
  labels: z.int().min(0).default(32).meta({ description: 'Labels of one job.' }),
  labelValueBytes: z.int().min(0).max(4096).default(256).meta({ description: 'Bytes of a label value.' }),
  queuedFilesPerCache: z
    .int()
    .min(1)
    .default(10_000_000)
    .meta({ description: 'Files waiting for one cache; more are refused with 429 until some are done.' }),
  waiters: z.int().min(0).default(1000).meta({ description: 'Long-polls that may wait at the same time.' }),
  waitSeconds: z.int().min(1).max(3600).default(60).meta({ description: 'The longest wait of a long-poll.' }),
  uploadIdleSeconds: z
    .number()
    .positive()
    .max(3600)
    .default(30)
    .meta({ description: 'An upload that brings no byte for this long is ended with 408.' }),
  uploadSeconds: z
    .number()
    .positive()
    .max(86400)
    .default(600)
    .meta({ description: 'An upload that takes longer in all is ended with 408.' }),
  fileTimeoutSeconds: z
    .strictObject({
      default: z.number().positive().default(3600),
      max: z.number().positive().default(86400),
    })
    .prefault({})
    .meta({ description: 'Time that one file may take once a worker has it in hand.' }),
  deadlineSeconds: z
    .strictObject({
      default: z.number().positive().default(86400),
      max: z
        .number()
        .positive()
        .default(30 * 86400),
    })
    .prefault({})
    .meta({ description: 'Time that one job may take, from its acceptance.' }),
});
export type ApiLimits = z.infer<typeof apiLimitsSchema>;

/**
 * Addresses that requests may name without being configured as a cache. Everything but `networks` holds for each
 * such address, as if it were a configured cache.
 */
export const adHocSchema = z.strictObject({
  networks: z
    .array(z.union([z.cidrv4(), z.cidrv6()]))
    .max(1000)
    .default(['127.0.0.0/8', '::1/128'])
    .meta({
      description:
        'Networks (CIDR) whose addresses requests may name as "cache". Wider ones make the service call any of their hosts on behalf of any caller.',
    }),
  dialect: z.enum(DIALECTS).default('hpc-cache').meta({
    description:
      'The dialect when the request names none. hpc-cache is the safe one: a server that does not know it is found out, and the job says so.',
  }),
  ...cacheConfigSchema.pick({
    clientMount: true,
    credential: true,
    privilegedPort: true,
    ports: true,
    limits: true,
    breakerFaults: true,
    callTimeoutSeconds: true,
  }).shape,
});
export type AdHocConfig = z.infer<typeof adHocSchema>;
