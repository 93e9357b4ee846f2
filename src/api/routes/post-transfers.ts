import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { BrokerError } from '../../model/errors.js';
import { jobSchema } from '../../model/job.js';
import type { ApiLimits } from '../../model/limits.js';
import {
  type TransferQuery,
  type TransferRequest,
  transferQuerySchema,
  transferRequestSchema,
} from '../../model/requests.js';
import type { FileEntry } from '../../store/entry.js';
import type {
  AcceptedJob,
  CommitOptions,
  DirectoryRequest,
  JobIntake,
  NewTransfer,
} from '../../store/types.js';
import {
  ACCEPTED_HEADERS,
  IDEMPOTENCY_KEY_DOCS,
  idempotencyKey,
  onlyConflict,
  sendAccepted,
} from '../asking-twice.js';
import { type BodyLimits, bodyChunks, readJson } from '../body.js';
import { operation, type RouteContext } from '../deps.js';
import { TRANSFER_EXAMPLES, TRANSFER_JOB_EXAMPLE, TRANSFER_LIST_EXAMPLES } from '../examples.js';
import { labelsOf } from '../labels.js';
import { ValidationError, validationError } from '../problem.js';
import { refuseWhileShuttingDown } from '../request-rules.js';
import { absolutePath, fileEntry, TransferListReader } from '../transfer-lists.js';

const JSON_TYPE = 'application/json';
const NDJSON_TYPE = 'application/x-ndjson';
/** Parsed in one go, which stops the process for as long: what is longer is sent streamed. */
const JSON_BODY_BYTES = 4 * 1024 * 1024;

