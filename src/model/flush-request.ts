import { z } from 'zod';
import type { ApiLimits } from './limits.js';
import { LIST_DELIMITERS } from './path-list.js';
import { globFields, jobFields, labelParameter, labelsField } from './request-fields.js';
import { DIALECTS, FLUSH_MODES, PATHS_ARE } from './words.js';

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
    ...jobFields(limits, seconds),
  };
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
          ...globFields(limits),
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
