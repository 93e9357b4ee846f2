import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { InjectOptions } from 'fastify';
import { pathText } from '../../src/model/pathname.js';
import { startApi } from '../support/api.js';

function json(payload: unknown, headers: Record<string, string> = {}): InjectOptions {
  return {
    method: 'POST',
    url: '/v1/flushes',
    headers: { 'content-type': 'application/json', ...headers },
    payload: Buffer.isBuffer(payload) || typeof payload === 'string' ? payload : JSON.stringify(payload),
  };
}

function list(payload: string | Buffer, query = '', type = 'text/plain', headers = {}): InjectOptions {
  return {
    method: 'POST',
    url: `/v1/flushes?cache=projects&export=/exp1${query}`,
    headers: { 'content-type': type, ...headers },
    payload,
  };
}

const GOOD = { cache: 'projects', export: '/exp1', files: ['/a', '/b'] };

test('a JSON request becomes a job with the defaults of the service', async (t) => {
  const api = startApi();
  t.after(api.close);
  const { status, headers, body } = await api.json(json(GOOD));
  assert.equal(status, 202);
  const job = body as { id: string; options: unknown; cache: string };
  assert.equal(headers.location, `/v1/jobs/${job.id}`);
  assert.equal(job.cache, 'projects');
  assert.deepEqual(job.options, {
    pathsAre: 'export',
    clientMount: '/mnt/projects',
    dialect: 'hpc-cache',
    mode: 'async',
    fileTimeoutSeconds: 3600,
    deadlineSeconds: 86400,
  });
  assert.deepEqual(api.memory.find(job.id).paths.map(String), ['/a', '/b']);
  assert.equal(api.memory.aborted, 0);
});

test('options, labels and directories of a JSON request reach the job', async (t) => {
  const api = startApi();
  t.after(api.close);
  const { body } = await api.json(
    json({
      ...GOOD,
      export: '//exp2/',
      files: undefined,
      directories: [{ path: '/d', include: ['*.h5'] }, { path: '/caf\udce9' }],
      pathsAre: 'client',
      mode: 'sync',
      dialect: 'hpc-cache',
      fileTimeoutSeconds: 1.5,
      deadlineSeconds: 60,
      labels: { 'a/b-c': 'x y', run: '' },
    }),
  );
  const request = api.memory.flush((body as { id: string }).id);
  assert.equal(request.export, '/exp2');
  assert.deepEqual(request.labels, { 'a/b-c': 'x y', run: '' });
  assert.deepEqual(request.directories, [
    { path: '/d', include: ['*.h5'], exclude: [] },
    { path: '/caf\udce9', include: [], exclude: [] },
  ]);
  assert.deepEqual(request.options, {
    pathsAre: 'client',
    clientMount: '/mnt/projects',
    dialect: 'hpc-cache',
    mode: 'sync',
    fileTimeoutSeconds: 1.5,
    deadlineSeconds: 60,
  });
});

test('the three forms, with and without gzip, make the same job', async (t) => {
  const api = startApi();
  t.after(api.close);
  const paths = ['/a', '/with space', '/é', '/"q"\\', '/😀'];
  const lines = `${paths.join('\n')}\n`;
  const strings = paths.map((path) => `${JSON.stringify(path)}\n`).join('');
  const objects = paths.map((path) => JSON.stringify({ path })).join('\r\n');
  const gzip = { 'content-encoding': 'gzip' };
  const ndjson = 'application/x-ndjson';
  const requests: InjectOptions[] = [
    json({ ...GOOD, files: paths }),
    json(gzipSync(JSON.stringify({ ...GOOD, files: paths })), gzip),
    list(lines),
    list(lines.trimEnd()),
    list(lines, '', 'Text/Plain; charset=utf-8'),
    list(gzipSync(lines), '', 'text/plain', gzip),
    list(paths.join('\0'), '&delimiter=nul'),
    list(strings, '', ndjson),
    list(objects, '', ndjson),
    list(gzipSync(strings), '', ndjson, { 'content-encoding': 'x-gzip' }),
  ];
  for (const request of requests) {
    const { status, body } = await api.json(request);
    assert.equal(status, 202, JSON.stringify(body));
    const stored = api.memory.find((body as { id: string }).id);
    assert.deepEqual(stored.paths.map(pathText), paths);
    assert.deepEqual(stored.job.warnings, []);
    assert.equal(stored.job.cache, 'projects');
  }
});

