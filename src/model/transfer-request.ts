import { z } from 'zod';
import type { ApiLimits } from './limits.js';
import { NODE_NAME, NODE_NAME_RULE } from './node.js';
import { globFields, jobFields, labelParameter, labelsField } from './request-fields.js';

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
          ...globFields(limits),
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
    ...jobFields(limits, (max) => z.number().positive().max(max)),
    labels: labelsField(limits),
  });
}
export type TransferRequest = z.infer<ReturnType<typeof transferRequestSchema>>;

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
    ...jobFields(limits, (max) => z.coerce.number().positive().max(max)),
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
