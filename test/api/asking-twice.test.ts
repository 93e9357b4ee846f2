import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Job } from '../../src/model/job.js';
import { Keys } from '../../src/store/keys.js';
import { startApi } from '../support/api.js';
import { until } from '../support/until.js';
import { CACHES, openRedisRig, type RedisRig } from './redis-rig.js';

/** Requests that come more than once, over HTTP and a real Redis. No worker runs: jobs stay queued. */

let rig: RedisRig;

before(async () => {
  rig = await openRedisRig({ queuedFilesPerCache: 100_000 });
});

after(() => rig?.close());

interface Answer {
  status: number;
  headers: Headers;
  body: Job & { code?: string; detail: string };
}

async function post(
  paths: readonly string[],
  options: { key?: string; query?: string } = {},
): Promise<Answer> {
  return send(`?cache=scratch&export=/x${options.query ?? ''}`, 'text/plain', paths.join('\n'), options.key);
}

async function send(query: string, type: string, body: string, key?: string): Promise<Answer> {
  const headers = { 'content-type': type, ...(key !== undefined && { 'idempotency-key': key }) };
  const response = await fetch(`${rig.base}/v1/flushes${query}`, { method: 'POST', headers, body });
  const parsed = (await response.json()) as Answer['body'];
  return { status: response.status, headers: response.headers, body: parsed };
}

async function jobCount(): Promise<number> {
  const { body } = await rig.api.json({ url: '/v1/jobs?limit=500' });
  return (body as { items: unknown[] }).items.length;
}

const PATHS = Array.from({ length: 50 }, (_, i) => `/rank${i}.dat`);

test('the same key, quoted or not, in any form of the body gives the first answer again', async () => {
  const first = await post(PATHS, { key: '0f8b-1' });
  assert.equal(first.status, 202);
  assert.equal(first.headers.get('idempotency-replayed'), null);
  const json = JSON.stringify({ files: [...PATHS].reverse(), export: '/x', cache: 'scratch' });
  const again = [
    await post(PATHS, { key: '"0f8b-1"' }),
    await post([...PATHS].reverse(), { key: '0f8b-1' }),
    await send('', 'application/json', json, '0f8b-1'),
  ];
  for (const { status, headers, body } of again) {
    assert.equal(status, 202, JSON.stringify(body));
    assert.equal(headers.get('idempotency-replayed'), 'true');
    assert.equal(body.id, first.body.id);
    assert.equal(headers.get('location'), first.headers.get('location'));
  }
  for (const other of [
    await post(PATHS.slice(1), { key: '0f8b-1' }),
    await post(PATHS, { key: '0f8b-1', query: '&label=run=2' }),
    await post(PATHS, { key: '0f8b-1', query: '&mode=sync' }),
  ]) {
    assert.deepEqual([other.status, other.body.code], [422, 'IDEMPOTENCY_KEY_REUSED']);
  }
});

test('a request that was refused does not use up its key', async () => {
  assert.equal((await post(['/a', '/b\0'], { key: 'refused' })).status, 422);
  assert.equal((await post([], { key: 'refused' })).status, 422);
  const good = await post(['/a'], { key: 'refused' });
  assert.deepEqual([good.status, good.headers.get('idempotency-replayed')], [202, null]);
});

test('a key of another form is refused', async () => {
  for (const key of ['', '""', '"open', 'a b', 'a,b', 'a\\b', 'é', 'x'.repeat(129)]) {
    const { status, body } = await post(['/a'], { key });
    assert.deepEqual([status, body.code], [422, 'VALIDATION'], JSON.stringify(key));
    assert.match(body.detail, /Idempotency-Key/);
  }
  assert.equal((await post(['/a'], { key: 'x'.repeat(128) })).status, 202);
});

test('while a request is still arriving its key is answered with 409 and Retry-After', async () => {
  let end = (): void => {};
  let begun = (): void => {};
  const sending = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(new TextEncoder().encode('/slow1\n'));
      begun();
      await new Promise<void>((resolve) => {
        end = resolve;
      });
      controller.enqueue(new TextEncoder().encode('/slow2\n'));
      controller.close();
    },
  });
  const init = { method: 'POST', headers: { 'content-type': 'text/plain', 'idempotency-key': 'slow' } };
  const slow = fetch(`${rig.base}/v1/flushes?cache=scratch&export=/x`, {
    ...init,
    body,
    duplex: 'half',
  } as never);
  await sending;
  const client = rig.redis.client();
  const claim = new Keys('api').asked('local slow');
  await until('the key is claimed', async () => (await client.exists(claim)) === 1);
  const early = await post(['/slow1', '/slow2'], { key: 'slow' });
  assert.deepEqual([early.status, early.body.code], [409, 'IDEMPOTENCY_KEY_IN_USE']);
  assert.ok(Number(early.headers.get('retry-after')) > 0);
  end();
  const job = (await (await slow).json()) as Job;
  const late = await post(['/slow2', '/slow1'], { key: 'slow' });
  assert.deepEqual([late.status, late.body.id], [202, job.id]);
});