test('options of a list stand in the query', async (t) => {
  const api = startApi();
  t.after(api.close);
  const query =
    '&pathsAre=namespace&mode=sync&fileTimeoutSeconds=9.5&deadlineSeconds=60&label=run=42&label=user=a%3Db';
  const { body } = await api.json(list('/a\n', query));
  const request = api.memory.flush((body as { id: string }).id);
  assert.deepEqual(request.labels, { run: '42', user: 'a=b' });
  assert.equal(request.options.pathsAre, 'namespace');
  assert.equal(request.options.mode, 'sync');
  assert.equal(request.options.fileTimeoutSeconds, 9.5);
  assert.equal(request.options.deadlineSeconds, 60);
});

test('bytes of a path that are not UTF-8 are kept', async (t) => {
  const api = startApi();
  t.after(api.close);
  const bytes = Buffer.from('/caf\xe9\n/\xff\xfe\n', 'latin1');
  const { body } = await api.json(list(bytes));
  const { paths } = api.memory.find((body as { id: string }).id);
  assert.deepEqual(Buffer.concat(paths.flatMap((path) => [path, Buffer.from('\n')])), bytes);
});

test('blank lines and CRs are left out, and the job says so', async (t) => {
  const api = startApi();
  t.after(api.close);
  const { body } = await api.json(list('\ufeff/a\r\n\r\n\n/b\r\n'));
  const { paths, job } = api.memory.find((body as { id: string }).id);
  assert.deepEqual(paths.map(String), ['/a', '/b']);
  const counts = Object.fromEntries(job.warnings.map(({ code, count }) => [code, count]));
  assert.deepEqual(counts, { BLANK_LINES: 2, CARRIAGE_RETURNS: 3, BYTE_ORDER_MARK: 1 });
  const second = await api.json(list('"/a"\n  \n\n', '', 'application/x-ndjson'));
  assert.deepEqual(
    (second.body as { warnings: { code: string; count: number }[] }).warnings.map(({ code, count }) => [
      code,
      count,
    ]),
    [['BLANK_LINES', 2]],
  );
});

test('faults in a list are refused with their line, and nothing of it stays', async (t) => {
  const api = startApi({ limits: { pathBytes: 20 } });
  t.after(api.close);
  const ndjson = 'application/x-ndjson';
  const cases: [string, InjectOptions, number, RegExp][] = [
    ['VALIDATION', list('/a\n/b\0c\n'), 2, /line 2 has a NUL.*delimiter=nul/],
    ['PATH_TOO_LONG', list(`/a\n\n/${'x'.repeat(20)}\n`), 3, /line 3 has more than 20 bytes/],
    ['PATH_TOO_LONG', list('/a\0/b\0/c\0/d\0/e\0/f\0/g\0/h\0'), 1, /needs \?delimiter=nul/],
    ['PATH_TOO_LONG', list(`/a\0/${'x'.repeat(20)}\0`, '&delimiter=nul'), 2, /line 2/],
    ['PATH_TOO_LONG', list(`"/a"\n"/${'x'.repeat(20)}"\n`, '', ndjson), 2, /has 21 bytes; 20 are allowed/],
    ['PATH_TOO_LONG', list(`"/a"\n"/${'x'.repeat(9000)}"\n`, '', ndjson), 2, /line 2 has more than 20/],
    ['MALFORMED', list('"/a"\n/b\n', '', ndjson), 2, /Line 2 is not JSON/],
    ['MALFORMED', list('"/a"\n17\n', '', ndjson), 2, /neither a JSON string nor an object/],
    ['MALFORMED', list('{"path":"/a","size":1}\n', '', ndjson), 1, /member "size"; only "path"/],
    ['MALFORMED', list(Buffer.from('"/a"\n"\xe9"\n', 'latin1'), '', ndjson), 2, /Line 2 is not UTF-8/],
    ['MALFORMED', list(Buffer.from('{"path":"\xe9"}', 'latin1'), '', ndjson), 1, /Line 1 is not UTF-8/],
    ['MALFORMED', list('"a\\"\n', '', ndjson), 1, /Line 1 has an escape/],
    ['VALIDATION', list('""\n', '', ndjson), 1, /line 1 is empty/],
    ['VALIDATION', list('"/a\\u0000"\n', '', ndjson), 1, /NUL/],
    ['MALFORMED', list('"\\ud800"\n', '', ndjson), 1, /neither text nor an escaped byte/],
  ];
  for (const [i, [code, request, line, detail]] of cases.entries()) {
    const problem = await api.refused(code as never, request);
    assert.match(problem.detail, detail);
    assert.equal(problem.errors?.[0]?.line, line, problem.detail);
    assert.equal(api.memory.aborted, i + 1);
  }
  assert.equal(api.memory.jobs.length, 0);
});

