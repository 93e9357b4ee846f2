import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Job, jobSchema } from '../../src/model/job.js';
import { type ApiTest, type ApiTestOptions, startApi } from '../support/api.js';
import { until } from '../support/until.js';

async function withJob(t: TestContext, options: ApiTestOptions = {}, files = ['/a', '/missing', '/b']) {
  const api = startApi(options);
  t.after(api.close);
  const id = await submit(api, files);
  return { api, id, url: `/v1/jobs/${id}` };
}

async function submit(api: ApiTest, files: string[], labels: Record<string, string> = {}): Promise<string> {
  const payload = { cache: 'projects', export: '/exp1', files, labels };
  const { status, body } = await api.json({ method: 'POST', url: '/v1/flushes', payload });
  assert.equal(status, 202);
  return (body as Job).id;
}

test('a job is shown with its ETag and without its files', async (t) => {
  const { api, url } = await withJob(t);
  const { status, headers, body } = await api.json({ url });
  assert.equal(status, 200);
  assert.equal(headers.etag, 'W/"r1"');
  assert.equal(headers['cache-control'], 'no-cache');
  assert.deepEqual(jobSchema.strict().parse(body), body);
});

test('HEAD answers as GET does, without the body', async (t) => {
  const { api, url } = await withJob(t);
  for (const path of [
    url,
    `${url}/files`,
    `${url}/errors`,
    '/v1/jobs',
    '/v1/caches',
    '/healthz',
    '/readyz',
    '/openapi.json',
    '/docs',
  ]) {
    const [get, head] = [
      await api.app.inject({ url: path }),
      await api.app.inject({ method: 'HEAD', url: path }),
    ];
    assert.equal(head.statusCode, get.statusCode, path);
    assert.equal(head.body, '');
    assert.equal(head.headers.etag, get.headers.etag);
    assert.equal(head.headers['content-type'], get.headers['content-type']);
  }
});

test('If-None-Match is answered with 304 as long as nothing changed', async (t) => {
  const { api, id, url } = await withJob(t);
  const ask = (tag: string) => api.json({ url, headers: { 'if-none-match': tag } });
  for (const tag of ['W/"r1"', '"r1"', '"x", W/"r1"', '*']) {
    const { status, headers, body } = await ask(tag);
    assert.deepEqual([status, body, headers.etag], [304, null, 'W/"r1"'], tag);
  }
  for (const tag of ['W/"r2"', 'r1', '']) assert.equal((await ask(tag)).status, 200, tag);
  api.memory.change(id, 'running');
  assert.equal((await ask('W/"r1"')).status, 200);
});

test('a long-poll is answered at the next change', async (t) => {
  const { api, id, url } = await withJob(t);
  const pending = api.json({ url, headers: { 'if-none-match': 'W/"r1"', prefer: 'respond-async, wait=50' } });
  await until('one who waits', () => api.memory.waiting === 1);
  api.memory.change(id, 'running');
  const { status, headers, body } = await pending;
  assert.equal(status, 200);
  assert.equal(headers['preference-applied'], 'wait=50');
  assert.equal(headers.etag, 'W/"r2"');
  assert.equal((body as Job).state, 'running');
  assert.equal(api.memory.waiting, 0);
});

test('a long-poll without a change ends with 304', async (t) => {
  const { api, url } = await withJob(t, { limits: { waitSeconds: 1 } });
  const { status, headers } = await api.json({
    url,
    headers: { 'if-none-match': 'W/"r1"', prefer: 'wait=3600' },
  });
  assert.equal(status, 304);
  assert.equal(headers['preference-applied'], 'wait=1');
});

test('until=terminal waits through progress, with or without If-None-Match', async (t) => {
  const { api, id, url } = await withJob(t);
  for (const headers of [{ prefer: 'wait=50' }, { prefer: 'wait=50', 'if-none-match': 'W/"r1"' }]) {
    api.memory.change(id, 'queued');
    let answered = false;
    const pending = api.json({ url: `${url}?until=terminal`, headers }).finally(() => {
      answered = true;
    });
    await until('one who waits', () => api.memory.waiting === 1);
    api.memory.change(id, 'running');
    await until('one who waits', () => api.memory.waiting === 1);
    assert.equal(answered, false);
    api.memory.change(id, 'partial');
    const { status, body } = await pending;
    assert.deepEqual([status, (body as Job).state], [200, 'partial']);
  }
});

test('until=terminal that runs out of time shows how far the job is', async (t) => {
  const { api, id, url } = await withJob(t, { limits: { waitSeconds: 1 } });
  api.memory.change(id, 'running');
  const { status, body } = await api.json({ url: `${url}?until=terminal`, headers: { prefer: 'wait=9' } });
  assert.deepEqual([status, (body as Job).state], [200, 'running']);
});

