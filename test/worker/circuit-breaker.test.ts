import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NFS3ERR_IO } from '../../src/nfs/nfs3.js';
import { until } from '../support/until.js';
import { names, numbered, startRig } from './rig.js';

const BAD_FILER = { kind: 'error', status: NFS3ERR_IO, procedures: ['COMMIT'] } as const;

test('a core filer that goes bad stops the queue before files have failed, and goes on when it is good again', async (t) => {
  const rig = await startRig(t, { synthetic: 1200, sim: { flushLatencyMs: 20 }, limits: { inFlight: 64 } });
  const patient = { holdAfterMs: 20_000 };
  rig.startWorker(patient);
  rig.startWorker(patient);
  const { store } = rig.test;
  assert.deepEqual((await store.getCache('sim')).circuit, {
    state: 'closed',
    code: null,
    reason: null,
    since: null,
    retryAt: null,
    tries: 0,
  });
  const id = await rig.submit(numbered(1200));
  await until('some are flushed', async () => (await store.getJob(id)).progress.filesSucceeded > 50);
  rig.sim.setFaults([BAD_FILER]);
  await until('the circuit is open', async () => (await store.getCache('sim')).circuit.state === 'open');
  const { circuit, health } = await store.getCache('sim');
  assert.equal(circuit.code, 'EIO');
  assert.match(circuit.reason ?? '', /storage behind the cache/);
  assert.equal(health, 'up', 'the cache itself answers');
  await until('nothing is in hand', async () => (await store.getJob(id)).progress.filesActive === 0);
  const held = await store.getJob(id);
  assert.match(
    held.statusDetail ?? '',
    /^Cache sim has written nothing back since .*Z \(.*\); its queue holds and is/,
  );
  // On a busy machine there was a trial or two by now; each has four slots, whose files may fail.
  const { tries } = (await store.getCache('sim')).circuit;
  assert.ok(held.progress.filesFailed <= 4 * tries, `${held.progress.filesFailed} failed, try ${tries}`);

  rig.sim.setFaults([]);
  const { progress } = await rig.ended(id);
  assert.equal(progress.filesSucceeded + progress.filesFailed, 1200);
  assert.ok(progress.filesFailed <= 40, `${progress.filesFailed} failed`);
  await until('the circuit is closed', async () => (await store.getCache('sim')).circuit.state === 'closed');
});

test('while the filer stays bad a few files at a time find out, and only these fail', async (t) => {
  const rig = await startRig(t, { synthetic: 600, sim: { faults: [BAD_FILER] } });
  rig.startWorker({ holdAfterMs: 20_000 });
  const { store } = rig.test;
  const id = await rig.submit(numbered(600));
  await until('the trial has failed', async () => (await store.getCache('sim')).circuit.tries >= 2);
  // What became of a file is in the store a moment after the breaker has seen it.
  await until('its file is told', async () => (await store.getJob(id)).progress.filesFailed >= 1);
  const { progress } = await store.getJob(id);
  assert.ok(progress.filesFailed <= 40, `${progress.filesFailed} failed`);
  rig.sim.setFaults([]);
  assert.equal((await rig.ended(id)).state, 'partial');
});

test('bad files alone, or among good ones, do not open it', async (t) => {
  const [bad, good] = [names(3, 'bad'), names(200, 'good')];
  const rig = await startRig(t, {
    files: [...bad, ...good],
    sim: { faults: [{ ...BAD_FILER, path: '/bad/**' }] },
  });
  rig.startWorker();
  const { store } = rig.test;
  const failed = await rig.ended(await rig.submit(bad));
  assert.equal(failed.progress.filesFailed, 3);
  const partial = await rig.ended(await rig.submit([...bad, ...good]));
  assert.equal(partial.progress.filesSucceeded, 200);
  assert.equal((await store.getCache('sim')).circuit.tries, 0);
});
