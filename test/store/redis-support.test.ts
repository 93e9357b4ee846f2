import assert from 'node:assert/strict';
import { access } from 'node:fs/promises';
import { test } from 'node:test';
import { startRedis } from '../support/redis.js';

test('a durable test Redis keeps its data over kill -9 and leaves nothing behind', async () => {
  const redis = await startRedis({ durable: true });
  await redis.client().set('key', 'value');
  await redis.kill();
  await redis.restart();
  assert.equal(await redis.client().get('key'), 'value');
  await redis.stop();
  assert.throws(() => process.kill(redis.pid, 0));
  await assert.rejects(access(redis.dir));
});

test('a frozen test Redis answers again when thawed', async () => {
  const redis = await startRedis();
  const client = redis.client();
  await client.ping();
  redis.freeze();
  const reply = client.get('key');
  redis.thaw();
  assert.equal(await reply, null);
  await redis.stop();
});

test('a test cluster serves every slot', async () => {
  const redis = await startRedis({ cluster: true });
  const client = redis.client();
  await client.set('a', '1');
  await client.set('b', '2');
  assert.equal(await client.dbsize(), 2);
  await redis.stop();
});
