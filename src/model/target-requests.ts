import { z } from 'zod';
import { cacheLimitsSchema } from './cache.js';
import { NODE_NAME, NODE_NAME_RULE } from './node.js';
import { pageFields } from './request-fields.js';

/** What is asked of caches and nodes. */

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

export const nodeListQuerySchema = z.strictObject(pageFields(100, 1000));

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
