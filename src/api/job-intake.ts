import type { FastifyRequest } from 'fastify';
import type { z } from 'zod';
import type { ApiErrorCode } from '../model/errors.js';
import { jobSchema } from '../model/job.js';
import type { ApiLimits } from '../model/limits.js';
import type { AcceptedJob, CommitOptions, JobIntake, JobOrigin, NewJob } from '../store/types.js';
import { ACCEPTED_HEADERS, IDEMPOTENCY_KEY_DOCS, idempotencyKey, sendAccepted } from './asking-twice.js';
import type { BodyLimits } from './body.js';
import { operation, type RouteContext } from './deps.js';
import type { OperationDocs } from './openapi.js';
import { refuseWhileShuttingDown } from './request-rules.js';
import { traceparentOf } from './request-spans.js';

/** How a request becomes a job, whatever the job is: its body is read as it arrives, and refused as a whole. */

export const JSON_TYPE = 'application/json';
export const NDJSON_TYPE = 'application/x-ndjson';

/** A request whose body was not read yet. */
export interface JobRequest {
  request: FastifyRequest;
  /** Of the body, without parameters; a request without a body has no type either and counts as an empty JSON body. */
  mediaType: string;
  intake: JobIntake;
  /** The idempotency key was answered before: no new work comes of it, so no room is needed. */
  answered: boolean;
}

/** What a request asked for, when its body has been read. */
export interface AskedJob {
  job: NewJob;
  options: CommitOptions;
}

interface JobOperation {
  url: string;
  operationId: string;
  tag: string;
  summary: string;
  description: string;
  querystring: z.ZodType;
  content: NonNullable<OperationDocs['requestBody']>['content'];
  example: unknown;
  /** Those that not every such request can have. */
  errors: readonly ApiErrorCode[];
  /** Reads the body into the intake; what it throws refuses the request, and nothing is kept. */
  read(request: JobRequest): Promise<AskedJob>;
}

/** Refusals of every request that becomes a job. */
const ERRORS: readonly ApiErrorCode[] = [
  'MALFORMED',
  'CROSS_SITE',
  'REQUEST_TIMEOUT',
  'BODY_TOO_LARGE',
  'TOO_MANY_FILES',
  'UNSUPPORTED_MEDIA_TYPE',
  'VALIDATION',
  'EMPTY_LIST',
  'PATH_TOO_LONG',
  'WEBHOOK_NOT_ALLOWED',
  'IDEMPOTENCY_KEY_IN_USE',
  'IDEMPOTENCY_KEY_REUSED',
  'JOB_GONE',
  'QUEUE_FULL',
  'QUOTA_EXCEEDED',
  'STORE_UNAVAILABLE',
  'SHUTTING_DOWN',
];

/** POST of a request that becomes a job: nothing of it is one before all of it is good. */
export function jobOperation(context: RouteContext, { read, ...docs }: JobOperation) {
  return operation({
    method: 'POST',
    url: docs.url,
    access: 'submit',
    streamsBody: true,
    schema: {
      operationId: docs.operationId,
      tags: [docs.tag],
      summary: docs.summary,
      description: docs.description,
      querystring: docs.querystring,
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
          content: docs.content,
        },
        responses: {
          202: {
            description: 'Accepted: the job survives a crash of the service and of its store from here on.',
            headers: ACCEPTED_HEADERS,
            example: docs.example,
          },
        },
        errors: [...ERRORS, ...docs.errors],
      },
    },
    async handler(request, reply) {
      refuseWhileShuttingDown(context);
      const key = idempotencyKey(request.headers['idempotency-key']);
      const admitted = context.admissions.watch(request, reply.raw);
      const intake = context.store.openIntake(request.principal, originOf(request));
      let job: AcceptedJob;
      try {
        const answered = key !== null && (await intake.claim(key));
        const asked = await read({ request, mediaType: mediaType(request), intake, answered });
        // A body may take long to arrive.
        admitted.throwIfAborted();
        job = await intake.commit(asked.job, asked.options);
      } catch (error) {
        await intake.abort();
        throw error;
      }
      request.span.setAttribute('writeback.job.id', job.id);
      request.log.info({ job: job.id, accepted: job.accepted }, 'job accepted');
      return sendAccepted(reply, job);
    },
  });
}

/** For the logs and traces of those who work on the job. */
export function originOf(request: FastifyRequest): JobOrigin {
  return { requestId: request.id, traceparent: traceparentOf(request) };
}

function mediaType(request: FastifyRequest): string {
  return (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() || JSON_TYPE;
}

/** `tooLargeHint`: what to do instead. */
export function uploadLimits(limits: ApiLimits, maxBytes: number, tooLargeHint: string): BodyLimits {
  return {
    maxBytes,
    tooLargeHint,
    idleMs: limits.uploadIdleSeconds * 1000,
    totalMs: limits.uploadSeconds * 1000,
  };
}
