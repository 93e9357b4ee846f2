import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { destinationOf, webhooksConfigSchema } from '../../src/model/webhook.js';
import { callWebhook } from '../../src/webhook/call.js';
import { type Lookup, PublicAddresses } from '../../src/webhook/public-addresses.js';
import { type Receiver, startReceiver } from '../support/receiver.js';

/** One call of a webhook, against a real HTTP server and an independent implementation of Standard Webhooks. */

const SECRET = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;
const OLD_SECRET = `whsec_${Buffer.alloc(24, 2).toString('base64')}`;
let receiver: Receiver;
let other: Receiver;

before(async () => {
  [receiver, other] = await Promise.all([startReceiver(), startReceiver()]);
});

after(async () => {
  await Promise.all([receiver?.close(), other?.close()]);
});

interface CallSettings {
  url?: string;
  networks?: string[];
  lookup?: Lookup;
  timeoutMs?: number;
}

function call(id: string, body: string, settings: CallSettings = {}) {
  const {
    url = `${receiver.url}/hook?x=1`,
    networks = ['127.0.0.0/8'],
    lookup,
    timeoutMs = 20_000,
  } = settings;
  const endpoints = [{ name: 'test', url, secrets: [SECRET, OLD_SECRET] }];
  const destination = destinationOf(webhooksConfigSchema.parse({ endpoints }), {
    endpoint: 'test',
    url: null,
    events: ['job.ended'],
  });
  assert.ok(destination);
  return callWebhook(destination, id, body, {
    addresses: new PublicAddresses(networks, lookup),
    timeoutMs,
    userAgent: 'writeback-broker/test',
    signal: new AbortController().signal,
  });
}

test('a call is signed with every key, as the library of Standard Webhooks verifies it', async () => {
  const body = JSON.stringify({ type: 'job.ended', data: { name: 'café' } });
  const result = await call('msg_1', body);
  assert.deepEqual(result, { status: 204, error: null, retryAfterMs: null, gone: false });
  const { path, headers, body: got } = receiver.received.at(-1) ?? assert.fail();
  assert.deepEqual(
    [path, headers['webhook-id'], headers['content-type']],
    ['/hook?x=1', 'msg_1', 'application/json'],
  );
  const fields = headers as Record<string, string>;
  for (const secret of [SECRET, OLD_SECRET]) {
    assert.deepEqual(new Webhook(secret).verify(got, fields), JSON.parse(body));
  }
  assert.throws(() => new Webhook(SECRET).verify(`${got} `, fields));
  assert.throws(() => new Webhook(`whsec_${Buffer.alloc(32, 3).toString('base64')}`).verify(got, fields));
});

test('redirects are not followed', async () => {
  receiver.answer = (response) => void response.writeHead(302, { location: `${other.url}/stolen` }).end();
  const { status, error } = await call('msg_2', '{}');
  assert.equal(status, 302);
  assert.match(error ?? '', /Redirects are not followed/);
  assert.equal(other.received.length, 0);
});

test('only 2xx is success; 410 and Retry-After are understood', async () => {
  receiver.answer = (response) => void response.writeHead(503, { 'retry-after': '120' }).end();
  assert.deepEqual(await call('msg_3', '{}'), {
    status: 503,
    error: 'The answer was 503. Only 2xx counts as delivered.',
    retryAfterMs: 120_000,
    gone: false,
  });
  receiver.answer = (response) => void response.writeHead(410).end();
  assert.equal((await call('msg_3', '{}')).gone, true);
});

test('an answer without end counts by its status, and is not read on', async () => {
  receiver.answer = (response) => {
    response.writeHead(200);
    const part = 'x'.repeat(16_384);
    const more = (): void => {
      while (!response.destroyed && response.write(part));
    };
    response.on('drain', more);
    more();
  };
  assert.equal((await call('msg_4', '{}')).error, null);
});

test('who does not answer in time is given up', async () => {
  receiver.answer = () => {};
  const { status, error } = await call('msg_5', '{}', { timeoutMs: 300 });
  assert.deepEqual([status, error], [null, 'There was no answer within 0.3 s.']);
  const hanging: Lookup = () => new Promise(() => {});
  const late = await call('msg_5', '{}', {
    url: 'http://hooks.example.org/',
    lookup: hanging,
    timeoutMs: 300,
  });
  assert.equal(late.error, 'There was no answer within 0.3 s.');
});

test('addresses that are not public are not called, however they are named', async () => {
  const before = receiver.received.length;
  const port = new URL(receiver.url).port;
  for (const host of [
    '127.0.0.1',
    '127.1',
    '2130706433',
    '0x7f.1',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '0.0.0.0',
  ]) {
    const { status, error } = await call('msg_6', '{}', { url: `http://${host}:${port}/`, networks: [] });
    assert.equal(status, null, host);
    assert.match(error ?? '', /is no public address/, host);
  }
  const { error } = await call('msg_6', '{}', {
    url: `http://hooks.example.org:${port}/`,
    networks: [],
    lookup: async () => [{ address: '127.0.0.1', family: 4 }],
  });
  assert.match(error ?? '', /^hooks.example.org is no public address/);
  assert.equal(receiver.received.length, before);
});

test('the connection goes to the address that was checked: a name is looked up once', async () => {
  receiver.answer = (response) => void response.writeHead(204).end();
  let lookups = 0;
  // A name that means something else at each look: what is checked is what is called.
  const rebinding: Lookup = async () => {
    lookups += 1;
    return lookups === 1
      ? [
          { address: '10.0.0.1', family: 4 },
          { address: '127.0.0.1', family: 4 },
        ]
      : [{ address: '10.0.0.1', family: 4 }];
  };
  const url = `http://rebind.example.org:${new URL(receiver.url).port}/`;
  assert.equal((await call('msg_7', '{}', { url, lookup: rebinding })).error, null);
  assert.equal(lookups, 1);
  assert.equal(receiver.received.at(-1)?.headers.host, `rebind.example.org:${new URL(receiver.url).port}`);
});

test('which addresses are public', () => {
  const none = new PublicAddresses([]);
  for (const address of ['8.8.8.8', '2606:4700::1111', '::ffff:8.8.8.8', '100.128.0.1', '172.32.0.1'])
    assert.equal(none.allows(address), true, address);
  for (const address of [
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '169.254.169.254',
    '127.8.8.8',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:10.0.0.1',
    '::ffff:a00:1',
    '64:ff9b::a00:1',
    '2002:a00:1::',
    '2001:0:a00:1::',
    'fd00::1',
    'fe80::1',
    'fe80::1%eth0',
    'ff02::1',
  ])
    assert.equal(none.allows(address), false, address);
  const site = new PublicAddresses(['10.1.0.0/16', 'fd00::/8']);
  assert.deepEqual(
    ['10.1.2.3', '10.2.0.1', '::ffff:10.1.2.3', 'fd00::1'].map((address) => site.allows(address)),
    [true, false, true, true],
  );
});
