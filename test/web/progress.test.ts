import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JOB_EXAMPLE, TRANSFER_JOB_EXAMPLE } from '../../src/api/examples.js';
import type { Job, Progress } from '../../src/model/job.js';
import { bytesProgressText, filesProgressText, percentDone, sharesOf } from '../../src/web/progress.js';

const NOTHING: Progress = {
  ...JOB_EXAMPLE.progress,
  filesTotal: 1000,
  filesTotalFinal: true,
  filesPending: 1000,
  filesActive: 0,
  filesSucceeded: 0,
  filesAlreadyClean: 0,
  filesFailed: 0,
  filesSkipped: 0,
  filesCanceled: 0,
  filesExpired: 0,
  bytesDone: 0,
};

function job(progress: Partial<Progress>, kind: Job = JOB_EXAMPLE): Job {
  return { ...kind, progress: { ...NOTHING, ...progress } };
}

test('a bar is full when every file has ended, and not before', () => {
  assert.equal(percentDone(job({})), 0);
  assert.equal(percentDone(job({ filesSucceeded: 998, filesFailed: 1 })), 99);
  assert.equal(percentDone(job({ filesSucceeded: 998, filesFailed: 1, filesSkipped: 1 })), 100);
});

test('while directories are expanded nobody knows how far it is', () => {
  const expanding = job({ filesTotalFinal: false, filesSucceeded: 1000 });
  assert.equal(percentDone(expanding), null);
  assert.equal(filesProgressText(expanding), '1,000 of 1,000 files known so far');
  assert.equal(percentDone(job({ filesTotal: 0 })), null);
});

test('a transfer moves by its bytes when they are known, and by its files until then', () => {
  const moving = { filesTotal: 2, filesSucceeded: 1, bytesTotal: 1000, bytesDone: 250 };
  assert.equal(percentDone(job(moving, TRANSFER_JOB_EXAMPLE)), 25);
  assert.deepEqual(sharesOf(job(moving, TRANSFER_JOB_EXAMPLE)), [{ name: 'moved', part: 0.25 }]);
  assert.equal(percentDone(job({ ...moving, bytesTotal: null }, TRANSFER_JOB_EXAMPLE)), 50);
  assert.equal(bytesProgressText({ ...NOTHING, bytesTotal: 2048, bytesDone: 512 }), '512 B of 2.0 KiB');
  assert.equal(bytesProgressText({ ...NOTHING, bytesTotal: null, bytesDone: 512 }), '512 B');
});

test('what a bar shows never exceeds it', () => {
  const shares = sharesOf(
    job(
      { filesTotal: 2, filesFailed: 1, filesSucceeded: 1, bytesTotal: 10, bytesDone: 99 },
      TRANSFER_JOB_EXAMPLE,
    ),
  );
  assert.equal(
    shares.reduce((sum, { part }) => sum + part, 0),
    1,
  );
});
