import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { API_ERROR_CODES, API_ERRORS, type ApiErrorCode, BrokerError } from '../model/errors.js';

/** Every refusal as `application/problem+json` (RFC 9457). The one place that turns an error into a reply. */

export const PROBLEM_TYPE = 'application/problem+json';
const SHOWN_ERRORS = 20;

const problemItemSchema = z.object({
  detail: z.string(),
  pointer: z.string().optional().meta({ description: 'JSON pointer (RFC 6901) into the body.' }),
  parameter: z.string().optional().meta({ description: 'Name of a parameter of the query or the path.' }),
  line: z
    .int()
    .min(1)
    .optional()
    .meta({ description: 'Line (or NUL-ended entry) of a streamed list, from 1.' }),
});

export const problemSchema = z
  .object({
    type: z.string().meta({ description: 'URI of the kind of problem; one per `code`.' }),
    title: z.string().meta({ description: 'The kind of problem in words; the same for the same `code`.' }),
    status: z.int().min(400).max(599),
    detail: z.string().meta({ description: 'What is wrong this time, and what to do.' }),
    instance: z.string().meta({ description: 'Path of the request.' }),
    code: z.enum(API_ERROR_CODES).meta({ description: 'Stable; programs decide by this.' }),
    requestId: z.string().meta({ description: 'The same as X-Request-Id; the log knows more under it.' }),
    pointer: z.string().optional().meta({ description: 'JSON pointer (RFC 6901) into the body.' }),
    errors: z
      .array(problemItemSchema)
      .optional()
      .meta({ description: `Each fault, at most ${SHOWN_ERRORS}.` }),
  })
  .meta({ id: 'Problem' });
export type Problem = z.infer<typeof problemSchema>;
type ProblemItem = z.infer<typeof problemItemSchema>;

export function problem(code: ApiErrorCode, detail: string, instance: string, requestId: string): Problem {
  const { status, title } = API_ERRORS[code];
  return { type: problemType(code), title, status, detail, instance, code, requestId };
}

function problemType(code: ApiErrorCode): string {
  return `urn:writeback-broker:problem:${code.toLowerCase().replaceAll('_', '-')}`;
}

/** Faults that a schema found, before they are a problem. */
export class ValidationError extends BrokerError {
  readonly items: ProblemItem[];

  constructor(items: ProblemItem[]) {
    const [first] = items;
    const more = items.length > 1 ? ` (and ${items.length - 1} more in "errors")` : '';
    super(
      'VALIDATION',
      `${placed(first)}${more}`,
      first?.pointer === undefined ? {} : { pointer: first.pointer },
    );
    this.items = items.slice(0, SHOWN_ERRORS);
  }
}

/** What zod found in a JSON body, or in the parameters of a query or path. */
export function validationError(
  issues: readonly z.core.$ZodIssue[],
  where: 'body' | 'parameters',
): ValidationError {
  return new ValidationError(
    issues.flatMap((issue): ProblemItem[] => {
      const detail = sentence(issue);
      if (where === 'body') return [{ detail, pointer: jsonPointer(issue.path) }];
      if (issue.code === 'unrecognized_keys') return issue.keys.map((parameter) => ({ detail, parameter }));
      return [{ detail, parameter: String(issue.path[0] ?? '') }];
    }),
  );
}

function sentence(issue: z.core.$ZodIssue): string {
  const message = issue.message.replace(/\.$/, '');
  return issue.code === 'unrecognized_keys' ? `${message}; it is not known here` : message;
}

function placed(item: ProblemItem | undefined): string {
  if (item === undefined) return 'The request is not valid.';
  const place = item.parameter ?? item.pointer ?? '';
  return place === '' ? `${item.detail}.` : `${place}: ${item.detail}.`;
}

