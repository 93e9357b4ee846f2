import type { FastifyReply } from 'fastify';
import { BrokerError } from '../model/errors.js';
import { EXAMPLE_JOB_ID } from '../model/request-fields.js';
import type { AcceptedJob } from '../store/types.js';
import { ValidationError } from './problem.js';

/** Requests that make work, sent more than once: after a broken connection, or by many nodes at the same time. */

/**
 * Visible ASCII but `"`, `\` and `,`: no escapes are needed between quotes, and a field that came twice, which Node
 * joins with a comma, is not taken for one key.
 */
const KEY = /^("?)([\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,128})\1$/;

export const IDEMPOTENCY_KEY_DOCS = {
  name: 'Idempotency-Key',
  description:
    'Makes it safe to send the request again: 1 to 128 visible ASCII characters without `"`, `,` and `\\`, in quotes or not; best a UUID. The same key with the same request gives the first answer again; with another one it is refused.',
};

export const ACCEPTED_HEADERS = {
  Location: { description: 'Where the job is.', example: `/v1/jobs/${EXAMPLE_JOB_ID}` },
  'Idempotency-Replayed': {
    description: '`true`: the key was answered with this job before. Else absent.',
    example: 'true',
  },
  'Job-Joined': {
    description: '`true`: an identical job had not ended, and this is it. Else absent.',
    example: 'true',
  },
};

/**
 * The key of `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header: a quoted string; most clients send it bare).
 * @throws {BrokerError} VALIDATION
 */
export function idempotencyKey(field: string | string[] | undefined): string | null {
  if (field === undefined) return null;
  const key = KEY.exec(String(field).trim())?.[2];
  if (key === undefined) {
    throw new BrokerError(
      'VALIDATION',
      'The field Idempotency-Key must be 1 to 128 visible ASCII characters without quote, comma and backslash, in quotes or not.',
    );
  }
  return key;
}

/**
 * `conflict` of the query of a JSON request: how an identical request is answered is said alike for every form of the
 * body. @throws {ValidationError} for anything else
 */
export function onlyConflict(query: unknown): string | undefined {
  const { conflict, ...options } = query as Record<string, string | undefined>;
  const names = Object.keys(options);
  if (names.length === 0) return conflict;
  throw new ValidationError(
    names.map((parameter) => ({
      detail: 'the options of a JSON request stand in its body, not in the query',
      parameter,
    })),
  );
}

/** 202, with what it says about a request that came before. */
export function sendAccepted(reply: FastifyReply, job: AcceptedJob): FastifyReply {
  if (job.accepted === 'replayed') reply.header('idempotency-replayed', 'true');
  if (job.accepted === 'joined') reply.header('job-joined', 'true');
  return reply
    .code(202)
    .header('location', `/v1/jobs/${encodeURIComponent(job.id)}`)
    .send(job);
}
