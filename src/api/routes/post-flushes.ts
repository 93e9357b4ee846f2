import { z } from 'zod';
import { BrokerError } from '../../model/errors.js';
import {
  type FlushQuery,
  type FlushRequest,
  flushQuerySchema,
  flushRequestSchema,
} from '../../model/flush-request.js';
import type { FlushJobOptions } from '../../model/job.js';
import type { ApiLimits } from '../../model/limits.js';
import { pathBytes } from '../../model/pathname.js';
import { chosenWebhook, type WebhookWish } from '../../model/webhook.js';
import type { DirectoryRequest, NewFlush } from '../../store/types.js';
import { onlyConflict } from '../asking-twice.js';
import { bodyChunks } from '../body.js';
import type { RouteContext } from '../deps.js';
import { FLUSH_EXAMPLES, LIST_EXAMPLES, QUEUED_JOB_EXAMPLE } from '../examples.js';
import { FlushJsonReader } from '../flush-json.js';
import { NdjsonListReader, TextListReader } from '../flush-lists.js';
import { checkedPaths } from '../flush-paths.js';
import { flushGrant, isConfined, UncheckedFiles } from '../grants.js';
import { commitOptions, type QueueRoom, queueRoom, takeBody } from '../intake-files.js';
import {
  type AskedJob,
  type JobRequest,
  JSON_TYPE,
  jobOperation,
  NDJSON_TYPE,
  uploadLimits,
} from '../job-intake.js';
import { labelsOf } from '../labels.js';
import { ValidationError, validationError } from '../problem.js';
import type { Target } from '../target.js';

const TEXT_TYPE = 'text/plain';
/** Members of a JSON body other than `files`. */
const REST_BYTES = 1024 * 1024;
const SEND_STREAMED =
  'Send the list itself as text/plain or application/x-ndjson, with the options in the query: that form takes millions of paths.';

/**
 * The page to try it out fills in the example of the schema when the form is changed, and writes examples of every
 * media type with "json" in its name as one JSON value: so the schema of NDJSON is that of one line.
 */
const listSchema = z.string().meta({ examples: [LIST_EXAMPLES.text.lines.value] });
const lineSchema = z
  .union([z.string(), z.strictObject({ path: z.string() })])
  .meta({ description: 'Each line of the list.', examples: [LIST_EXAMPLES.ndjson.line.value] });

/** POST /v1/flushes: takes the list as it arrives; nothing of it is a job before all of it is good. */
export function postFlushes(context: RouteContext) {
  const { limits, store } = context;
  const bodySchema = flushRequestSchema(limits);
  const querySchema = flushQuerySchema(limits);

  return jobOperation(context, {
    url: '/v1/flushes',
    operationId: 'createFlush',
    tag: 'flushes',
    summary: 'Flush files',
    description: describe(limits),
    querystring: querySchema.partial(),
    content: {
      [JSON_TYPE]: { schema: bodySchema, examples: FLUSH_EXAMPLES },
      [TEXT_TYPE]: { schema: listSchema, examples: LIST_EXAMPLES.text },
      [NDJSON_TYPE]: { schema: lineSchema, examples: LIST_EXAMPLES.ndjson },
    },
    example: QUEUED_JOB_EXAMPLE,
    errors: [
      'CACHE_NOT_ALLOWED',
      'PATH_NOT_ALLOWED',
      'ADDRESS_NOT_ALLOWED',
      'UNKNOWN_CACHE',
      'UNKNOWN_EXPORT',
    ],
    read: (request) => (request.mediaType === JSON_TYPE ? fromJson(request) : fromList(request)),
  });

  /** `files` may stand before `cache`: what the request is about is known only at its end. */
  async function fromJson(arriving: JobRequest): Promise<AskedJob> {
    const { request, intake } = arriving;
    const conflict = onlyConflict(request.query);
    const reader = new FlushJsonReader({ maxPathBytes: limits.pathBytes, maxRestBytes: REST_BYTES });
    const chunks = bodyChunks(request.raw, uploadLimits(limits, limits.jsonBodyBytes, SEND_STREAMED));
    const unchecked = isConfined(request.principal) ? new UncheckedFiles() : null;
    const paths = checkedPaths(reader, limits, (path) => unchecked?.add(path));
    await takeBody(intake, chunks, paths, limits, null);
    const parsed = bodySchema.safeParse(reader.rest());
    if (!parsed.success) throw validationError(parsed.error.issues, 'body');
    const body = parsed.data;
    const directories = (body.directories ?? []).map((directory, i) =>
      checkedDirectory(directory, i, limits),
    );
    if (intake.filesAdded === 0 && directories.length === 0) {
      throw new BrokerError('EMPTY_LIST', 'The request names no file and no directory.', {
        pointer: '/files',
      });
    }
    const target = await context.targets.resolve({ ...body, dialect: body.dialect });
    const job = newJob(target, body, directories, body.labels ?? {});
    const grant = flushGrant(request.principal, job, job.options);
    if (grant.confinedTo) job.confinedTo = grant.confinedTo;
    unchecked?.check(grant);
    directories.forEach((directory, i) => {
      grant.checkDirectory(directory, `/directories/${i}/path`);
    });
    const join = (conflict ?? body.conflict) === 'join';
    const room = await roomIn(target, arriving, join);
    if (intake.filesAdded > room.files) throw room.full();
    return { job, options: commitOptions(join, limits) };
  }

  async function fromList(arriving: JobRequest): Promise<AskedJob> {
    const { request, intake } = arriving;
    const query = requireQuery(request.query);
    const target = await context.targets.resolve({ ...query, dialect: query.dialect });
    const labels = labelsOf(query.label ?? [], limits);
    const job = newJob(target, query, [], labels);
    const grant = flushGrant(request.principal, job, job.options);
    if (grant.confinedTo) job.confinedTo = grant.confinedTo;
    const ndjson = arriving.mediaType === NDJSON_TYPE;
    const reader = ndjson
      ? new NdjsonListReader(limits.pathBytes)
      : new TextListReader(query.delimiter ?? 'newline', limits.pathBytes);
    const hint = 'Send the list in parts, each as a job of its own.';
    const chunks = bodyChunks(request.raw, uploadLimits(limits, limits.streamedBodyBytes, hint));
    const join = query.conflict === 'join';
    const room = await roomIn(target, arriving, join);
    const paths = checkedPaths(reader, limits, grant.asks ? grant.checkFile : undefined);
    await takeBody(intake, chunks, paths, limits, room);
    if (intake.filesAdded === 0) {
      throw new BrokerError(
        'EMPTY_LIST',
        'The list has no path in it: every line is empty, or there is none.',
      );
    }
    for (const { code, message, count } of reader.warnings()) intake.warn(code, message, count);
    return { job, options: commitOptions(join, limits) };
  }

  function requireQuery(query: unknown): FlushQuery {
    const parsed = querySchema.safeParse(query);
    if (!parsed.success) throw validationError(parsed.error.issues, 'parameters');
    return parsed.data;
  }

  /** A cache without a queue is empty. */
  function roomIn({ cache }: Target, request: JobRequest, join: boolean): Promise<QueueRoom> {
    return queueRoom('cache', request, join, limits, async () => {
      try {
        return (await store.getCache(cache)).filesQueued;
      } catch (error) {
        if (error instanceof BrokerError && error.code === 'CACHE_NOT_FOUND') return 0;
        throw error;
      }
    });
  }

  function newJob(
    target: Target,
    options: Partial<Omit<FlushJobOptions, 'clientMount'>> & WebhookWish,
    directories: DirectoryRequest[],
    labels: Record<string, string>,
  ): NewFlush {
    const pathsAre = options.pathsAre ?? 'export';
    if (pathsAre === 'client' && target.clientMount === null) {
      throw new ValidationError([
        {
          detail: `for paths as clients see them the service must know where clients mount the cache: set "clientMount" of ${JSON.stringify(target.cache)} in its configuration, or send paths relative to the export`,
          pointer: '/pathsAre',
        },
      ]);
    }
    return {
      kind: 'flush',
      cache: target.cache,
      adHocCache: target.adHocCache,
      export: target.export,
      directories,
      labels,
      webhook: chosenWebhook(context.webhooks(), options),
      options: {
        pathsAre,
        clientMount: target.clientMount,
        dialect: target.dialect,
        mode: options.mode ?? 'async',
        fileTimeoutSeconds: options.fileTimeoutSeconds ?? limits.fileTimeoutSeconds.default,
        deadlineSeconds: options.deadlineSeconds ?? limits.deadlineSeconds.default,
      },
      parentJobId: null,
    };
  }
}

