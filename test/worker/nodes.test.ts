import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServiceMetrics } from '../../src/metrics/service-metrics.js';
import type { Node } from '../../src/model/node.js';
import { LOCAL_PRINCIPAL } from '../../src/model/principal.js';
import { openGaugeReader } from '../../src/store/gauges.js';
import { nodeQueueName } from '../../src/store/keys.js';
import type { Page } from '../../src/store/types.js';
import { parseExposition, sampleValue } from '../support/exposition.js';
import { until } from '../support/until.js';
import { MIB, NODE, newTransfer, sha256, startTransferRig, type TransferRig } from './transfer-rig.js';

const SLOW = { limits: { bytesPerSecond: 4 * MIB, cpuPercent: null } };

async function nodeNames({ test: { store } }: TransferRig): Promise<string[]> {
  return (await store.listNodes(() => true, null, 100)).items.map(({ name }) => name);
}

async function bytesDone(rig: TransferRig, id: string): Promise<number> {
  return (await rig.job(id)).progress.bytesDone;
}

test('a node is known from its agent on, and forgotten when neither agent nor jobs are left of it', async (t) => {
  const rig = await startTransferRig(t);
  const { store } = rig.test;
  assert.deepEqual(await nodeNames(rig), []);
  await assert.rejects(store.getNode(NODE), { code: 'NODE_NOT_FOUND' });
  await assert.rejects(store.pauseNode(NODE, 'why'), { code: 'NODE_NOT_FOUND' });
  const agent = rig.startAgent();
  await until('it is known', async () => (await nodeNames(rig)).length === 1);
  const node = await store.getNode(NODE);
  assert.deepEqual([node.name, node.connected, node.jobsActive], [NODE, true, 0]);
  assert.ok(Date.now() - Date.parse(node.seenAt ?? '') < 60_000);
  const forgetful = rig.test.openSweeper({ forgetNodesMs: 0 });
  // The rig's own sweeper must not keep the lock.
  await rig.test.sweeper.close();
  await until('it sweeps', () =>
    forgetful.sweep().then(
      () => true,
      // It is not connected yet.
      () => false,
    ),
  );
  assert.equal((await store.getNode(NODE)).connected, true);
  await agent.close();
  assert.equal((await store.getNode(NODE)).connected, false);
  await store.pauseNode(NODE, 'kept');
  await forgetful.sweep();
  assert.equal((await store.getNode(NODE)).pausedReason, 'kept');
  await store.resumeNode(NODE);
  await forgetful.sweep();
  assert.deepEqual(await nodeNames(rig), []);
  assert.deepEqual(await rig.test.redis.client().keys(`*${nodeQueueName(NODE)}*`), []);
});

test('nodes come by name and page by page, each once, and only those that one may see', async (t) => {
  const { store, redis } = (await startTransferRig(t)).test;
  const names = ['n10', 'N2', 'n1', 'n2', 'n1-b', 'hidden'];
  for (const node of names) {
    const intake = store.openIntake(LOCAL_PRINCIPAL);
    await intake.add({ path: Buffer.from('/a'), destination: Buffer.from('/b'), size: null });
    await intake.commit(newTransfer({}, { node }));
  }
  const shows = (name: string): boolean => name !== 'hidden';
  for (const limit of [1, 2, 5, 100]) {
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: Page<Node> = await store.listNodes(shows, cursor, limit);
      assert.ok(page.items.length <= limit && (page.nextCursor === null || page.items.length === limit));
      seen.push(...page.items.map(({ name }) => name));
      cursor = page.nextCursor;
    } while (cursor !== null);
    assert.deepEqual(seen, ['N2', 'n1', 'n1-b', 'n10', 'n2']);
  }
  // A page goes on behind its last node, also when that is forgotten meanwhile.
  const { nextCursor } = await store.listNodes(shows, null, 2);
  await redis.client().hdel('{test}:queues', nodeQueueName('n1'));
  const after = await store.listNodes(shows, nextCursor, 100);
  assert.deepEqual(
    after.items.map(({ name }) => name),
    ['n1-b', 'n10', 'n2'],
  );
  await assert.rejects(store.listNodes(shows, 'bm8gbm9kZQ', 1), { code: 'VALIDATION' });
});

