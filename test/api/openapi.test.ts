import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { z } from 'zod';
import { openApiDocument } from '../../src/api/openapi-document.js';
import { problemSchema } from '../../src/api/problem.js';
import { API_ERRORS, type ApiErrorCode } from '../../src/model/errors.js';
import { flushRequestSchema } from '../../src/model/flush-request.js';
import {
  cacheHistorySchema,
  cacheSchema,
  errorGroupSchema,
  jobFileSchema,
  jobSchema,
} from '../../src/model/job.js';
import { apiLimitsSchema } from '../../src/model/limits.js';
import { nodeSchema } from '../../src/model/node.js';
import { startApi } from '../support/api.js';

// Compiled to build*/test/api/: the repository is three folders up.
const root = new URL('../../../', import.meta.url);

interface Media {
  schema: Record<string, unknown>;
  example?: unknown;
  examples?: Record<string, { summary?: string; value: unknown }>;
}
interface Operation {
  operationId: string;
  summary?: string;
  description?: string;
  tags?: string[];
  parameters?: {
    name: string;
    in: string;
    required: boolean;
    description?: string;
    example?: unknown;
    schema: object;
  }[];
  requestBody?: { description: string; content: Record<string, Media> };
  responses: Record<string, { description: string; content?: Record<string, Media> }>;
}

const { version } = JSON.parse(await readFile(new URL('package.json', root), 'utf8')) as { version: string };
const { document, yaml } = await openApiDocument({ version });
const operations = Object.entries(document.paths as Record<string, Record<string, Operation>>).flatMap(
  ([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, path, operation })),
);

function examplesOf(media: Media | undefined): unknown[] {
  return [media?.example, ...Object.values(media?.examples ?? {}).map(({ value }) => value)].filter(
    (example) => example !== undefined,
  );
}

test('openapi/openapi.yaml is what the code generates (npm run openapi)', async () => {
  assert.equal(await readFile(new URL('openapi/openapi.yaml', root), 'utf8'), yaml);
});

test('the service shows the document of its own limits', async (t) => {
  const api = startApi({ limits: { filesPerJob: 123_456 } });
  t.after(api.close);
  const [own, docs] = [await api.json({ url: '/openapi.json' }), await api.json({ url: '/docs/json' })];
  assert.deepEqual(own.body, docs.body);
  assert.match(JSON.stringify(own.body), /123456 files/);
});

test('every operation has a summary, a description, a tag, an example and its error answers', () => {
  assert.ok(operations.length >= 19);
  assert.equal(new Set(operations.map(({ operation }) => operation.operationId)).size, operations.length);
  const tags = (document.tags as { name: string; description: string }[]).map(({ name }) => name);
  for (const { name, operation } of operations) {
    assert.ok((operation.summary?.length ?? 0) > 5, name);
    assert.ok((operation.description?.length ?? 0) > 20, name);
    assert.ok(operation.tags?.every((tag) => tags.includes(tag)) && operation.tags.length === 1, name);
    const answers = Object.entries(operation.responses).filter(([status]) => status.startsWith('2'));
    assert.ok(answers.length > 0, name);
    for (const [status, answer] of answers) {
      assert.ok(answer.description.length > 5, `${name} ${status}`);
      if (status === '204') continue;
      const media = Object.values(answer.content ?? {});
      assert.ok(
        media.length > 0 && media.every((one) => examplesOf(one).length > 0),
        `${name} ${status} has no example`,
      );
    }
    if (operation.requestBody) {
      for (const [type, media] of Object.entries(operation.requestBody.content)) {
        assert.ok(examplesOf(media).length > 0, `${name} ${type} has no example`);
      }
    }
    for (const parameter of operation.parameters ?? []) {
      assert.ok((parameter.description?.length ?? 0) > 10, `${name} ${parameter.name}`);
      // Filled in by the page to try it out: an optional one would then be sent by everybody.
      assert.equal(parameter.example !== undefined, parameter.required, `${name} ${parameter.name}`);
    }
    assert.ok('500' in operation.responses, name);
    const refusals = Object.entries(operation.responses).filter(([status]) => Number(status) >= 400);
    for (const [status, answer] of refusals) {
      const media = answer.content?.['application/problem+json'];
      if (media === undefined) {
        assert.deepEqual([name, status], ['get /readyz', '503']);
        continue;
      }
      assert.deepEqual(media.schema, { $ref: '#/components/schemas/Problem' });
      for (const example of examplesOf(media)) {
        const problem = problemSchema.strict().parse(example);
        assert.equal(problem.status, Number(status));
        assert.equal(API_ERRORS[problem.code].status, problem.status);
      }
    }
  }
});