test('there is no waiting when there is nothing to wait for', async (t) => {
  const { api, id, url } = await withJob(t);
  const asked = async (headers: Record<string, string>, query = '') => {
    const response = await api.json({ url: url + query, headers });
    assert.equal(response.headers['preference-applied'], undefined);
    return response.status;
  };
  assert.equal(await asked({ prefer: 'wait=50' }), 200);
  assert.equal(await asked({ prefer: 'wait=50', 'if-none-match': 'W/"older"' }), 200);
  assert.equal(await asked({ prefer: 'wait=0', 'if-none-match': 'W/"r1"' }), 304);
  assert.equal(await asked({ prefer: 'wait=soon', 'if-none-match': 'W/"r1"' }), 304);
  assert.equal(await asked({}, '?until=terminal'), 200);
  api.memory.change(id, 'succeeded');
  assert.equal(await asked({ prefer: 'wait=50', 'if-none-match': 'W/"r2"' }), 304);
  assert.equal(await asked({ prefer: 'wait=50' }, '?until=terminal'), 200);
});

test('only so many may wait; the others are told when to come again', async (t) => {
  const { api, id, url } = await withJob(t, { limits: { waiters: 2 } });
  const headers = { 'if-none-match': 'W/"r1"', prefer: 'wait=50' };
  const pending = [api.json({ url, headers }), api.json({ url, headers })];
  await until('two who wait', () => api.memory.waiting === 2);
  const third = await api.json({ url, headers });
  assert.deepEqual([third.status, third.headers['retry-after']], [429, '2']);
  await api.refused('TOO_MANY_WAITERS', { url, headers });
  assert.equal((await api.json({ url })).status, 200);
  api.memory.change(id, 'running');
  for (const response of await Promise.all(pending)) assert.equal(response.status, 200);
});

test('a client that leaves does not wait on', async (t) => {
  const { api, id } = await withJob(t);
  const base = await api.listen();
  const controller = new AbortController();
  const headers = { 'if-none-match': 'W/"r1"', prefer: 'wait=50' };
  const pending = fetch(`${base}/v1/jobs/${id}`, { headers, signal: controller.signal });
  await until('one who waits', () => api.memory.waiting === 1);
  controller.abort();
  await assert.rejects(pending, { name: 'AbortError' });
  await until('nobody who waits', () => api.memory.waiting === 0);
});

test('closing the app releases who waits, with an answer', async (t) => {
  const { api, id } = await withJob(t);
  const base = await api.listen();
  const headers = { 'if-none-match': 'W/"r1"', prefer: 'wait=50' };
  const pending = fetch(`${base}/v1/jobs/${id}`, { headers });
  await until('one who waits', () => api.memory.waiting === 1);
  api.shutDown();
  await api.close();
  assert.equal((await pending).status, 304);
});

test('jobs are listed newest first, by every filter', async (t) => {
  const api = startApi();
  t.after(api.close);
  const ids = [
    await submit(api, ['/a'], { run: '1', user: 'x' }),
    await submit(api, ['/b'], { run: '2', user: 'x' }),
  ];
  api.memory.change(ids[0] as string, 'failed');
  const listed = async (query: string): Promise<string[]> => {
    const { status, body } = await api.json({ url: `/v1/jobs${query}` });
    assert.equal(status, 200, query);
    return (body as { items: Job[] }).items.map(({ id }) => id);
  };
  const [first, second] = ids as [string, string];
  assert.deepEqual(await listed(''), [second, first]);
  assert.deepEqual(await listed('/'), [second, first]);
  assert.deepEqual(await listed('?state=failed'), [first]);
  assert.deepEqual(await listed('?state=failed&state=queued'), [second, first]);
  assert.deepEqual(await listed('?label=run=2&label=user=x'), [second]);
  assert.deepEqual(await listed('?label=run=1&label=user=y'), []);
  assert.deepEqual(await listed('?kind=transfer'), []);
  assert.deepEqual(await listed('?cache=projects'), [second, first]);
  assert.deepEqual(
    await listed('?createdAfter=2000-01-01T00:00:00Z&createdBefore=2999-01-01T00:00:00%2B01:00'),
    [second, first],
  );
  assert.deepEqual(await listed('?createdBefore=2000-01-01T00:00:00Z'), []);
});