test('a node that is paused stops in mid-file, says so in its jobs, and goes on from there when it is resumed', async (t) => {
  const rig = await startTransferRig(t);
  const { store } = rig.test;
  rig.startAgent();
  await rig.make('f', 12 * MIB);
  const id = await rig.submit(['f'], SLOW);
  await until('bytes are moving', async () => (await bytesDone(rig, id)) > 0);
  await store.pauseNode(NODE, 'upgrade, ask ops');
  await until('it is given back', async () => (await rig.job(id)).progress.filesActive === 0);
  const before = await bytesDone(rig, id);
  assert.ok(before > 0 && before < 12 * MIB);
  const paused = await rig.job(id);
  assert.deepEqual(
    [paused.paused, paused.pausedReason, paused.statusDetail],
    [true, 'upgrade, ask ops', 'Node n1 is paused: upgrade, ask ops'],
  );
  const later = await rig.submit(['f']);
  const node = await store.getNode(NODE);
  assert.deepEqual([node.jobsActive, node.filesQueued, node.filesActive], [2, 2, 0]);
  assert.ok(node.bytesQueued <= 12 * MIB - before);
  await store.cancel(later);
  await store.resumeNode(NODE);
  await store.setLimits(id, { bytesPerSecond: null });
  const job = await rig.ended(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(await sha256(join(rig.source, 'f')), await sha256(join(rig.destination, 'f')));
  assert.deepEqual(await rig.destinationFiles(), ['f']);
});

test('metrics of a node: what waits, what moved, how it ended; what was only named is measured as one', async (t) => {
  const rig = await startTransferRig(t);
  const { redis } = rig.test;
  const reader = openGaugeReader({
    redis: { url: redis.url, cluster: redis.cluster },
    keyPrefix: 'test',
    caches: [],
  });
  t.after(() => reader.close());
  const metrics = new ServiceMetrics({
    version: '1',
    role: 'api',
    reader,
    caches: true,
    work: false,
    process: false,
  });
  const value = async (name: string, labels: Record<string, string>) =>
    sampleValue(parseExposition(await metrics.text()), `writeback_node_${name}`, labels);
  for (const node of ['made-up-1', 'made-up-2']) {
    const intake = rig.test.store.openIntake(LOCAL_PRINCIPAL);
    await intake.add({ path: Buffer.from('/a'), destination: Buffer.from('/b'), size: 1000 });
    await intake.commit(newTransfer({}, { node }));
  }
  const unseen = { node: 'never seen' };
  assert.equal(await value('files_pending', unseen), 2);
  assert.equal(await value('bytes_pending', unseen), 2000);
  assert.ok(((await value('queue_age_seconds', unseen)) ?? 0) > 0);

  const agent = rig.startAgent();
  await rig.make('a', 3 * MIB);
  await rig.make('b', 1000);
  const id = await rig.submit(['a', 'b', 'missing'], {
    limits: { bytesPerSecond: 2 * MIB, cpuPercent: null },
  });
  await until('bytes are moving', async () => (await bytesDone(rig, id)) > 100_000);
  const seen = { node: NODE };
  assert.equal(await value('agent_connected', seen), 1);
  assert.equal(await value('jobs_active', seen), 1);
  const pending = (await value('bytes_pending', seen)) ?? 0;
  assert.ok(pending > 0 && pending < 3 * MIB + 1000, `${pending}`);
  await rig.ended(id);
  assert.equal(await value('bytes_pending', seen), 0);
  assert.equal(await value('bytes_total', seen), 3 * MIB + 1000);
  assert.equal(await value('files_total', { ...seen, outcome: 'copied' }), 2);
  assert.equal(await value('files_total', { ...seen, outcome: 'failed' }), 1);
  assert.equal(await value('jobs_total', { ...seen, state: 'partial' }), 1);
  const canceled = await rig.submit(['a', 'b'], {
    limits: { bytesPerSecond: 1000, cpuPercent: null },
    verify: true,
  });
  await rig.test.store.cancel(canceled);
  await rig.ended(canceled);
  assert.equal(await value('bytes_pending', seen), 0);
  await agent.close();
  assert.equal(await value('agent_connected', seen), 0);
});
