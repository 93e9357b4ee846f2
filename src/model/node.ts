import { z } from 'zod';

/** A host with an agent: what names it, what its configuration allows it, and what the API shows of it. */

/** Becomes part of the name of a queue and of keys. */
export const NODE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
export const NODE_NAME_RULE =
  'a node name is a letter or digit, then letters, digits, ".", "_" or "-", at most 63';

const roots = z.array(
  z
    .string()
    .startsWith('/', 'expected an absolute path')
    .regex(/^[^\0]*$/, 'no path has a NUL'),
);

export const agentConfigSchema = z.strictObject({
  node: z.string().regex(NODE_NAME, NODE_NAME_RULE).nullable().default(null).meta({
    description:
      'The node whose transfers an agent takes, by the name that requests use. Null: the host name, up to its first dot.',
  }),
  sourceRoots: roots.default([]).meta({
    description:
      'Directories from which an agent may copy, and in which SCR transfer files may lie. Nothing outside is opened, through symbolic links neither. Required for --role agent.',
  }),
  destinationRoots: roots.default([]).meta({
    description:
      'Directories into which an agent may copy. Nothing outside is written. Required for --role agent.',
  }),
  concurrency: z.int().min(1).max(256).default(4).meta({
    description: 'Files that an agent copies at the same time, over all jobs.',
  }),
  limits: z
    .strictObject({
      bytesPerSecond: z.number().positive().nullable().default(null).meta({
        description: 'Bytes per second of an agent, over all its jobs.',
      }),
      cpuPercent: z.number().positive().nullable().default(null).meta({
        description: 'Per cent of one CPU that an agent may use.',
      }),
    })
    .prefault({}),
  bufferBytes: z
    .int()
    .min(4096)
    .max(256 * 1024 * 1024)
    .default(1024 * 1024)
    .meta({ description: 'The largest burst. Memory is twice this for each file that is being copied.' }),
});

const count = z.int().min(0);

export const nodeSchema = z
  .object({
    name: z.string(),
    connected: z.boolean().meta({ description: 'An agent of the node is there.' }),
    seenAt: z.iso
      .datetime()
      .nullable()
      .meta({ description: 'When an agent was last heard of; null: never.' }),
    paused: z.boolean(),
    pausedReason: z.string().nullable(),
    jobsActive: count,
    filesQueued: count,
    filesActive: count.meta({ description: 'Files in the hands of the agent.' }),
    bytesQueued: count.meta({
      description:
        'What open jobs are known to hold and is not durable yet; sizes that nobody knows are missing.',
    }),
  })
  .meta({ id: 'Node' });
export type Node = z.infer<typeof nodeSchema>;