function describe(limits: ApiLimits): string {
  return `Asks the cache to write files back to permanent storage, and answers with the job that does it.

Three forms of the same request:

- \`application/json\`: everything in one object, up to ${limits.jsonBodyBytes} bytes. The only form for directories.
- \`text/plain\`: the list itself, one path per line (\`?delimiter=nul\`: between NULs, as \`find -print0\` writes). Paths are bytes: names that are not UTF-8 are kept as they are.
- \`application/x-ndjson\`: one JSON string, or one object \`{"path": …}\`, per line.

For the lists the options stand in the query. They are read as they arrive; a million paths is a normal request. Empty lines and the CR of CR LF are ignored, with a warning on the job. Entries named more than once are flushed once.

To send a request again safely, give it an \`Idempotency-Key\`: the same key with the same request (the files in any order) gives the first answer again, with the job as it is now; with another request 422; while the first is still arriving 409. Keys are remembered for as long as the service is configured to, a day by default. Without a key \`conflict=join\` makes one job of identical requests, as N nodes send them at the end of one task; a joined job may have flushed a file before its last change.

Nothing is accepted before all of it is good: a fault anywhere refuses the whole request, with its place. What only the cache can know (no such file, a directory, no permission) becomes the error of that file.

Limits: ${limits.filesPerJob} files, ${limits.pathBytes} bytes per path, ${limits.streamedBodyBytes} bytes per streamed list, ${limits.uploadIdleSeconds} seconds without a byte, ${limits.uploadSeconds} seconds in all, ${limits.queuedFilesPerCache} files waiting per cache. All are configuration.`;
}

function checkedDirectory(
  { path, include = [], exclude = [] }: NonNullable<FlushRequest['directories']>[number],
  i: number,
  limits: ApiLimits,
): DirectoryRequest {
  const pointer = `/directories/${i}/path`;
  let bytes: Uint8Array;
  try {
    bytes = pathBytes(path);
  } catch (error) {
    throw new ValidationError([
      { detail: `is no path: ${error instanceof Error ? error.message : error}`, pointer },
    ]);
  }
  if (bytes.length > limits.pathBytes) {
    throw new BrokerError(
      'PATH_TOO_LONG',
      `${pointer} has ${bytes.length} bytes; ${limits.pathBytes} are allowed.`,
      { pointer },
    );
  }
  if (bytes.includes(0)) throw new ValidationError([{ detail: 'has a NUL in it', pointer }]);
  return { path, include, exclude };
}