test('pages are linked until the last one, and keep their filters', async (t) => {
  const files = Array.from({ length: 25 }, (_, i) => (i % 2 ? `/missing${i}` : `/f${i}`));
  const { api, url } = await withJob(t, {}, files);
  const seen: string[] = [];
  let next: string | undefined = `${url}/files?state=failed&code=ENOENT&limit=5`;
  for (let pages = 0; next !== undefined; pages++) {
    assert.ok(pages < 10);
    const { body, headers } = await api.json({ url: next });
    const page = body as { items: { path: string }[]; nextCursor: string | null };
    seen.push(...page.items.map(({ path }) => path));
    next = /^<(.*)>; rel="next"$/.exec(String(headers.link))?.[1];
    assert.equal(next === undefined, page.nextCursor === null);
  }
  assert.deepEqual(
    seen,
    files.filter((path) => path.startsWith('/missing')),
  );
});

test('bytes of a path that are not UTF-8 come back as escapes', async (t) => {
  const { api, url } = await withJob(t, {}, ['/caf\udce9', '/😀']);
  const response = await api.app.inject({ url: `${url}/files` });
  assert.ok(response.body.includes('"/caf\\udce9"'), response.body);
  assert.ok(response.body.includes('"/😀"'));
});

test('errors are grouped with what to do', async (t) => {
  const { api, url } = await withJob(t);
  const { body } = await api.json({ url: `${url}/errors` });
  const [group] = (body as { items: { code: string; help: string }[] }).items;
  assert.equal(group?.code, 'ENOENT');
  assert.match(group?.help ?? '', /No such file/);
});

test('cancel is idempotent: 202 on the way, 200 at the end, with no body, an empty one or JSON', async (t) => {
  const { api, id, url } = await withJob(t);
  const json = { 'content-type': 'application/json' };
  for (const extra of [{}, { headers: json, payload: '' }, { headers: json, payload: '{}' }]) {
    const { status, body } = await api.json({ method: 'POST', url: `${url}/cancel`, ...extra });
    assert.deepEqual([status, (body as Job).state], [202, 'canceling']);
  }
  api.memory.change(id, 'canceled');
  const { status, body, headers } = await api.json({ method: 'POST', url: `${url}/cancel` });
  assert.deepEqual([status, (body as Job).state, headers.etag], [200, 'canceled', 'W/"r3"']);
});

test('retry makes a new job, once there is something to retry', async (t) => {
  const { api, id, url } = await withJob(t);
  const retry = { method: 'POST', url: `${url}/retry` } as const;
  await api.refused('JOB_NOT_FINISHED', retry);
  api.memory.change(id, 'succeeded');
  await api.refused('NOTHING_TO_RETRY', retry);
  api.memory.change(id, 'failed');
  const { status, headers, body } = await api.json(retry);
  assert.equal(status, 202);
  assert.equal((body as Job).parentJobId, id);
  assert.equal(headers.location, `/v1/jobs/${(body as Job).id}`);
  api.shutDown();
  await api.refused('SHUTTING_DOWN', retry);
});

test('jobs that never were are 404, and jobs that were are 410', async (t) => {
  const { api } = await withJob(t);
  for (const [id, code] of [
    ['nope', 'JOB_NOT_FOUND'],
    ['gone', 'JOB_GONE'],
  ] as const) {
    for (const path of ['', '/files', '/errors']) await api.refused(code, { url: `/v1/jobs/${id}${path}` });
    for (const path of ['/cancel', '/retry'])
      await api.refused(code, { method: 'POST', url: `/v1/jobs/${id}${path}` });
  }
});

test('parameters that are not known or not valid are named', async (t) => {
  const { api, url } = await withJob(t);
  const cases: [string, string][] = [
    ['/v1/jobs?limit=0', 'limit'],
    ['/v1/jobs?limit=501', 'limit'],
    ['/v1/jobs?limit=1.5', 'limit'],
    ['/v1/jobs?limit=5&limit=6', 'limit'],
    ['/v1/jobs?states=failed', 'states'],
    ['/v1/jobs?state=done', 'state'],
    ['/v1/jobs?kind=copy', 'kind'],
    ['/v1/jobs?label=x', 'label'],
    ['/v1/jobs?createdAfter=yesterday', 'createdAfter'],
    ['/v1/jobs?cursor=', 'cursor'],
    ['/v1/jobs?__proto__=1', '__proto__'],
    [`${url}?until=done`, 'until'],
    [`${url}?wait=5`, 'wait'],
    [`${url}/files?code=EWHAT`, 'code'],
    [`/v1/jobs/${'x'.repeat(200)}`, 'id'],
  ];
  for (const [path, parameter] of cases) {
    const problem = await api.refused('VALIDATION', { url: path });
    assert.equal(problem.errors?.[0]?.parameter, parameter, problem.detail);
  }
  await api.refused('VALIDATION', { url: `${url}/files?cursor=nonsense` });
});
