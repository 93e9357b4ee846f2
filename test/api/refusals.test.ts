import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InjectOptions } from 'fastify';
import { CACHE_EXAMPLE } from '../../src/api/examples.js';
import { problemSchema } from '../../src/api/problem.js';
import { BrokerError } from '../../src/model/errors.js';
import { startApi } from '../support/api.js';

const PATHS = [
  '/v1/flushes',
  '/v1/jobs',
  '/v1/jobs/x',
  '/v1/jobs/x/cancel',
  '/v1/caches/x/pause',
  '/healthz',
  '/openapi.json',
];

test('a path that is not there is 404, whatever is sent to it', async (t) => {
  const api = startApi();
  t.after(api.close);
  const requests: InjectOptions[] = [
    { url: '/' },
    { url: '/v1' },
    { url: '/v1/jobs/x/y' },
    { url: '/v2/jobs' },
    { url: '/docs/static/nothing.js' },
    { method: 'POST', url: '/v1/flush', headers: { 'content-type': 'application/json' }, payload: '{' },
    { method: 'POST', url: '/v1/flush', headers: { 'content-type': 'text/csv' }, payload: 'x' },
    { method: 'DELETE', url: '/v1/nothing' },
  ];
  for (const request of requests) {
    const problem = await api.refused('NOT_FOUND', request);
    assert.match(problem.detail, /The API is described at \/docs/);
  }
});

test('another method is 405 with what is allowed, before the body is looked at', async (t) => {
  const api = startApi();
  t.after(api.close);
  for (const url of PATHS) {
    const options = await api.json({ method: 'OPTIONS', url });
    assert.equal(options.status, 405);
    const allowed = String(options.headers.allow).split(', ');
    assert.ok(allowed.length > 0);
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const) {
      if (allowed.includes(method)) continue;
      const payload = method === 'GET' ? {} : { payload: 'x', headers: { 'content-type': 'text/csv' } };
      const problem = await api.refused('METHOD_NOT_ALLOWED', { method, url, ...payload });
      assert.ok(problem.detail.startsWith(`${method} is not allowed at ${url}`), problem.detail);
    }
  }
});

test('a problem has all members of RFC 9457 and ours, and nothing else', async (t) => {
  const api = startApi();
  t.after(api.close);
  const { body, headers, status } = await api.json({
    url: '/v1/jobs/f9?x=1',
    headers: { 'x-request-id': 'run-42/a' },
  });
  assert.equal(status, 422);
  assert.equal(headers['content-type'], 'application/problem+json');
  const problem = problemSchema.strict().parse(body);
  assert.equal(problem.type, 'urn:writeback-broker:problem:validation');
  assert.equal(problem.instance, '/v1/jobs/f9');
  assert.equal(problem.requestId, 'run-42/a');
  const missing = await api.refused('JOB_NOT_FOUND', { url: '/v1/jobs/f9' });
  assert.deepEqual(Object.keys(missing), [
    'type',
    'title',
    'status',
    'detail',
    'instance',
    'code',
    'requestId',
  ]);
});

test('a sane request id is kept, any other is replaced; it is in the answer and in the log', async (t) => {
  const api = startApi();
  t.after(api.close);
  const sent = async (id?: string) => {
    const headers = id === undefined ? {} : { 'x-request-id': id };
    return (await api.json({ url: '/v1/jobs', headers })).headers['x-request-id'];
  };
  assert.equal(await sent('job-42.7:a/b+c=d@e~f'), 'job-42.7:a/b+c=d@e~f');
  for (const id of [undefined, '', 'two words', 'a"b', 'é', 'x'.repeat(129), 'a,b', '{}']) {
    assert.match(String(await sent(id)), /^[0-9a-f-]{36}$/);
  }
  const line = api.log.find(({ requestId }) => requestId === 'job-42.7:a/b+c=d@e~f');
  assert.equal(line?.msg, 'request answered');
  assert.equal(line?.status, 200);
});

test('every answer has the security headers', async (t) => {
  const api = startApi();
  t.after(api.close);
  for (const url of [
    '/healthz',
    '/nothing',
    '/docs',
    '/docs/static/swagger-ui.css',
    '/openapi.json',
    '/v1/jobs/%zz',
  ]) {
    const { headers } = await api.app.inject({ url });
    assert.equal(headers['x-content-type-options'], 'nosniff', url);
    assert.match(String(headers['content-security-policy']), /default-src 'none'/, url);
    assert.match(String(headers['content-security-policy']), /frame-ancestors 'none'/, url);
    assert.ok(headers['x-request-id'], url);
  }
});

test('a fault of ours tells the caller nothing and the log everything', async (t) => {
  const api = startApi();
  t.after(api.close);
  api.memory.failure = new TypeError('connect ECONNREFUSED /secret/redis.sock');
  for (const url of ['/v1/jobs', '/v1/jobs/f1', '/v1/caches']) {
    const problem = await api.refused('INTERNAL', { url });
    assert.doesNotMatch(JSON.stringify(problem), /secret|ECONNREFUSED|TypeError|stack/);
  }
  assert.match(JSON.stringify(api.log), /secret/);
});

