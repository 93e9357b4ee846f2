import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { loggedError } from '../../src/serve/logged-error.js';
import { withoutPassword } from '../../src/store/startup.js';
import { startRedis } from '../support/redis.js';

/** Logs an error as the service does. */
function logged(err: unknown): { err: Record<string, unknown>; text: string } {
  let text = '';
  const log = pino({ serializers: { err: loggedError } }, { write: (line: string) => (text += line) });
  log.error({ err }, 'it failed');
  return { err: JSON.parse(text).err, text };
}

test('the password of Redis is in no line of the log, also when Redis refuses it', async (t) => {
  const server = await startRedis();
  t.after(() => server.stop());
  await server.client().config('SET', 'requirepass', 'right-password');
  const path = new URL(server.url).pathname;
  const client = new Redis({
    path,
    password: 's3cret-password',
    lazyConnect: true,
    retryStrategy: () => null,
  });
  const refused = once(client, 'error');
  await client.connect().catch(() => {});
  const [error] = (await refused) as [Error & { command?: { args: unknown } }];
  client.disconnect();
  const { err, text } = logged(error);
  assert.match(String(err.message), /WRONGPASS/);
  assert.doesNotMatch(text, /s3cret/);
  // What this is for: the library tells what it sent.
  assert.match(JSON.stringify(error.command ?? {}), /s3cret/);
});

test('an error is logged with all that helps, and with nothing else that it carries', () => {
  const inner = Object.assign(new Error('connect ECONNREFUSED 10.0.0.1:6379'), {
    code: 'ECONNREFUSED',
    address: '10.0.0.1',
    port: 6379,
    args: ['s3cret'],
  });
  const error = new Error('It failed.', { cause: new AggregateError([inner], 'none worked') });
  Object.assign(error, { input: 'redis://:s3cret@h', command: { name: 'hello', args: ['s3cret'] } });
  const { err, text } = logged(error);
  assert.doesNotMatch(text, /s3cret/);
  assert.deepEqual([err.type, err.message, err.command], ['Error', 'It failed.', 'hello']);
  assert.match(String(err.stack), /logged-error\.test/);
  const { errors } = err.cause as { errors: Record<string, unknown>[] };
  assert.deepEqual(
    [errors[0]?.code, errors[0]?.address, errors[0]?.port],
    ['ECONNREFUSED', '10.0.0.1', 6379],
  );
  const old = new Error('ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `s3cret`, ');
  assert.doesNotMatch(logged(old).text, /s3cret/);
  assert.equal(logged('a text').err, 'a text');
});

test('a URL of Redis is told without its password, however that is written', () => {
  for (const [url, shown] of [
    ['redis://cache:6379/1', 'redis://cache:6379/1'],
    ['redis://:s3cret@cache', 'redis://:…@cache'],
    ['redis://user:s3cr@s3cret@cache:6379', 'redis://user:…@cache:6379'],
    ['redis://:s3/cret@cache', 'redis://:…@cache'],
    ['redis://:s3,cret@one,rediss://:s3cret@two', 'redis://:…@one,rediss://:…@two'],
    ['redis://cache?password=s3cret', 'redis://cache?…'],
    ['unix://:s3cret@/run/redis.sock', 'unix://:…@/run/redis.sock'],
  ] as const) {
    assert.equal(withoutPassword(url), shown);
  }
});
