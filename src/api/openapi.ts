import type { SwaggerOptions } from '@fastify/swagger';
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { API_ERRORS, type ApiErrorCode } from '../model/errors.js';
import { EXAMPLE_JOB_ID } from '../model/request-fields.js';
import type { Access } from '../model/words.js';
import { PROBLEM_EXAMPLES } from './examples.js';
import { webhookOperations } from './openapi-webhooks.js';
import { PROBLEM_TYPE, problem } from './problem.js';

/** The OpenAPI 3.1 document, made from the schemas of the routes and from what they say about themselves. */

type Examples = Record<string, { summary: string; value: unknown }>;

/** What the schemas of a route cannot say. Stands in a route's schema as `x-docs`. */
export interface OperationDocs {
  /** Media type → schema and examples. */
  requestBody?: {
    required: boolean;
    description: string;
    content: Record<string, { schema: z.ZodType; examples: Examples }>;
  };
  /** Header fields of the request. */
  headers?: { name: string; description: string }[];
  /** By status; what is not in the route's `response` has no body. */
  responses: Record<
    number,
    {
      description: string;
      headers?: Record<string, { description: string; example: string }>;
      example?: unknown;
      /** Of an answer that is no JSON: media type → schema and example. */
      content?: Record<string, { schema: z.ZodType; example: unknown }>;
    }
  >;
  /** INTERNAL goes without saying. */
  errors: readonly ApiErrorCode[];
}

type Json = Record<string, unknown>;

const DESCRIPTION = `Makes named files durable on long-term storage now: POST a list of files, get a job, and ask the job until it has ended.

- A request is accepted (202) when it would survive a crash of the service and of its store.
- A job never lists its files; \`/v1/jobs/{id}/files\` does, page by page.
- Refusals are \`application/problem+json\` (RFC 9457). Programs decide by \`code\`; \`detail\` is for people.
- Every answer has \`X-Request-Id\`: the one that was sent, if it is sane (128 letters, digits or \`._~:+/=@-\`), else a new one.
- Answers may get more members in later versions; ignore what you do not know.`;

const TAGS = [
  { name: 'flushes', description: 'Ask for files to be written back.' },
  { name: 'transfers', description: 'Ask for files of a node to be copied.' },
  { name: 'jobs', description: 'What became of a request, file by file; cancel, retry.' },
  { name: 'caches', description: 'The write-back targets: health, load, pause.' },
  { name: 'nodes', description: 'The hosts whose agents copy: load, pause.' },
  { name: 'service', description: 'Health and description of the service itself.' },
];

const SECURITY_SCHEMES = {
  bearer: {
    type: 'http' as const,
    scheme: 'bearer',
    description:
      'A token that `writeback token create` made, or a JWT of an issuer that the service trusts. A service without any credential configured asks for none, and is reached from its own machine only.',
  },
};

/** What every operation may answer, by whom it is for. */
const IDENTIFYING: readonly ApiErrorCode[] = [
  'CROSS_SITE',
  'UNAUTHENTICATED',
  'PRINCIPAL_UNKNOWN',
  'KEYS_UNAVAILABLE',
  'RATE_LIMITED',
  'STORE_UNAVAILABLE',
];
const ACCESS_ERRORS: Record<Access, readonly ApiErrorCode[]> = {
  public: [],
  submit: IDENTIFYING,
  operate: [...IDENTIFYING, 'ROLE_TOO_LOW'],
  admin: [...IDENTIFYING, 'ROLE_TOO_LOW'],
};

/** Options of @fastify/swagger. `version` is the version of the product. */
export function openApiOptions(version: string): SwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'writeback-broker',
        version,
        description: DESCRIPTION,
        license: { name: 'MIT', identifier: 'MIT' },
      },
      // Relative: "Try it out" calls the host that served the page, whatever it is called.
      servers: [{ url: '/', description: 'This service' }],
      tags: TAGS,
      components: { securitySchemes: SECURITY_SCHEMES },
      security: [{ bearer: [] }],
    },
    convertConstToEnum: false,
    transform: (input) => jsonSchemaTransform(input),
    transformObject: (input) => {
      const document = jsonSchemaTransformObject(input) as unknown as {
        paths: Record<string, Record<string, Json>>;
        webhooks?: Json;
        components: Json;
      };
      document.webhooks = webhookOperations((schema) => tidy(schema, true));
      document.paths = mapped(document.paths, (methods, path) =>
        mapped(methods, (operation) => finish(path, operation)),
      );
      document.components = { schemas: usedSchemas(document), securitySchemes: SECURITY_SCHEMES };
      return document as never;
    },
  };
}

