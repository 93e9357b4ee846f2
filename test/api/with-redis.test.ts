import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Cache, Job, JobFile } from '../../src/model/job.js';
import type { Node } from '../../src/model/node.js';
import { openRedisRig, type RedisRig } from './redis-rig.js';

/** The API over the store it runs with, and a Redis that is taken away. No worker runs: jobs stay queued. */

let rig: RedisRig;

before(async () => {
  rig = await openRedisRig();
});

after(() => rig?.close());

async function call<T>(path: string, init: RequestInit = {}) {
  const response = await fetch(rig.base + path, init);
  const text = await response.text();
  const body = (text === '' ? null : JSON.parse(text)) as T;
  return { status: response.status, headers: response.headers, body };
}

async function submitList(body: string | Uint8Array<ArrayBuffer>, query = ''): Promise<Job> {
  const { status, body: job } = await call<Job>(`/v1/flushes?cache=scratch&export=/x${query}`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body,
  });
  assert.equal(status, 202, JSON.stringify(job));
  return job;
}

/** The items of a listing, page after page as `Link` leads. */
async function pagesOf<T>(first: string): Promise<T[][]> {
  const pages: T[][] = [];
  let next: string | undefined = first;
  while (next !== undefined) {
    const page: { status: number; headers: Headers; body: { items: T[] } } = await call(next);
    assert.equal(page.status, 200, JSON.stringify(page.body));
    pages.push(page.body.items);
    next = /^<(.*)>; rel="next"$/.exec(page.headers.get('link') ?? '')?.[1];
  }
  return pages;
}

async function filesOf(id: string, query = ''): Promise<JobFile[]> {
  return (await pagesOf<JobFile>(`/v1/jobs/${id}/files?limit=1000${query}`)).flat();
}

test('a list comes back file by file as it was sent, bytes included', async () => {
  const paths = Array.from({ length: 3000 }, (_, i) => `/dir${i % 3}/caf\xe9 ${i}`);
  const job = await submitList(
    new Uint8Array(Buffer.from(`${paths.join('\r\n')}\n\n`, 'latin1')),
    '&label=run=7',
  );
  assert.equal(job.progress.filesTotal, 3000);
  assert.deepEqual(job.warnings.map(({ code, count }) => [code, count]).sort(), [
    ['BLANK_LINES', 1],
    ['CARRIAGE_RETURNS', 2999],
  ]);
  const files = await filesOf(job.id);
  assert.deepEqual(
    files.map(({ path }) => path),
    paths.map((path) => path.replace('\xe9', '\udce9')),
  );
  assert.ok(files.every(({ state, index }, i) => state === 'pending' && index === i));
  const found = await call<{ items: Job[] }>('/v1/jobs?label=run=7&state=queued&cache=scratch');
  assert.deepEqual(
    found.body.items.map(({ id }) => id),
    [job.id],
  );
});

test('duplicates of a list are skipped with the entry they repeat', async () => {
  const job = await submitList('/a\n/b\n/a\n');
  const skipped = await filesOf(job.id, '&state=skipped&code=DUPLICATE_PATH');
  assert.deepEqual(
    skipped.map(({ index, path }) => [index, path]),
    [[2, '/a']],
  );
  const { body } = await call<{ items: { code: string; count: number }[] }>(`/v1/jobs/${job.id}/errors`);
  assert.deepEqual(
    body.items.map(({ code, count }) => [code, count]),
    [['DUPLICATE_PATH', 1]],
  );
});

test('a refused list leaves nothing in Redis', async () => {
  const client = rig.redis.client();
  const before = await client.dbsize();
  const list = `${'/some/file\n'.repeat(50_000)}/bad\0\n`;
  const refused = await call(`/v1/flushes?cache=scratch&export=/x`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: list,
  });
  assert.equal(refused.status, 422);
  assert.equal(await client.dbsize(), before);
});

test('a long-poll sees a cancel, the end is terminal for it, and retry makes a new job', async () => {
  const job = await submitList('/a\n/b\n');
  const first = await call<Job>(`/v1/jobs/${job.id}`);
  const etag = first.headers.get('etag') as string;
  const same = await call(`/v1/jobs/${job.id}`, { headers: { 'if-none-match': etag } });
  assert.deepEqual([same.status, same.body], [304, null]);
  const waiting = call<Job>(`/v1/jobs/${job.id}`, { headers: { 'if-none-match': etag, prefer: 'wait=30' } });
  const ending = call<Job>(`/v1/jobs/${job.id}?until=terminal`, { headers: { prefer: 'wait=30' } });
  const canceled = await call<Job>(`/v1/jobs/${job.id}/cancel`, { method: 'POST' });
  assert.ok([200, 202].includes(canceled.status));
  const changed = await waiting;
  assert.equal(changed.status, 200);
  assert.notEqual(changed.headers.get('etag'), etag);
  const ended = await ending;
  assert.equal(ended.body.state, 'canceled');
  assert.equal(ended.body.progress.filesCanceled, 2);
  assert.equal((await call(`/v1/jobs/${job.id}/cancel`, { method: 'POST' })).status, 200);
  const retried = await call<Job>(`/v1/jobs/${job.id}/retry`, { method: 'POST' });
  assert.equal(retried.status, 202);
  assert.equal(retried.body.parentJobId, job.id);
  assert.equal(retried.body.progress.filesTotal, 2);
});