test('an error that a request of this kind can have is documented', () => {
  const documented = new Map(
    operations.map(({ name, operation }) => [
      name,
      Object.values(operation.responses).flatMap(({ content }) =>
        Object.keys(content?.['application/problem+json']?.examples ?? {}),
      ),
    ]),
  );
  const everywhere: ApiErrorCode[] = ['NOT_FOUND', 'METHOD_NOT_ALLOWED'];
  const anywhere = new Set([...documented.values()].flat());
  const missing = Object.keys(API_ERRORS).filter((code) => !anywhere.has(code));
  assert.deepEqual(missing.sort(), everywhere.sort());
  for (const [name, codes] of documented) {
    if (name.includes('{id}')) assert.ok(codes.includes('JOB_NOT_FOUND') && codes.includes('JOB_GONE'), name);
    if (name.includes('/caches/{name}')) assert.ok(codes.includes('CACHE_NOT_FOUND'), name);
    if (name.includes('/nodes/{name}')) assert.ok(codes.includes('NODE_NOT_FOUND'), name);
    if (name.includes('/v1/')) assert.ok(codes.includes('STORE_UNAVAILABLE'), name);
    if (name.startsWith('post')) assert.ok(codes.includes('CROSS_SITE') && codes.includes('MALFORMED'), name);
  }
});

test('examples are what the schemas say', () => {
  const schemas: Record<string, z.ZodType> = {
    createFlush: jobSchema,
    listJobs: z.strictObject({ items: z.array(jobSchema), nextCursor: z.null() }),
    getJob: jobSchema,
    listFiles: z.strictObject({ items: z.array(jobFileSchema), nextCursor: z.null() }),
    listErrors: z.strictObject({ items: z.array(errorGroupSchema) }),
    cancelJob: jobSchema,
    retryJob: jobSchema,
    listCaches: z.strictObject({ items: z.array(cacheSchema) }),
    getCache: cacheSchema,
    getCacheHistory: cacheHistorySchema,
    patchCache: cacheSchema,
    pauseCache: cacheSchema,
    listNodes: z.strictObject({ items: z.array(nodeSchema), nextCursor: z.null() }),
    getNode: nodeSchema,
    pauseNode: nodeSchema,
    resumeNode: nodeSchema,
    resumeCache: cacheSchema,
  };
  for (const { operation } of operations) {
    for (const { content } of Object.values(operation.responses)) {
      for (const example of examplesOf(content?.['application/json']))
        schemas[operation.operationId]?.parse(example);
    }
  }
  const flush = operations.find(({ operation }) => operation.operationId === 'createFlush')?.operation;
  const examples = examplesOf(flush?.requestBody?.content['application/json']);
  const request = flushRequestSchema(apiLimitsSchema.parse({}));
  for (const example of examples) request.parse(example);
  assert.ok(examples.length >= 3);
});

test('counters of the example jobs add up', () => {
  for (const { operation } of operations) {
    for (const { content } of Object.values(operation.responses)) {
      for (const example of examplesOf(content?.['application/json'])) {
        const job = jobSchema.safeParse(example);
        if (!job.success) continue;
        const p = job.data.progress;
        const sum =
          p.filesPending +
          p.filesActive +
          p.filesSucceeded +
          p.filesFailed +
          p.filesSkipped +
          p.filesCanceled;
        assert.equal(sum + p.filesExpired, p.filesTotal);
      }
    }
  }
});

test('every reference leads somewhere, nothing is defined for nobody, and path parameters are declared', () => {
  const text = JSON.stringify(document);
  const schemas = Object.keys((document.components as { schemas: object }).schemas);
  const referenced = new Set([...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, target]) => target));
  assert.deepEqual([...referenced].sort(), schemas.map((name) => `#/components/schemas/${name}`).sort());
  for (const { name, path, operation } of operations) {
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter);
    const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
    assert.deepEqual(
      declared.map((parameter) => parameter.name),
      inPath,
      name,
    );
  }
  assert.equal(document.openapi, '3.1.0');
  assert.deepEqual(
    (document.servers as { url: string }[]).map(({ url }) => url),
    ['/'],
  );
  assert.doesNotMatch(text, /x-docs|"additionalProperties":false,"\$ref"|9007199254740991/);
});
