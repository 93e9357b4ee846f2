import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { pino } from 'pino';
import { Webhook } from 'standardwebhooks';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { type JobWebhook, type WebhooksConfig, webhooksConfigSchema } from '../../src/model/webhook.js';
import type { WebhookEvent } from '../../src/model/words.js';
import { openDeliveryStore } from '../../src/store/delivery-store.js';
import { openGaugeReader } from '../../src/store/gauges.js';
import { Deliverer } from '../../src/webhook/deliverer.js';
import { addAll, finishAll, newJob, openTestStore, result, type TestStore } from '../store/fixture.js';
import { type Receiver, startReceiver } from '../support/receiver.js';
import { until } from '../support/until.js';

/** From the script that ends a job to the receiver, over a real Redis, BullMQ and HTTP; workers are played. */

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
let t: TestStore;
let receiver: Receiver;
const running: (() => Promise<void>)[] = [];

before(async () => {
  t = await openTestStore();
});

after(async () => {
  await t?.close();
});

afterEach(async () => {
  for (const end of running.splice(0)) await end();
});

async function startHook(): Promise<void> {
  receiver = await startReceiver();
  running.push(() => receiver.close());
}

function webhooks(retrySeconds: number[], secrets = [SECRET]): WebhooksConfig {
  return webhooksConfigSchema.parse({
    endpoints: [{ name: 'hook', url: receiver.url, secrets }],
    networks: ['127.0.0.0/8'],
    retrySeconds,
  });
}

function startDeliverer(retrySeconds: number[] = []): Deliverer {
  const store = openDeliveryStore({ redis: { url: t.redis.url, cluster: false }, keyPrefix: 'test' });
  const deliverer = new Deliverer({
    store,
    webhooks: webhooks(retrySeconds),
    lockMs: 1000,
    stalledCheckMs: 500,
    version: 'test',
    log: pino({ level: 'silent' }),
  });
  running.unshift(async () => {
    await deliverer.close(0);
    await store.close();
  });
  return deliverer;
}

async function submit(events: WebhookEvent[], files = ['/a', '/b']): Promise<string> {
  const webhook: JobWebhook = { endpoint: 'hook', url: null, events };
  const intake = t.store.openIntake(LOCAL_PRINCIPAL);
  await addAll(intake, files);
  return (await intake.commit({ ...newJob(), labels: { run: '42' }, webhook })).id;
}

async function deliveryOf(id: string, event: WebhookEvent) {
  return (await t.store.listDeliveries(id)).find((delivery) => delivery.event === event);
}

test('each event is told once, with the job as it is, by whichever of several processes', async () => {
  await startHook();
  startDeliverer();
  startDeliverer();
  const id = await submit(['job.started', 'job.failing', 'job.ended']);
  assert.deepEqual(await t.store.listDeliveries(id), []);
  await finishAll(t.work, id, 1, (file) => result(file, { state: 'failed' }));
  await until('all are delivered', async () => {
    const states = (await t.store.listDeliveries(id)).map(({ state }) => state);
    return states.length === 3 && states.every((state) => state === 'delivered');
  });
  await t.sweeper.sweep();
  const told = receiver.received.map(({ headers, body }) => ({
    id: headers['webhook-id'],
    ...JSON.parse(body),
  }));
  const msg = id.replace('job_', 'msg_');
  assert.deepEqual(told.map((one) => [one.id, one.type]).sort(), [
    [`${msg}_ended`, 'job.ended'],
    [`${msg}_failing`, 'job.failing'],
    [`${msg}_started`, 'job.started'],
  ]);
  const ended = told.find(({ type }) => type === 'job.ended');
  const job = await t.store.getJob(id);
  assert.equal(ended.timestamp, job.finishedAt);
  assert.deepEqual(
    [ended.data.id, ended.data.state, ended.data.labels, ended.data.progress.filesFailed],
    [id, 'failed', { run: '42' }, 2],
  );
  assert.deepEqual(job.webhook, { to: 'hook', events: ['job.started', 'job.failing', 'job.ended'] });
  assert.equal(await t.redis.client().zcard(t.keys.announced), 0);
  assert.equal(await t.redis.client().zcard(t.keys.undelivered), 0);
});

test('a job without a webhook, and one that wants to hear of other events, calls nobody', async () => {
  const quiet = await submit(['job.failing']);
  await finishAll(t.work, quiet, 1);
  assert.deepEqual(await t.store.listDeliveries(quiet), []);
});

test('what nobody was there to tell is told later, once', async () => {
  await startHook();
  const id = await submit(['job.ended']);
  await t.store.cancel(id);
  assert.equal((await deliveryOf(id, 'job.ended'))?.state, 'pending');
  startDeliverer();
  startDeliverer();
  await until('the sweeper has found it', async () => {
    await t.sweeper.sweep();
    return (await deliveryOf(id, 'job.ended'))?.state === 'delivered';
  });
  assert.equal(receiver.received.length, 1);
});

test('a call that fails is made again with the same id and body, then given up; by hand it is sent once more', async () => {
  await startHook();
  receiver.answer = (response) => void response.writeHead(500).end();
  startDeliverer([0.2, 0.2]);
  const id = await submit(['job.ended']);
  await t.store.cancel(id);
  await until('it is given up', async () => (await deliveryOf(id, 'job.ended'))?.state === 'failed');
  const failed = await deliveryOf(id, 'job.ended');
  assert.deepEqual(
    [failed?.attempts, failed?.lastStatus, failed?.nextAttemptAt, failed?.log.length],
    [3, 500, null, 3],
  );
  assert.equal(
    new Set(receiver.received.map(({ headers, body }) => `${headers['webhook-id']} ${body}`)).size,
    1,
  );
  receiver.answer = (response) => void response.writeHead(200).end();
  await t.store.resend(id, failed?.id ?? '');
  await until('it is delivered', async () => (await deliveryOf(id, 'job.ended'))?.state === 'delivered');
  const delivered = await deliveryOf(id, 'job.ended');
  assert.deepEqual([delivered?.attempts, delivered?.lastStatus, delivered?.lastError], [4, 200, null]);
  await assert.rejects(t.store.resend(id, 'msg_nope'), { code: 'DELIVERY_NOT_FOUND' });
});