test('an answer that breaks the contract is a fault of ours', async (t) => {
  const api = startApi();
  t.after(api.close);
  api.memory.caches.set('x', { name: 'x' } as never);
  const problem = await api.refused('INTERNAL', { url: '/v1/caches/x' });
  assert.doesNotMatch(JSON.stringify(problem), /schema|zod/i);
});

test('a store that does not answer is 503 with Retry-After, also where a list is read', async (t) => {
  const api = startApi();
  t.after(api.close);
  api.memory.failure = new BrokerError('STORE_UNAVAILABLE', 'The job store does not answer.', {
    retryAfterSeconds: 1.2,
    cause: new Error('secret'),
  });
  const payload = { cache: 'projects', export: '/exp1', files: ['/a'] };
  for (const request of [
    { url: '/v1/jobs' },
    { method: 'POST', url: '/v1/flushes', payload },
  ] as InjectOptions[]) {
    const { status, headers, body } = await api.json(request);
    assert.deepEqual([status, headers['retry-after']], [503, '2']);
    assert.doesNotMatch(JSON.stringify(body), /secret/);
  }
  const ready = await api.json({ url: '/readyz' });
  assert.deepEqual([ready.status, (ready.body as { status: string }).status], [503, 'unavailable']);
  assert.equal((await api.json({ url: '/healthz' })).status, 200);
});

test('readiness shows weak durability and a shutdown', async (t) => {
  const api = startApi();
  t.after(api.close);
  const ask = async () => {
    const { status, body } = await api.json({ url: '/readyz' });
    return [status, (body as { status: string }).status];
  };
  assert.deepEqual(await ask(), [200, 'ready']);
  api.memory.warnings.push('appendfsync is everysec.');
  assert.deepEqual(await ask(), [200, 'degraded']);
  api.shutDown();
  assert.deepEqual(await ask(), [503, 'shutting-down']);
});

test('a page of another site cannot make a browser send work', async (t) => {
  const api = startApi();
  t.after(api.close);
  const post = (headers: Record<string, string>): InjectOptions => ({
    method: 'POST',
    url: '/v1/flushes?cache=projects&export=/exp1',
    headers: { host: '127.0.0.1:8080', 'content-type': 'text/plain', ...headers },
    payload: '/a\n',
  });
  await api.refused('CROSS_SITE', post({ 'sec-fetch-site': 'cross-site' }));
  await api.refused('CROSS_SITE', post({ 'sec-fetch-site': 'same-site' }));
  await api.refused('CROSS_SITE', post({ origin: 'http://evil.example' }));
  await api.refused('CROSS_SITE', post({ origin: 'null' }));
  assert.equal(api.memory.jobs.length, 0);
  const fine = [
    {},
    { 'sec-fetch-site': 'same-origin' },
    { 'sec-fetch-site': 'none' },
    { origin: 'http://127.0.0.1:8080' },
  ];
  for (const headers of fine)
    assert.equal((await api.json(post(headers as Record<string, string>))).status, 202);
  assert.equal(
    (await api.json({ url: '/v1/jobs', headers: { 'sec-fetch-site': 'cross-site' } })).status,
    200,
  );
});

test('small bodies are bounded and checked', async (t) => {
  const api = startApi();
  t.after(api.close);
  api.memory.caches.set('projects', structuredClone(CACHE_EXAMPLE));
  const pause = (payload: string | object, type = 'application/json'): InjectOptions => ({
    method: 'POST',
    url: '/v1/caches/projects/pause',
    headers: { 'content-type': type },
    payload,
  });
  await api.refused('BODY_TOO_LARGE', pause({ reason: 'x'.repeat(70_000) }));
  await api.refused('UNSUPPORTED_MEDIA_TYPE', pause('reason', 'text/csv'));
  assert.match((await api.refused('MALFORMED', pause('{"reason": "x"'))).detail, /not JSON/);
  assert.equal((await api.refused('VALIDATION', pause({ reason: '  ' }))).pointer, '/reason');
  assert.equal((await api.refused('VALIDATION', pause({}))).pointer, '/reason');
  assert.equal((await api.refused('VALIDATION', pause(''))).pointer, '');
  await api.refused('VALIDATION', pause({ reason: 'x', until: 'noon' }));
  await api.refused('VALIDATION', pause('reason', 'text/plain'));
});

test('a cache is paused with a reason, and resumed', async (t) => {
  const api = startApi();
  t.after(api.close);
  api.memory.caches.set('projects', structuredClone(CACHE_EXAMPLE));
  const paused = await api.json({
    method: 'POST',
    url: '/v1/caches/projects/pause',
    payload: { reason: ' upgrade ' },
  });
  assert.deepEqual(paused.status, 200);
  assert.equal((paused.body as { pausedReason: string }).pausedReason, 'upgrade');
  const listed = await api.json({ url: '/v1/caches' });
  assert.equal((listed.body as { items: { paused: boolean }[] }).items[0]?.paused, true);
  const resumed = await api.json({ method: 'POST', url: '/v1/caches/projects/resume' });
  assert.equal((resumed.body as { paused: boolean }).paused, false);
  assert.equal((await api.json({ url: '/v1/caches/projects' })).status, 200);
  await api.refused('CACHE_NOT_FOUND', { url: '/v1/caches/nope' });
  await api.refused('CACHE_NOT_FOUND', { method: 'POST', url: '/v1/caches/nope/resume' });
});
