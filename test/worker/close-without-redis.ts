import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { numbered, startRig } from './rig.js';
import { startTransferRig } from './transfer-rig.js';

/** Run by closing.test.ts as a process of its own: whatever is left behind keeps it alive. */
describe('closed while Redis is away', { concurrency: true }, () => {
  after(() => void process.stdout.write('closed\n'));

  test('a worker', async (t) => {
    const rig = await startRig(t, { synthetic: 50, callTimeoutSeconds: 600 });
    const worker = rig.startWorker();
    await rig.ended(await rig.submit(numbered(50)));
    await rig.test.redis.kill();
    assert.equal(await worker.close(0), false);
  });

  test('an agent', async (t) => {
    const rig = await startTransferRig(t);
    const agent = rig.startAgent();
    await rig.make('file', 1000);
    await rig.ended(await rig.submit(['file']));
    await rig.test.redis.kill();
    assert.equal(await agent.close(), false);
  });
});