/** An operation as @fastify/swagger makes it, and its documentation → the operation as the document has it. */
function finish(path: string, generated: Json): Json {
  const { operationId, tags, summary } = generated;
  const docs = generated['x-docs'] as OperationDocs;
  const access = generated['x-access'] as Access;
  const needsMore = access !== 'public' && access !== 'submit';
  const description = `${generated.description}${needsMore ? `\n\nNeeds the role \`${access}\`.` : ''}`;
  const parameters = [...parametersOf(generated), ...headerParameters(docs)];
  const body = docs.requestBody && { requestBody: requestBody(docs.requestBody) };
  return {
    operationId,
    tags,
    summary,
    description,
    ...(parameters.length > 0 && { parameters }),
    ...body,
    ...(access === 'public' && { security: [] }),
    responses: {
      ...answers(generated.responses as Record<string, Json>, docs),
      ...refusals(path, [...docs.errors, ...ACCESS_ERRORS[access]]),
    },
  };
}

function parametersOf(generated: Json): Json[] {
  const parameters = (generated.parameters as Json[] | undefined) ?? [];
  // Only what must be given has an example: the page to try it out fills examples in.
  return parameters.map(({ name, in: place, required, description, schema, example }) => {
    return {
      name,
      in: place,
      required,
      description,
      schema: tidy(schema, false),
      ...(required === true && { example }),
    };
  });
}

function headerParameters({ headers = [] }: OperationDocs): Json[] {
  return headers.map(({ name, description }) => {
    return { name, in: 'header', required: false, description, schema: { type: 'string' } };
  });
}

function answers(generated: Record<string, Json>, docs: OperationDocs): Record<string, Json> {
  return mapped(docs.responses, ({ description, headers, example, content: streamed }, status) => {
    const content = generated[status]?.content as Record<string, Json> | undefined;
    const schema = content?.['application/json']?.schema;
    return {
      description,
      ...(headers && { headers: mapped(headers, (header) => ({ ...header, schema: { type: 'string' } })) }),
      // Copied, or the YAML of the document is full of anchors.
      ...(schema !== undefined && {
        content: { 'application/json': { schema: tidy(schema, true), example: structuredClone(example) } },
      }),
      ...(streamed && {
        content: mapped(streamed, (media) => ({
          schema: inputSchema(media.schema),
          example: structuredClone(media.example),
        })),
      }),
    };
  });
}

function refusals(path: string, errors: readonly ApiErrorCode[]): Record<string, Json> {
  const codes = [...new Set<ApiErrorCode>([...errors, 'INTERNAL'])];
  const statuses = [...new Set(codes.map((code) => API_ERRORS[code].status))].sort();
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      refusal(
        path,
        codes.filter((code) => API_ERRORS[code].status === status),
      ),
    ]),
  );
}

function requestBody({ required, description, content }: NonNullable<OperationDocs['requestBody']>): Json {
  return {
    required,
    description,
    content: mapped(content, ({ schema, examples }) => ({ schema: inputSchema(schema), examples })),
  };
}

function inputSchema(schema: z.ZodType): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io: 'input', target: 'draft-2020-12' });
  return tidy(json, false) as Json;
}

function refusal(path: string, codes: ApiErrorCode[]): Json {
  const instance = path.replace('{id}', EXAMPLE_JOB_ID).replace('{name}', 'projects');
  const examples = codes.map((code): [string, unknown] => {
    const { detail, pointer } = PROBLEM_EXAMPLES[code];
    const value = {
      ...problem(code, detail, instance, '6f1c9d0e-7c1b-4f0e-9a5e-3b1f6c1f2a77'),
      ...(pointer && { pointer }),
    };
    return [code, { summary: API_ERRORS[code].title, value }];
  });
  const response: Json = {
    description: codes.map((code) => `\`${code}\`: ${API_ERRORS[code].title}.`).join(' '),
    content: {
      [PROBLEM_TYPE]: {
        schema: { $ref: '#/components/schemas/Problem' },
        examples: Object.fromEntries(examples),
      },
    },
  };
  if (
    codes.some((code) =>
      [
        'QUEUE_FULL',
        'QUOTA_EXCEEDED',
        'RATE_LIMITED',
        'KEYS_UNAVAILABLE',
        'TOO_MANY_WAITERS',
        'IDEMPOTENCY_KEY_IN_USE',
        'STORE_UNAVAILABLE',
        'SHUTTING_DOWN',
      ].includes(code),
    )
  ) {
    response.headers = {
      'Retry-After': {
        description: 'Seconds to wait before the next try.',
        schema: { type: 'integer' },
        example: 5,
      },
    };
  }
  return response;
}

/** The registry gives each schema twice, as input and as output; only what is referenced belongs in the document. */
function usedSchemas(document: { paths: unknown; components: Json }): Json {
  const all = document.components.schemas as Record<string, Json>;
  const used = new Map<string, Json>();
  const visit = (part: unknown): void => {
    const references = JSON.stringify(part).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g);
    for (const [, name = ''] of references) {
      const schema = all[name];
      if (schema === undefined || used.has(name)) continue;
      used.set(name, tidy(schema, true) as Json);
      visit(schema);
    }
  };
  visit(document.paths);
  return Object.fromEntries([...used].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * Without what zod adds and nobody reads: the regular expression behind `format: date-time`, the largest safe integer,
 * and `additionalProperties: false` of answers, which may get more members without breaking anybody's validation.
 */
function tidy(schema: unknown, answer: boolean): unknown {
  if (Array.isArray(schema)) return schema.map((part) => tidy(part, answer));
  if (typeof schema !== 'object' || schema === null) return schema;
  const isTime = 'format' in schema && schema.format === 'date-time';
  const entries = Object.entries(schema).filter(([key, value]) => {
    if (key === 'additionalProperties') return !(answer && value === false);
    if (key === 'maximum') return value !== Number.MAX_SAFE_INTEGER;
    return !(isTime && key === 'pattern');
  });
  return Object.fromEntries(entries.map(([key, value]) => [key, tidy(value, answer)]));
}

function mapped<T, R>(record: Record<string, T>, change: (value: T, key: string) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value, key)]));
}
