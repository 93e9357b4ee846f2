import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import type { Delivery } from '../../src/model/webhook.js';
import { startReceiver } from '../support/receiver.js';
import { startRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { cacheAt, getJson, startService } from './processes.js';

/** Webhooks of the service as it runs, killed in between. No worker runs: a cancel ends the job. */

const SECRET = `whsec_${Buffer.alloc(32, 5).toString('base64')}`;

async function setUp(t: TestContext) {
  const receiver = await startReceiver();
  t.after(() => receiver.close());
  const redis = await startRedis({ durable: true });
  t.after(() => redis.stop());
  const config = {
    redis: { url: redis.url },
    worker: { lockSeconds: 1, stalledCheckSeconds: 0.5 },
    caches: [cacheAt({ mount: 1, nfs: 1 })],
    webhooks: {
      endpoints: [{ name: 'hook', url: `${receiver.url}/in`, secrets: [SECRET] }],
      networks: ['127.0.0.0/8'],
    },
  };
  return { receiver, startApi: () => startService(t, config, ['--role', 'api']) };
}

/** A job that has just ended; gives its id. */
async function endedJob(url: string): Promise<string> {
  const reply = await fetch(`${url}/v1/flushes`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ cache: 'sim', export: '/synthetic', files: ['/a'], webhook: 'hook' }),
  });
  const { id } = (await reply.json()) as { id: string };
  assert.equal((await fetch(`${url}/v1/jobs/${id}/cancel`, { method: 'POST' })).status, 200);
  return id;
}

async function deliveryOf(url: string, id: string): Promise<Delivery | undefined> {
  return (await getJson<{ items: Delivery[] }>(`${url}/v1/jobs/${id}/deliveries`)).items[0];
}

test('kill -9 with a call in hand: it is made again with the same id, and told as delivered once', async (t) => {
  const { receiver, startApi } = await setUp(t);
  receiver.answer = () => {};
  const first = await startApi();
  const id = await endedJob(first.url);
  await receiver.atLeast(1);
  first.kill('SIGKILL');
  await first.ended;
  receiver.answer = (response) => void response.writeHead(204).end();
  const api = await startApi();
  await until('it is delivered', async () => (await deliveryOf(api.url, id))?.state === 'delivered');
  assert.equal((await deliveryOf(api.url, id))?.attempts, 1);
  assert.deepEqual(
    receiver.received.map(({ headers }) => headers['webhook-id']),
    Array.from({ length: 2 }, () => id.replace('job_', 'msg_').concat('_ended')),
  );
  for (const { headers, body } of receiver.received) {
    const message = new Webhook(SECRET).verify(body, headers as Record<string, string>) as { data: object };
    assert.deepEqual(message.data, JSON.parse(receiver.received[0]?.body ?? '').data);
  }
});

test('killed right after the end of each job: every webhook is told, by whichever process is left', async (t) => {
  const { receiver, startApi } = await setUp(t);
  const ids: string[] = [];
  for (let round = 0; round < 3; round++) {
    const api = await startApi();
    ids.push(await endedJob(api.url));
    api.kill('SIGKILL');
    await api.ended;
  }
  const last = await startApi();
  for (const id of ids) {
    await until('it is delivered', async () => (await deliveryOf(last.url, id))?.state === 'delivered');
  }
  const told = new Set(receiver.received.map(({ body }) => JSON.parse(body).data.id));
  assert.deepEqual([...told].sort(), [...ids].sort());
});