test('caches are shown, paused with a reason that jobs carry, and resumed', async () => {
  const json = { 'content-type': 'application/json' };
  const body = JSON.stringify({ reason: 'upgrade' });
  const job = await submitList('/a\n');
  const before = await call<Job>(`/v1/jobs/${job.id}`);
  const paused = await call<Cache>('/v1/caches/scratch/pause', { method: 'POST', headers: json, body });
  assert.deepEqual([paused.status, paused.body.paused, paused.body.pausedReason], [200, true, 'upgrade']);
  const seen = await call<Job>(`/v1/jobs/${job.id}`);
  assert.deepEqual([seen.body.paused, seen.body.pausedReason], [true, 'upgrade']);
  assert.notEqual(seen.headers.get('etag'), before.headers.get('etag'));
  const resumed = await call<Cache>('/v1/caches/scratch/resume', { method: 'POST' });
  assert.deepEqual([resumed.body.paused, resumed.body.pausedReason], [false, null]);
  const { body: all } = await call<{ items: Cache[] }>('/v1/caches');
  assert.deepEqual(
    all.items
      .filter(({ configured }) => configured)
      .map(({ name }) => name)
      .sort(),
    ['projects', 'scratch'],
  );
  assert.equal((await call('/v1/caches/nope')).status, 404);
});

test('an address within the allowed networks becomes a cache of its own', async () => {
  const payload = { cache: '[::1]', export: '/exp/', files: ['/a'], dialect: 'rfc1813' };
  const { status, body: job } = await call<Job>('/v1/flushes', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(payload),
  });
  assert.deepEqual([status, job.cache, job.export], [202, '::1', '/exp']);
  assert.ok('dialect' in job.options && job.options.dialect === 'rfc1813');
  const { status: known, body: cache } = await call<Cache>(`/v1/caches/${encodeURIComponent('::1')}`);
  assert.deepEqual([known, cache.configured, cache.filesQueued], [200, false, 1]);
});

test('cursors of others, and ids that never were, are refused', async () => {
  const job = await submitList('/a\n');
  assert.equal((await call('/v1/jobs?cursor=nonsense')).status, 422);
  assert.equal((await call(`/v1/jobs/${job.id}/files?cursor=nonsense`)).status, 422);
  for (const id of ['nope', 'f0', '%7Bx%7D', '*', `${job.id}x`]) {
    for (const path of ['', '/files', '/errors']) {
      assert.equal((await call(`/v1/jobs/${id}${path}`)).status, 404, id + path);
    }
    assert.equal((await call(`/v1/jobs/${id}/cancel`, { method: 'POST' })).status, 404, id);
  }
});

test('with Redis frozen or gone every request is answered with 503, and all is well when it is back', async () => {
  const job = await submitList('/a\n');
  const requests: [string, RequestInit][] = [
    [`/v1/jobs/${job.id}`, {}],
    ['/v1/jobs', {}],
    ['/v1/caches', {}],
    [`/v1/jobs/${job.id}/cancel`, { method: 'POST' }],
    [
      '/v1/flushes?cache=scratch&export=/x',
      { method: 'POST', headers: { 'content-type': 'text/plain' }, body: '/a\n' },
    ],
  ];
  const allRefused = async () => {
    const answers = await Promise.all(requests.map(([path, init]) => call<{ code: string }>(path, init)));
    for (const { status, headers, body } of answers) {
      assert.deepEqual([status, body.code], [503, 'STORE_UNAVAILABLE']);
      assert.ok(Number(headers.get('retry-after')) > 0);
    }
    assert.equal((await call('/readyz')).status, 503);
    assert.equal((await call('/healthz')).status, 200);
  };
  rig.redis.freeze();
  try {
    await allRefused();
  } finally {
    rig.redis.thaw();
  }
  await rig.redis.kill();
  await allRefused();
  await rig.redis.restart();
  while ((await call(`/v1/jobs/${job.id}`)).status === 503);
  assert.equal((await call('/readyz')).status, 200);
  assert.equal((await call<Job>(`/v1/jobs/${job.id}`)).status, 200);
  await submitList('/a\n');
});

test('nodes are listed page by page', async () => {
  for (const node of ['n3', 'n1', 'n2']) {
    const { status } = await call('/v1/transfers', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ node, files: [{ source: '/local/a', destination: '/lustre/a' }] }),
    });
    assert.equal(status, 202);
  }
  const pages = await pagesOf<Node>('/v1/nodes?limit=2');
  assert.deepEqual(
    pages.map((page) => page.map(({ name, filesQueued }) => [name, filesQueued])),
    [
      [
        ['n1', 1],
        ['n2', 1],
      ],
      [['n3', 1]],
    ],
  );
  for (const wrong of ['limit=0', 'limit=1001', 'cursor=!', 'page=2'])
    assert.equal((await call(`/v1/nodes?${wrong}`)).status, 422, wrong);
});
