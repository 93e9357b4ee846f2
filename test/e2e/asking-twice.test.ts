import assert from 'node:assert/strict';
import { type ClientRequest, request } from 'node:http';
import { type TestContext, test } from 'node:test';
import type { Job } from '../../src/model/job.js';
import { Keys } from '../../src/store/keys.js';
import { startRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { cacheAt, getJson, numbered, type ServiceProcess, startService } from './processes.js';

const KEYS = new Keys('writeback');
const PATH = '/v1/flushes?cache=sim&export=/synthetic';
const LIST = `${numbered(20_000).join('\n')}\n`;

/** A Redis that outlives every API, and what starts these. */
async function setUp(t: TestContext) {
  const redis = await startRedis({ durable: true });
  t.after(() => redis.stop());
  const config = { redis: { url: redis.url }, caches: [cacheAt({ mount: 1, nfs: 1 })] };
  return { client: redis.client(), startApi: () => startService(t, config, ['--role', 'api']) };
}

/** Begins a POST with an idempotency key; its body is the test's to send. */
function begin(url: string, key: string): ClientRequest {
  const headers = { 'content-type': 'text/plain', 'idempotency-key': key };
  const post = request(`${url}${PATH}`, { method: 'POST', headers });
  post.on('error', () => {});
  return post;
}

/** Asks again while a busy machine lets Redis answer too late. */
async function post(
  url: string,
  key: string,
): Promise<{ status: number; replayed: string | null; job: Job }> {
  for (let tries = 0; ; tries++) {
    const reply = await fetch(`${url}${PATH}`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain', 'idempotency-key': key },
      body: LIST,
    });
    const job = (await reply.json()) as Job;
    const { status } = reply;
    if (status !== 503 || tries === 20)
      return { status, replayed: reply.headers.get('idempotency-replayed'), job };
  }
}

async function jobsOf(url: string): Promise<Job[]> {
  return (await getJson<{ items: Job[] }>(`${url}/v1/jobs`)).items;
}

test('kill -9 of the API while a request with a key arrives: no job, and the key is free after its lease', async (t) => {
  const { client, startApi } = await setUp(t);
  const first = await startApi();
  const half = begin(first.url, 'epilog-1');
  half.write(LIST.slice(0, LIST.length / 2));
  let asked = '';
  await until('the key is claimed', async () => {
    [asked = ''] = await client.keys(`${KEYS.tag}:asked:*`);
    return asked !== '';
  });
  first.kill('SIGKILL');
  await first.ended;

  const api = await startApi();
  assert.equal((await post(api.url, 'epilog-1')).status, 409);
  assert.ok((await client.pttl(asked)) > 0, 'the lease of the dead process ends by itself');
  await client.pexpire(asked, 1);
  await until('the lease has ended', async () => (await client.exists(asked)) === 0);
  const { status, replayed, job } = await post(api.url, 'epilog-1');
  assert.deepEqual([status, replayed, job.progress.filesTotal], [202, null, 20_000]);
  assert.deepEqual(
    (await jobsOf(api.url)).map(({ id }) => id),
    [job.id],
  );
});

test('kill -9 of the API as soon as a request with a key is a job: asked again, that job is the answer', async (t) => {
  const { client, startApi } = await setUp(t);
  const first = await startApi();
  let asking = true;
  const answered = (async () => {
    while (asking) {
      const whole = begin(first.url, 'epilog-2');
      const over = new Promise((resolve) => whole.on('close', resolve));
      whole.on('response', (response) => response.resume());
      whole.end(LIST);
      await over;
    }
  })();
  await until('it is a job', async () => (await client.zcard(KEYS.jobs)) === 1);
  asking = false;
  first.kill('SIGKILL');
  await first.ended;
  await answered;

  const api = await startApi();
  const { status, replayed, job } = await post(api.url, 'epilog-2');
  assert.deepEqual([status, replayed, job.progress.filesTotal], [202, 'true', 20_000]);
  assert.deepEqual(
    (await jobsOf(api.url)).map(({ id }) => id),
    [job.id],
  );
});

test('100 identical requests at once to two processes, one of which is killed meanwhile: one job, with a key and joining', async (t) => {
  const { client, startApi } = await setUp(t);
  const [first, second, third] = await Promise.all([startApi(), startApi(), startApi()]);
  const lines = numbered(500);
  const send = async (api: ServiceProcess, key: string | null, first = 0): Promise<Response> =>
    fetch(`${api.url}${PATH}${key === null ? '&conflict=join' : ''}`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain', ...(key !== null && { 'idempotency-key': key }) },
      body: [...lines.slice(first), ...lines.slice(0, first)].join('\n'),
    });

  for (const [victim, survivor, key, jobsBefore] of [
    [first, second, 'epilog-3', 0],
    [second, third, null, 1],
  ] as const) {
    const ids = new Set<string>();
    await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const reply = await send(i % 2 === 0 ? victim : survivor, key, i).catch(() => null);
        const body = (await reply?.json().catch(() => null)) as Partial<Job> | null | undefined;
        // The first answer of any is the sign that all of them are on their way.
        victim.kill('SIGKILL');
        // Refused until the one that holds the key is answered, or because all of this is too much at once.
        if (body?.id !== undefined) ids.add(body.id);
        else assert.ok(reply === null || [202, 409, 503].includes(reply.status), `${reply?.status}`);
      }),
    );
    await victim.ended;
    await until('asked again, the job is the answer', async () => {
      // The lease of a dead process ends by itself; nobody here waits that long.
      for (const asked of await client.keys(`${KEYS.tag}:asked:*`)) {
        if ((await client.hexists(asked, 'intake')) === 1) await client.pexpire(asked, 1);
      }
      const reply = await send(survivor, key);
      if (reply.status === 202) ids.add(((await reply.json()) as Job).id);
      return reply.status === 202;
    });
    const jobs = await jobsOf(survivor.url);
    assert.equal(ids.size, 1);
    assert.equal(jobs.length, jobsBefore + 1);
    await fetch(`${survivor.url}/v1/jobs/${[...ids][0]}/cancel`, { method: 'POST' });
  }
});