function jsonPointer(path: readonly PropertyKey[]): string {
  return path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** fastify's own refusals: what they are called here. */
const FRAMEWORK_ERRORS: Record<string, [ApiErrorCode, string]> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['BODY_TOO_LARGE', 'The body is too large.'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'UNSUPPORTED_MEDIA_TYPE',
    'The Content-Type is not supported here. Send application/json; a list of files to flush also as text/plain or application/x-ndjson.',
  ],
  FST_ERR_BAD_URL: [
    'MALFORMED',
    'The path of the request cannot be decoded: a "%" must be followed by two hexadecimal digits.',
  ],
  FST_ERR_MAX_PARAM_LENGTH: ['NOT_FOUND', 'A part of the path is longer than anything here.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['MALFORMED', 'Content-Length differs from the length of the body.'],
};

/** Refusals of every request with a JSON body. */
export const JSON_BODY_ERRORS = [
  'MALFORMED',
  'CROSS_SITE',
  'BODY_TOO_LARGE',
  'REQUEST_TIMEOUT',
  'UNSUPPORTED_MEDIA_TYPE',
  'VALIDATION',
] as const satisfies readonly ApiErrorCode[];

/** Any error → what the caller may read. What is not ours, nor known, is INTERNAL and says nothing. */
function brokerError(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  if (error instanceof Error && hasZodFastifySchemaValidationErrors(error)) {
    const context = 'validationContext' in error ? error.validationContext : undefined;
    const items = error.validation.map((issue): ProblemItem => {
      const detail = (issue.message ?? 'is not valid').replace(/\.$/, '');
      if (context === 'body')
        return { detail, pointer: issue.instancePath === '/' ? '' : issue.instancePath };
      const keys = issue.keyword === 'unrecognized_keys' ? issue.params.keys : undefined;
      const name = Array.isArray(keys) ? String(keys[0]) : (issue.instancePath.split('/')[1] ?? '');
      return { detail, parameter: name };
    });
    return new ValidationError(items);
  }
  const code = error instanceof Error && 'code' in error ? String((error as FastifyError).code) : '';
  const known = FRAMEWORK_ERRORS[code];
  if (known) return new BrokerError(known[0], known[1], { cause: error });
  return new BrokerError(
    'INTERNAL',
    'The request could not be answered. The log has the reason under the request id.',
    {
      cause: error,
    },
  );
}

/** The error handler of the app: logs the cause, tells the caller the problem. */
export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const refusal = brokerError(error);
  const { status } = API_ERRORS[refusal.code];
  if (status >= 500) {
    request.log.error({ err: refusal.cause ?? refusal, code: refusal.code }, refusal.message);
  } else {
    request.log.info(
      { code: refusal.code, pointer: refusal.pointer, cause: causeText(refusal) },
      refusal.message,
    );
  }
  if (refusal.retryAfterSeconds !== undefined)
    reply.header('retry-after', Math.ceil(refusal.retryAfterSeconds));
  if (refusal.code === 'UNAUTHENTICATED')
    reply.header('www-authenticate', challenge(request.headers.authorization));
  return (
    reply
      .code(status)
      .header('content-type', PROBLEM_TYPE)
      .header('cache-control', 'no-store')
      // Bytes: to a text fastify would add a charset, which JSON does not have (RFC 8259 §11).
      .send(Buffer.from(JSON.stringify(toProblem(refusal, request))))
  );
}

/** RFC 6750 §3: without a credential nothing is said of an error. */
function challenge(authorization: string | undefined): string {
  const realm = 'Bearer realm="writeback-broker"';
  return authorization === undefined ? realm : `${realm}, error="invalid_token"`;
}

function toProblem(refusal: BrokerError, request: FastifyRequest): Problem {
  const instance = request.url.split('?', 1)[0] as string;
  const document = problem(refusal.code, refusal.message, instance, request.id);
  const { pointer } = refusal;
  const line = /^line (\d+)$/.exec(pointer ?? '');
  const parameter = queryParameter(request, pointer);
  if (line) document.errors = [{ detail: refusal.message, line: Number(line[1]) }];
  else if (parameter !== undefined) document.errors = [{ detail: refusal.message, parameter }];
  else {
    if (refusal instanceof ValidationError) document.errors = refusal.items;
    if (pointer !== undefined) document.pointer = pointer;
  }
  return document;
}

/** What a JSON request has in its body, the request for a streamed list has in its query. */
function queryParameter(request: FastifyRequest, pointer: string | undefined): string | undefined {
  const name = pointer?.slice(1);
  const query = request.query as Record<string, unknown> | null;
  return name !== undefined && query !== null && Object.hasOwn(query, name) ? name : undefined;
}

function causeText(refusal: BrokerError): string | undefined {
  return refusal.cause instanceof Error ? refusal.cause.message : undefined;
}

/** What cannot even become a request: answered on the socket, like Node does, but as a problem. */
export function refuseConnection(error: Error & { code?: string }, socket: Socket, requestId: string): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const timedOut = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  const status = timedOut ? 408 : error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
  const detail = timedOut
    ? 'The request was not complete in time.'
    : status === 431
      ? 'The header fields of the request are too large.'
      : 'What came is not an HTTP/1.1 request.';
  const document = { ...problem(timedOut ? 'REQUEST_TIMEOUT' : 'MALFORMED', detail, '', requestId), status };
  const body = JSON.stringify(document);
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: ${PROBLEM_TYPE}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nX-Request-Id: ${requestId}\r\nConnection: close\r\n\r\n${body}`,
  );
}