test('a list without any path is refused', async (t) => {
  const api = startApi();
  t.after(api.close);
  await api.refused('EMPTY_LIST', list(''));
  await api.refused('EMPTY_LIST', list('\n\r\n\n'));
  await api.refused('EMPTY_LIST', list('\0\0', '&delimiter=nul'));
  await api.refused('EMPTY_LIST', list('\n', '', 'application/x-ndjson'));
  await api.refused('EMPTY_LIST', json({ ...GOOD, files: [] }));
  await api.refused('EMPTY_LIST', json({ ...GOOD, files: undefined, directories: [] }));
  assert.equal(api.memory.jobs.length, 0);
});

test('faults in a JSON request are refused with their pointer', async (t) => {
  const api = startApi({ limits: { pathBytes: 20, directories: 2, globs: 1, globBytes: 5, labels: 2 } });
  t.after(api.close);
  const cases: [string, unknown, string][] = [
    ['VALIDATION', { ...GOOD, cache: undefined }, '/cache'],
    ['VALIDATION', { ...GOOD, cache: 7 }, '/cache'],
    ['VALIDATION', { ...GOOD, export: 'exp1' }, '/export'],
    ['VALIDATION', { ...GOOD, export: '/exp1/../exp2' }, '/export'],
    ['VALIDATION', { ...GOOD, files: 'a' }, '/files'],
    ['VALIDATION', { ...GOOD, files: ['/a', 3] }, '/files/1'],
    ['VALIDATION', { ...GOOD, files: ['/a', ''] }, '/files/1'],
    ['VALIDATION', { ...GOOD, files: ['/a', '/\0'] }, '/files/1'],
    ['PATH_TOO_LONG', { ...GOOD, files: ['/a', '/b', `/${'é'.repeat(10)}`] }, '/files/2'],
    ['VALIDATION', { ...GOOD, pathsAre: 'exports' }, '/pathsAre'],
    ['VALIDATION', { ...GOOD, mode: 'fast' }, '/mode'],
    ['VALIDATION', { ...GOOD, dialect: 'rfc1813' }, '/dialect'],
    ['VALIDATION', { ...GOOD, fileTimeoutSeconds: 0 }, '/fileTimeoutSeconds'],
    ['VALIDATION', { ...GOOD, fileTimeoutSeconds: '60' }, '/fileTimeoutSeconds'],
    ['VALIDATION', { ...GOOD, deadlineSeconds: 1e9 }, '/deadlineSeconds'],
    ['VALIDATION', { ...GOOD, directories: ['/d'] }, '/directories/0'],
    [
      'VALIDATION',
      { ...GOOD, directories: [{ path: '/a' }, { path: '/b' }, { path: '/c' }] },
      '/directories',
    ],
    ['VALIDATION', { ...GOOD, directories: [{ path: '/d', include: ['a', 'b'] }] }, '/directories/0/include'],
    [
      'VALIDATION',
      { ...GOOD, directories: [{ path: '/d', exclude: ['abcdef'] }] },
      '/directories/0/exclude/0',
    ],
    ['PATH_TOO_LONG', { ...GOOD, directories: [{ path: `/${'x'.repeat(20)}` }] }, '/directories/0/path'],
    ['VALIDATION', { ...GOOD, directories: [{ path: '/\0' }] }, '/directories/0/path'],
    ['VALIDATION', { ...GOOD, directories: [{ path: '\ud800' }] }, '/directories/0/path'],
    ['VALIDATION', { ...GOOD, labels: { '-x': '1' } }, '/labels/-x'],
    ['VALIDATION', { ...GOOD, labels: { a: '1', b: '2', c: '3' } }, '/labels'],
    ['VALIDATION', { ...GOOD, labels: { 'a/b': 1 } }, '/labels/a~1b'],
    ['VALIDATION', { ...GOOD, labels: { a: 'x\ny' } }, '/labels/a'],
    ['VALIDATION', { ...GOOD, labels: { a: 'é'.repeat(200) } }, '/labels/a'],
    ['UNKNOWN_EXPORT', { ...GOOD, export: '/exp9' }, '/export'],
    ['UNKNOWN_CACHE', { ...GOOD, cache: 'no such host' }, '/cache'],
    ['ADDRESS_NOT_ALLOWED', { ...GOOD, cache: '10.9.9.9' }, '/cache'],
  ];
  for (const [i, [code, body, pointer]] of cases.entries()) {
    const problem = await api.refused(code as never, json(body));
    assert.equal(problem.pointer, pointer, problem.detail);
    assert.equal(api.memory.aborted, i + 1);
  }
  const unknown = await api.refused('VALIDATION', json({ ...GOOD, exprot: 1 }));
  assert.match(unknown.detail, /exprot/);
  const many = await api.refused('VALIDATION', json({ cache: 1, export: 2, mode: 3 }));
  assert.deepEqual(
    many.errors?.map(({ pointer }) => pointer),
    ['/cache', '/export', '/mode'],
  );
  assert.match(
    (await api.refused('MALFORMED', json('{"cache": "projects"'))).detail,
    /ends too early, at byte 20/,
  );
  assert.match(
    (await api.refused('MALFORMED', { method: 'POST', url: '/v1/flushes' })).detail,
    /nothing in it/,
  );
  assert.equal(api.memory.jobs.length, 0);
});