/** POST /v1/transfers: nothing of it is a job before all of it is good. */
export function postTransfers(context: RouteContext) {
  const { limits, store } = context;
  const bodySchema = transferRequestSchema(limits);
  const querySchema = transferQuerySchema(limits);
  const jsonBytes = Math.min(JSON_BODY_BYTES, limits.jsonBodyBytes);

  return operation({
    method: 'POST',
    url: '/v1/transfers',
    streamsBody: true,
    schema: {
      operationId: 'createTransfer',
      tags: ['transfers'],
      summary: 'Copy files of a node',
      description: describe(limits, jsonBytes),
      querystring: querySchema.partial(),
      response: { 202: jobSchema },
      'x-docs': {
        headers: [
          IDEMPOTENCY_KEY_DOCS,
          {
            name: 'Content-Encoding',
            description:
              '`gzip` for a compressed body, in every form. Limits count the bytes after decompression.',
          },
        ],
        requestBody: {
          required: true,
          description: 'The request as JSON, or the list itself with the options in the query.',
          content: {
            [JSON_TYPE]: { schema: bodySchema, examples: TRANSFER_EXAMPLES },
            [NDJSON_TYPE]: { schema: z.string(), examples: TRANSFER_LIST_EXAMPLES },
          },
        },
        responses: {
          202: {
            description: 'Accepted: the job survives a crash of the service and of its store from here on.',
            headers: ACCEPTED_HEADERS,
            example: TRANSFER_JOB_EXAMPLE,
          },
        },
        errors: [
          'MALFORMED',
          'CROSS_SITE',
          'REQUEST_TIMEOUT',
          'BODY_TOO_LARGE',
          'TOO_MANY_FILES',
          'UNSUPPORTED_MEDIA_TYPE',
          'VALIDATION',
          'EMPTY_LIST',
          'PATH_TOO_LONG',
          'IDEMPOTENCY_KEY_IN_USE',
          'IDEMPOTENCY_KEY_REUSED',
          'JOB_GONE',
          'QUEUE_FULL',
          'STORE_UNAVAILABLE',
          'SHUTTING_DOWN',
        ],
      },
    },
    async handler(request, reply) {
      refuseWhileShuttingDown(context);
      const key = idempotencyKey(request.headers['idempotency-key']);
      const intake = store.openIntake();
      let job: AcceptedJob;
      try {
        const answered = key !== null && (await intake.claim(key));
        job = await accept(request, intake, answered);
      } catch (error) {
        await intake.abort();
        throw error;
      }
      return sendAccepted(reply, job);
    },
  });

  function accept(request: FastifyRequest, intake: JobIntake, answered: boolean): Promise<AcceptedJob> {
    const type = (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
    if (type === NDJSON_TYPE) return fromList(request, intake, answered);
    if (type === JSON_TYPE || type === '') return fromJson(request, intake, answered);
    throw new BrokerError(
      'UNSUPPORTED_MEDIA_TYPE',
      'A transfer names sources and destinations: send application/json, or application/x-ndjson with one object per line.',
    );
  }

  async function fromJson(
    request: FastifyRequest,
    intake: JobIntake,
    answered: boolean,
  ): Promise<AcceptedJob> {
    const conflict = onlyConflict(request.query);
    const hint = 'Send the list itself as application/x-ndjson, with the options in the query.';
    const parsed = bodySchema.safeParse((await readJson(request.raw, bodyLimits(jsonBytes, hint))) ?? {});
    if (!parsed.success) throw validationError(parsed.error.issues, 'body');
    const body = parsed.data;
    const directories = directoriesOf(body);
    const files = (body.files ?? []).map((file, i) => fileEntry(file, `/files/${i}`, limits));
    if (files.length === 0 && directories.length === 0) {
      throw new BrokerError(
        'EMPTY_LIST',
        'The request names no file, no directory and no SCR transfer file.',
        { pointer: '/files' },
      );
    }
    const join = (conflict ?? body.conflict) === 'join';
    await take(intake, files, answered || join ? Number.POSITIVE_INFINITY : await roomOn(body.node));
    return intake.commit(
      newJob(body, body.limits ?? {}, body.verify ?? false, directories, body.labels ?? {}),
      commitOptions(join),
    );
  }

  async function fromList(
    request: FastifyRequest,
    intake: JobIntake,
    answered: boolean,
  ): Promise<AcceptedJob> {
    const parsed = querySchema.safeParse(request.query);
    if (!parsed.success) throw validationError(parsed.error.issues, 'parameters');
    const query: TransferQuery = parsed.data;
    const labels = labelsOf(query.label ?? [], limits);
    const reader = new TransferListReader(limits);
    const join = query.conflict === 'join';
    const room = answered || join ? Number.POSITIVE_INFINITY : await roomOn(query.node);
    const hint = 'Send the list in parts, each as a job of its own.';
    for await (const chunk of bodyChunks(request.raw, bodyLimits(limits.streamedBodyBytes, hint))) {
      await take(intake, reader.push(chunk), room);
    }
    await take(intake, reader.end(), room);
    if (intake.filesAdded === 0) throw new BrokerError('EMPTY_LIST', 'The list has no file in it.');
    if (reader.blank > 0) intake.warn('BLANK_LINES', 'Empty lines of the list were ignored.', reader.blank);
    return intake.commit(newJob(query, query, query.verify === 'true', [], labels), commitOptions(join));
  }

  /** Whether a request joins is known only when all of it was read: until then its node may have enough. */
  function commitOptions(join: boolean): CommitOptions {
    return join ? { join, queuedFilesAtMost: limits.queuedFilesPerCache } : {};
  }

  async function take(intake: JobIntake, files: Iterable<FileEntry>, room: number): Promise<void> {
    for (const file of files) {
      if (intake.filesAdded >= limits.filesPerJob) {
        throw new BrokerError(
          'TOO_MANY_FILES',
          `The list has more than ${limits.filesPerJob} files. Send it in parts, each as a job of its own.`,
        );
      }
      if (intake.filesAdded >= room) throw queueFull();
      const full = intake.add(file);
      if (full !== undefined) await full;
    }
  }

  /** Files that the queue of the node still takes. */
  async function roomOn(node: string): Promise<number> {
    const room = limits.queuedFilesPerCache - (await store.filesQueuedOn(node));
    if (room <= 0) throw queueFull();
    return room;
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
      absolutePath(source, `/directories/${i}`, 'source', limits);
      absolutePath(destination, `/directories/${i}`, 'destination', limits);
      return { path: source, destination, include, exclude };
    });
  }

  function newJob(
    request: Pick<TransferRequest, 'node' | 'fileTimeoutSeconds' | 'deadlineSeconds'> & {
      scrTransferFile?: string | undefined;
    },
    wanted: { bytesPerSecond?: number | null | undefined; cpuPercent?: number | null | undefined },
    verify: boolean,
    directories: DirectoryRequest[],
    labels: Record<string, string>,
  ): NewTransfer {
    return {
      kind: 'transfer',
      node: request.node,
      directories,
      labels,
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

  function bodyLimits(maxBytes: number, tooLargeHint: string): BodyLimits {
    return {
      maxBytes,
      tooLargeHint,
      idleMs: limits.uploadIdleSeconds * 1000,
      totalMs: limits.uploadSeconds * 1000,
    };
  }
}

function queueFull(): BrokerError {
  return new BrokerError(
    'QUEUE_FULL',
    'More files wait for this node than the service keeps. Try again when some are done.',
    { retryAfterSeconds: 30 },
  );
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
