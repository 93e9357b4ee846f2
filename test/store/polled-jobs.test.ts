import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Job } from '../../src/model/job.js';
import type { JobState } from '../../src/model/words.js';
import { PolledJobs } from '../../src/store/polled-jobs.js';
import type { Revision } from '../../src/store/types.js';

/** A store whose clock goes on when the test says so, and whose job has been read as often as its revision tells. */
function store() {
  const held: { release: () => void }[] = [];
  const at = {
    now: 1000,
    reads: 0,
    state: 'running' as JobState,
    failure: null as Error | null,
    isSlow: false,
    held,
  };
  const jobs = new PolledJobs(
    async () => {
      const found = { state: at.state, revision: String(++at.reads) } as Job & Revision;
      if (at.isSlow) await new Promise<void>((resolve) => held.push({ release: resolve }));
      if (at.failure !== null) throw at.failure;
      return found;
    },
    () => at.now,
  );
  return { at, jobs };
}

/** Asks as often as makes a job one that is asked for often. */
async function askOften(jobs: PolledJobs): Promise<void> {
  for (let i = 0; i < 6; i++) await jobs.poll('job');
}

test('who asks now and then is told what is now', async () => {
  const { at, jobs } = store();
  for (let read = 1; read <= 10; read++) {
    assert.equal((await jobs.poll('job')).revision, String(read));
    at.now += 500;
  }
});

test('a job that is asked for often is told from memory, read again beside that, and never older than 250 ms', async () => {
  const { at, jobs } = store();
  await askOften(jobs);
  const reads = at.reads;
  for (let i = 0; i < 100; i++) assert.equal((await jobs.poll('job')).revision, String(reads));
  assert.equal(at.reads, reads);

  at.now += 100;
  assert.equal((await jobs.poll('job')).revision, String(reads), 'told at once …');
  while (at.reads === reads) await delay(1);
  await delay(1);
  assert.equal((await jobs.poll('job')).revision, String(reads + 1), '… and read for the next');

  at.now += 250;
  assert.equal((await jobs.poll('job')).revision, String(reads + 2), 'too old: read first');
});

test('a change of the state is told at once, whatever was read before it', async () => {
  const { at, jobs } = store();
  await askOften(jobs);
  at.state = 'canceling';
  assert.equal((await jobs.poll('job')).state, 'running');
  jobs.told('job job canceling');
  at.now += 1;
  assert.equal((await jobs.poll('job')).state, 'canceling');

  // A read that is under way when the change is told may not know of it.
  at.isSlow = true;
  at.now += 100;
  await jobs.poll('job');
  while (at.held.length === 0) await delay(1);
  at.state = 'canceled';
  jobs.told('job job canceled');
  at.isSlow = false;
  for (const { release } of at.held) release();
  await delay(1);
  at.now += 1;
  assert.equal((await jobs.poll('job')).state, 'canceled');
});

test('progress throws nothing away; a cache that was paused, or a change of our own, does', async () => {
  const { at, jobs } = store();
  await askOften(jobs);
  const reads = at.reads;
  jobs.told('job job running');
  jobs.told('job other succeeded');
  assert.equal((await jobs.poll('job')).revision, String(reads));
  jobs.told('cache north');
  at.now += 1;
  assert.equal((await jobs.poll('job')).revision, String(reads + 1));
  jobs.forget('job');
  jobs.forget('other');
  at.now += 1;
  assert.equal((await jobs.poll('job')).revision, String(reads + 2));
  jobs.forgetAll();
  assert.equal((await jobs.poll('job')).revision, String(reads + 3));
});

test('whoever asks after a read has failed is told so', async () => {
  const { at, jobs } = store();
  await askOften(jobs);
  at.failure = new Error('away');
  at.now += 100;
  const reads = at.reads;
  assert.equal((await jobs.poll('job')).revision, String(reads));
  while (at.reads === reads) await delay(1);
  await delay(1);
  await assert.rejects(jobs.poll('job'), /away/);
});