for (const [what, options] of [
  ['with a key', { key: 'epilog' }],
  ['without a key, joining', { query: '&conflict=join' }],
] as const) {
  test(`100 identical requests at once ${what} are one job`, async () => {
    const before = await jobCount();
    const paths = PATHS.map((path) => `/${what}${path}`);
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        post([...paths.slice(i % 50), ...paths.slice(0, i % 50)], options),
      ),
    );
    const accepted = answers.filter(({ status }) => status === 202);
    for (const { status, body } of answers) {
      if (status !== 202) assert.deepEqual([status, body.code], [409, 'IDEMPOTENCY_KEY_IN_USE']);
    }
    const mark = 'key' in options ? 'idempotency-replayed' : 'job-joined';
    assert.equal(accepted.filter(({ headers }) => headers.get(mark) === null).length, 1);
    assert.equal(new Set(accepted.map(({ body }) => body.id)).size, 1);
    assert.equal(await jobCount(), before + 1);
    if (!('key' in options)) assert.equal(accepted.length, 100);
  });
}

test('conflict=join is a parameter of every form, and a member of the JSON body', async () => {
  const body = { cache: 'scratch', export: '/x', files: ['/j1', '/j2'] };
  const type = 'application/json';
  const first = await send('', type, JSON.stringify(body));
  const joined = [
    await send('?conflict=join', type, JSON.stringify(body)),
    await send('', type, JSON.stringify({ ...body, conflict: 'join' })),
    await post(['/j2', '/j1'], { query: '&conflict=join' }),
  ];
  for (const { status, body, headers } of joined)
    assert.deepEqual([status, body.id, headers.get('job-joined')], [202, first.body.id, 'true']);
  assert.equal((await send('?conflict=new', type, JSON.stringify(body))).status, 422);
  assert.equal((await send('', type, JSON.stringify({ ...body, conflict: 'new' }))).status, 422);
});

test('a full queue does not keep a request from joining the job that fills it, or from its first answer', async () => {
  const full = startApi({ store: rig.store, caches: CACHES, limits: { queuedFilesPerCache: 3 } });
  try {
    const payload = '/p1\n/p2\n/p3\n';
    const url = '/v1/flushes?cache=projects&export=/exp1';
    const headers = { 'content-type': 'text/plain', 'idempotency-key': 'filling' };
    const first = await full.json({ method: 'POST', url, headers, payload });
    assert.equal(first.status, 202);
    const again = await full.json({ method: 'POST', url, headers, payload });
    assert.equal(again.headers['idempotency-replayed'], 'true');
    const plain = { 'content-type': 'text/plain' };
    const joining = { method: 'POST', url: `${url}&conflict=join`, headers: plain } as const;
    assert.equal((await full.json({ ...joining, payload })).headers['job-joined'], 'true');
    await full.refused('QUEUE_FULL', { ...joining, payload: '/p1\n/p2\n' });
    await full.refused('QUEUE_FULL', { method: 'POST', url, headers: plain, payload });
  } finally {
    await full.close();
  }
});

test('transfers are asked twice in the same way, sizes and destinations included', async () => {
  const request = (destination: string, size: number, more: object = {}) => ({
    method: 'POST' as const,
    url: '/v1/transfers',
    headers: { 'content-type': 'application/json', 'idempotency-key': 'transfer' },
    payload: JSON.stringify({ node: 'n1', files: [{ source: '/scratch/a', destination, size }], ...more }),
  });
  const first = await rig.api.json(request('/pfs/a', 5));
  assert.equal(first.status, 202);
  const again = await rig.api.json(request('/pfs/a', 5, { conflict: 'join' }));
  assert.deepEqual([again.status, again.headers['idempotency-replayed']], [202, 'true']);
  assert.equal((again.body as Job).id, (first.body as Job).id);
  await rig.api.refused('IDEMPOTENCY_KEY_REUSED', request('/pfs/b', 5));
  await rig.api.refused('IDEMPOTENCY_KEY_REUSED', request('/pfs/a', 6));
  await rig.api.refused('IDEMPOTENCY_KEY_REUSED', request('/pfs/a', 5, { verify: true }));
});