test('faults in the query of a list name the parameter', async (t) => {
  const api = startApi({ limits: { labels: 2, labelValueBytes: 5 } });
  t.after(api.close);
  const cases: [string, string][] = [
    ['&pathAre=client', 'pathAre'],
    ['&mode=fast', 'mode'],
    ['&mode=sync&mode=async', 'mode'],
    ['&fileTimeoutSeconds=ten', 'fileTimeoutSeconds'],
    ['&deadlineSeconds=-1', 'deadlineSeconds'],
    ['&label=run', 'label'],
    ['&label=-x=1', 'label'],
    ['&label=a=1&label=a=2', 'label'],
    ['&label=a=1&label=b=2&label=c=3', 'label'],
    ['&label=a=123456', 'label'],
    ['&label=a=%C3%A9%C3%A9%C3%A9', 'label'],
    ['&label=a=%0A', 'label'],
    ['&delimiter=comma', 'delimiter'],
  ];
  for (const [query, parameter] of cases) {
    const problem = await api.refused('VALIDATION', list('/a\n', query));
    assert.equal(problem.errors?.[0]?.parameter, parameter, problem.detail);
  }
  const elsewhere: [string, string, string][] = [
    ['ADDRESS_NOT_ALLOWED', '/v1/flushes?cache=10.9.9.9&export=/x', 'cache'],
    ['UNKNOWN_CACHE', '/v1/flushes?cache=no+host&export=/x', 'cache'],
    ['UNKNOWN_EXPORT', '/v1/flushes?cache=projects&export=/x', 'export'],
    ['VALIDATION', '/v1/flushes?cache=projects&export=/exp1/..', 'export'],
    ['VALIDATION', '/v1/flushes?cache=projects&export=/exp1&dialect=rfc1813', 'dialect'],
    ['VALIDATION', '/v1/flushes?cache=scratch&export=/x&pathsAre=client', 'pathsAre'],
  ];
  for (const [code, url, parameter] of elsewhere) {
    const problem = await api.refused(code as never, { ...list('/a\n'), url });
    assert.deepEqual([problem.errors?.[0]?.parameter, problem.pointer], [parameter, undefined]);
  }
  const missing = await api.refused('VALIDATION', { ...list('/a\n'), url: '/v1/flushes' });
  assert.deepEqual(
    missing.errors?.map(({ parameter }) => parameter),
    ['cache', 'export'],
  );
  const both = await api.refused('VALIDATION', { ...json(GOOD), url: '/v1/flushes?mode=sync' });
  assert.match(both.detail, /stand in its body/);
});