test('what became of calls is counted once, over all processes, and what waits is known with its age', async () => {
  await startHook();
  receiver.answer = (response) => void response.writeHead(500).end();
  const reader = openGaugeReader({
    redis: { url: t.redis.url, cluster: false },
    keyPrefix: 'test',
    caches: [],
  });
  running.push(async () => reader.close());
  await until('it is connected', async () => (await reader.store()).ok);
  const before = await reader.webhooks();
  assert.deepEqual([before.pending, before.oldestAgeMs], [0, 0]);
  const grown = async () => {
    const { results, pending, oldestAgeMs } = await reader.webhooks();
    const { delivered, retried, failed } = before.results;
    const more = [results.delivered - delivered, results.retried - retried, results.failed - failed];
    return { more, pending, oldestAgeMs };
  };
  const id = await submit(['job.ended']);
  await t.store.cancel(id);
  // Nobody calls yet.
  assert.deepEqual(await grown().then(({ more, pending }) => [more, pending]), [[0, 0, 0], 1]);
  startDeliverer([0.1]);
  startDeliverer([0.1]);
  await until('it is given up', async () => {
    await t.sweeper.sweep();
    return (await grown()).more[2] === 1;
  });
  assert.deepEqual(await grown(), { more: [0, 1, 1], pending: 0, oldestAgeMs: 0 });
  receiver.answer = (response) => void response.writeHead(200).end();
  const [delivery] = await t.store.listDeliveries(id);
  await t.store.resend(id, delivery?.id ?? '');
  await until('it is delivered', async () => (await grown()).more[0] === 1);
  assert.deepEqual(await grown(), { more: [1, 1, 1], pending: 0, oldestAgeMs: 0 });
});

test('one that waits for its pause can be sent at once, and 410 ends it', async () => {
  await startHook();
  receiver.answer = (response) => void response.writeHead(503).end();
  startDeliverer([3600]);
  const id = await submit(['job.ended']);
  await t.store.cancel(id);
  await until('it waits', async () => (await deliveryOf(id, 'job.ended'))?.attempts === 1);
  const waiting = await deliveryOf(id, 'job.ended');
  assert.ok(Date.parse(waiting?.nextAttemptAt ?? '') > Date.now() + 3_000_000);
  receiver.answer = (response) => void response.writeHead(410).end();
  // BullMQ has it as waiting a moment after the record.
  await until('it has ended', async () => {
    const delivery = await deliveryOf(id, 'job.ended');
    if (delivery?.state === 'pending') await t.store.resend(id, delivery.id);
    return delivery?.state === 'failed';
  });
});

test('an endpoint that the configuration does not know any more is an error that is told', async () => {
  await startHook();
  startDeliverer();
  const intake = t.store.openIntake(LOCAL_PRINCIPAL);
  await addAll(intake, ['/a']);
  const webhook: JobWebhook = {
    endpoint: null,
    url: 'https://gone.example.org/token/abc',
    events: ['job.ended'],
  };
  const { id } = await intake.commit({ ...newJob(), webhook });
  await t.store.cancel(id);
  await until('it is given up', async () => (await deliveryOf(id, 'job.ended'))?.state === 'failed');
  const delivery = await deliveryOf(id, 'job.ended');
  assert.match(delivery?.lastError ?? '', /does not know this endpoint/);
  // Nobody is shown what may be a token.
  assert.equal(delivery?.to, 'https://gone.example.org');
  assert.doesNotMatch(JSON.stringify([delivery, await t.store.getJob(id)]), /abc/);
});

test('a changed configuration holds from the next call on: a second key signs beside the first', async () => {
  await startHook();
  const deliverer = startDeliverer();
  const added = `whsec_${Buffer.alloc(24, 8).toString('base64')}`;
  deliverer.reconfigure(webhooks([], [added, SECRET]));
  const id = await submit(['job.ended']);
  await t.store.cancel(id);
  await receiver.atLeast(1);
  const { headers, body } = receiver.received[0] ?? assert.fail();
  for (const secret of [added, SECRET]) new Webhook(secret).verify(body, headers as Record<string, string>);
  deliverer.reconfigure(webhooksConfigSchema.parse({ retrySeconds: [] }));
  const unknown = await submit(['job.ended'], ['/c']);
  await t.store.cancel(unknown);
  await until('it is given up', async () => (await deliveryOf(unknown, 'job.ended'))?.state === 'failed');
  assert.equal(receiver.received.length, 1);
});

test('deliveries go with their job', async () => {
  const brief = await t.openStore({ retentionMs: 1 });
  const intake = brief.openIntake(LOCAL_PRINCIPAL);
  await addAll(intake, ['/a']);
  const { id } = await intake.commit({
    ...newJob(),
    webhook: { endpoint: 'hook', url: null, events: ['job.ended'] },
  });
  await t.store.cancel(id);
  await until('it is deleted', async () => {
    await t.sweeper.sweep();
    return (await t.redis.client().exists(t.keys.job(id))) === 0;
  });
  assert.equal(await t.redis.client().exists(t.keys.deliveries(id)), 0);
  assert.equal(await t.redis.client().zcard(t.keys.announced), 0);
  assert.equal(await t.redis.client().zcard(t.keys.undelivered), 0);
});
