import { z } from 'zod';
import { BrokerError } from '../../model/errors.js';
import type { ApiLimits } from '../../model/limits.js';
import {
  type TransferQuery,
  type TransferRequest,
  transferQuerySchema,
  transferRequestSchema,
} from '../../model/transfer-request.js';
import { chosenWebhook, type WebhookWish } from '../../model/webhook.js';
import type { DirectoryRequest, FileCheck, NewTransfer } from '../../store/types.js';
import { onlyConflict } from '../asking-twice.js';
import { bodyChunks, readJson } from '../body.js';
import type { RouteContext } from '../deps.js';
import { TRANSFER_EXAMPLES, TRANSFER_JOB_EXAMPLE, TRANSFER_LIST_EXAMPLES } from '../examples.js';
import { transferGrant } from '../grants.js';
import { commitOptions, type QueueRoom, queueRoom, takeBody, takeFiles } from '../intake-files.js';
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
import { absolutePath, fileEntry, refuseCopyIntoItself, TransferListReader } from '../transfer-lists.js';

/** Parsed in one go, which stops the process for as long: what is longer is sent streamed. */
const JSON_BODY_BYTES = 4 * 1024 * 1024;

/** POST /v1/transfers: nothing of it is a job before all of it is good. */
export function postTransfers(context: RouteContext) {
  const { limits, store } = context;
  const bodySchema = transferRequestSchema(limits);
  const querySchema = transferQuerySchema(limits);
  const jsonBytes = Math.min(JSON_BODY_BYTES, limits.jsonBodyBytes);

  return jobOperation(context, {
    url: '/v1/transfers',
    operationId: 'createTransfer',
    tag: 'transfers',
    summary: 'Copy files of a node',
    description: describe(limits, jsonBytes),
    querystring: querySchema.partial(),
    content: {
      [JSON_TYPE]: { schema: bodySchema, examples: TRANSFER_EXAMPLES },
      [NDJSON_TYPE]: { schema: z.string(), examples: TRANSFER_LIST_EXAMPLES },
    },
    example: TRANSFER_JOB_EXAMPLE,
    errors: ['NODE_NOT_ALLOWED', 'PATH_NOT_ALLOWED'],
    read,
  });

  function read(request: JobRequest): Promise<AskedJob> {
    if (request.mediaType === NDJSON_TYPE) return fromList(request);
    if (request.mediaType === JSON_TYPE) return fromJson(request);
    throw new BrokerError(
      'UNSUPPORTED_MEDIA_TYPE',
      'A transfer names sources and destinations: send application/json, or application/x-ndjson with one object per line.',
    );
  }

  async function fromJson(arriving: JobRequest): Promise<AskedJob> {
    const { request, intake } = arriving;
    const conflict = onlyConflict(request.query);
    const hint = 'Send the list itself as application/x-ndjson, with the options in the query.';
    const json = await readJson(request.raw, uploadLimits(limits, jsonBytes, hint));
    const parsed = bodySchema.safeParse(json ?? {});
    if (!parsed.success) throw validationError(parsed.error.issues, 'body');
    const body = parsed.data;
    const directories = directoriesOf(body);
    const files = (body.files ?? []).map((file, i) => fileEntry(file, `/files/${i}`, limits));
    const grant = transferGrant(request.principal, body);
    files.forEach((file, i) => {
      grant.checkFile(file, `/files/${i}`);
    });
    directories.forEach((directory, i) => {
      grant.checkDirectory(
        directory,
        body.scrTransferFile === undefined ? `/directories/${i}` : '/scrTransferFile',
      );
    });
    if (files.length === 0 && directories.length === 0) {
      throw new BrokerError(
        'EMPTY_LIST',
        'The request names no file, no directory and no SCR transfer file.',
        { pointer: '/files' },
      );
    }
    const join = (conflict ?? body.conflict) === 'join';
    await takeFiles(intake, files, limits, await roomOn(body.node, arriving, join));
    return {
      job: newJob(body, grant, body.limits ?? {}, body.verify ?? false, directories, body.labels ?? {}),
      options: commitOptions(join, limits),
    };
  }

  async function fromList(arriving: JobRequest): Promise<AskedJob> {
    const { request, intake } = arriving;
    const parsed = querySchema.safeParse(request.query);
    if (!parsed.success) throw validationError(parsed.error.issues, 'parameters');
    const query: TransferQuery = parsed.data;
    const labels = labelsOf(query.label ?? [], limits);
    const grant = transferGrant(request.principal, query);
    const reader = new TransferListReader(limits, grant.asks ? grant.checkFile : undefined);
    const join = query.conflict === 'join';
    const room = await roomOn(query.node, arriving, join);
    const hint = 'Send the list in parts, each as a job of its own.';
    const chunks = bodyChunks(request.raw, uploadLimits(limits, limits.streamedBodyBytes, hint));
    await takeBody(intake, chunks, reader, limits, room);
    if (intake.filesAdded === 0) throw new BrokerError('EMPTY_LIST', 'The list has no file in it.');
    if (reader.blank > 0) intake.warn('BLANK_LINES', 'Empty lines of the list were ignored.', reader.blank);
    return {
      job: newJob(query, grant, query, query.verify === 'true', [], labels),
      options: commitOptions(join, limits),
    };
  }

  function roomOn(node: string, request: JobRequest, join: boolean): Promise<QueueRoom> {
    return queueRoom('node', request, join, limits, () => store.filesQueuedOn(node));
  }

  function directoriesOf(body: TransferRequest): DirectoryRequest[] {
    if (body.scrTransferFile !== undefined) {
      if (body.files !== undefined || body.directories !== undefined) {
        const detail = 'an SCR transfer file is named instead of files and directories, not besides them';
        throw new ValidationError([{ detail, pointer: '/scrTransferFile' }]);
      }
      absolutePath(body.scrTransferFile, '', 'scrTransferFile', limits);
      return [{ path: body.scrTransferFile, include: [], exclude: [] }];
    }
    return (body.directories ?? []).map(({ source, destination, include = [], exclude = [] }, i) => {
      const where = `/directories/${i}`;
      const from = absolutePath(source, where, 'source', limits);
      refuseCopyIntoItself(
        from,
        absolutePath(destination, where, 'destination', limits),
        `${where}/destination`,
      );
      return { path: source, destination, include, exclude };
    });
  }

  function newJob(
    request: Pick<TransferRequest, 'node' | 'fileTimeoutSeconds' | 'deadlineSeconds'> &
      WebhookWish & { scrTransferFile?: string | undefined },
    { asks }: FileCheck,
    wanted: { bytesPerSecond?: number | null | undefined; cpuPercent?: number | null | undefined },
    verify: boolean,
    directories: DirectoryRequest[],
    labels: Record<string, string>,
  ): NewTransfer {
    return {
      kind: 'transfer',
      node: request.node,
      followsLinks: !asks,
      directories,
      labels,
      webhook: chosenWebhook(context.webhooks(), request),
      options: {
        verify,
        limits: { bytesPerSecond: wanted.bytesPerSecond ?? null, cpuPercent: wanted.cpuPercent ?? null },
        scrTransferFile: request.scrTransferFile ?? null,
        fileTimeoutSeconds: request.fileTimeoutSeconds ?? limits.fileTimeoutSeconds.default,
        deadlineSeconds: request.deadlineSeconds ?? limits.deadlineSeconds.default,
      },
      parentJobId: null,
    };
  }
}

function describe(limits: ApiLimits, jsonBytes: number): string {
  return `Has the agent of a node copy files, e.g. from its local disk to the parallel file system, and answers with the job that does it. The copies are made in bursts within the limits, under a temporary name, and get their name only when they are whole and on storage; mode and mtime are those of the source.

Two forms of the same request:

- \`application/json\`: everything in one object, up to ${jsonBytes} bytes. The only form for directories, and for an SCR transfer file.
- \`application/x-ndjson\`: one object \`{"source": …, "destination": …, "size": …}\` per line, the options in the query.

A file that is at its destination already, with the same size and mtime (and content, with \`verify\`), is not copied: its outcome is \`identical\`. A crash of the agent costs no more than the last burst: the copy goes on behind what is durable, if its source has not changed.

What only the node can know (no such file, a path outside the roots that its agent may touch) becomes the error of that file. While no agent of the node is connected the job waits, and its \`statusDetail\` says so.

Limits: ${limits.filesPerJob} files, ${limits.pathBytes} bytes per path, ${limits.streamedBodyBytes} bytes per streamed list, ${limits.queuedFilesPerCache} files waiting per node. All are configuration.`;
}