test('pathsAre=client needs to know where clients mount', async (t) => {
  const api = startApi();
  t.after(api.close);
  const request = { cache: 'scratch', export: '/x', files: ['/mnt/x/a'], pathsAre: 'client' };
  const problem = await api.refused('VALIDATION', json(request));
  assert.equal(problem.pointer, '/pathsAre');
  assert.match(problem.detail, /"clientMount" of "scratch"/);
});

test('limits on bytes and files say what to do instead', async (t) => {
  const api = startApi({ limits: { jsonBodyBytes: 2000, streamedBodyBytes: 4000, filesPerJob: 100 } });
  t.after(api.close);
  const many = Array.from({ length: 300 }, (_, i) => `/file${i}`);
  const tooLong = await api.refused('BODY_TOO_LARGE', json({ ...GOOD, files: many }));
  assert.match(tooLong.detail, /2000 bytes.*text\/plain or application\/x-ndjson/);
  const zipped = gzipSync(JSON.stringify({ ...GOOD, files: many }));
  assert.ok(zipped.length < 2000);
  await api.refused('BODY_TOO_LARGE', json(zipped, { 'content-encoding': 'gzip' }));
  const bomb = gzipSync(Buffer.alloc(5_000_000, '\n'));
  await api.refused('BODY_TOO_LARGE', list(bomb, '', 'text/plain', { 'content-encoding': 'gzip' }));
  await api.refused('BODY_TOO_LARGE', list('/a\n'.repeat(2000)));
  await api.refused('TOO_MANY_FILES', list('/a\n'.repeat(101)));
  assert.equal((await api.json(list('/a\n'.repeat(100)))).status, 202);
});

test('encodings and media types that are not known are refused', async (t) => {
  const api = startApi();
  t.after(api.close);
  await api.refused('UNSUPPORTED_MEDIA_TYPE', list('/a\n', '', 'text/csv'));
  await api.refused('UNSUPPORTED_MEDIA_TYPE', list('/a\n', '', 'not a type'));
  await api.refused('UNSUPPORTED_MEDIA_TYPE', list('/a\n', '', 'text/plain', { 'content-encoding': 'br' }));
  await api.refused('UNSUPPORTED_MEDIA_TYPE', json(GOOD, { 'content-encoding': 'gzip, gzip' }));
  const gzip = { 'content-encoding': 'gzip' };
  await api.refused('MALFORMED', json(GOOD, gzip));
  await api.refused('MALFORMED', list(gzipSync('/a\n'.repeat(1000)).subarray(0, 30), '', 'text/plain', gzip));
});

test('a full queue refuses with Retry-After, before and after the list is read', async (t) => {
  const api = startApi({ limits: { queuedFilesPerCache: 10 } });
  t.after(api.close);
  const cache = { filesQueued: 8 };
  api.memory.caches.set('projects', cache as never);
  assert.equal((await api.json(json(GOOD))).status, 202);
  await api.refused('QUEUE_FULL', json({ ...GOOD, files: ['/a', '/b', '/c'] }));
  await api.refused('QUEUE_FULL', list('/a\n/b\n/c\n'));
  cache.filesQueued = 10;
  const { status, headers } = await api.json(list('/a\n'));
  assert.equal(status, 429);
  assert.equal(headers['retry-after'], '30');
});

test('while the service shuts down nothing is accepted', async (t) => {
  const api = startApi();
  t.after(api.close);
  api.shutDown();
  const { status, headers } = await api.json(json(GOOD));
  assert.equal(status, 503);
  assert.equal(headers['retry-after'], '5');
  assert.equal(headers.connection, 'close');
  await api.refused('SHUTTING_DOWN', list('/a\n'));
  assert.equal((await api.json({ url: '/healthz' })).status, 200);
});
