import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { startGanesha } from '../support/ganesha.js';
import { until } from '../support/until.js';
import { cacheAt, ended, getJob, post, startService, testFolder } from './processes.js';

const FILES = 2000;

/** A job on a real NFS server that is killed in the middle of it and comes back after `downMs`. */
export async function restartUnderJob(t: TestContext, downMs: number): Promise<void> {
  const exported = await testFolder(t);
  const names = Array.from({ length: FILES }, (_, i) => `f${i}`);
  for (const name of names) await writeFile(join(exported, name), name);
  const ganesha = await startGanesha({ exports: [{ path: exported }] });
  if ('skip' in ganesha) return t.skip(ganesha.skip);
  t.after(() => ganesha.stop());
  const service = await startService(t, {
    worker: { holdAfterSeconds: 2 },
    caches: [
      cacheAt(
        { mount: ganesha.mountPort, nfs: ganesha.nfsPort },
        // Slow enough that the outage comes in the middle.
        { dialect: 'rfc1813', limits: { filesPerSecond: 400 } },
      ),
    ],
  });
  const { id } = await post(service.url, { cache: 'sim', export: exported }, names);
  await until('some files are flushed', async () => {
    return (await getJob(service.url, id)).progress.filesSucceeded >= 100;
  });
  await ganesha.restart(downMs);
  const job = await ended(service.url, id, 120_000);
  assert.equal(job.state, 'succeeded', JSON.stringify(job));
  assert.equal(job.progress.filesSucceeded, FILES);
  assert.equal(job.progress.filesFailed, 0);
  assert.ok(job.warnings.some(({ code }) => code === 'SERVER_RESTARTED'));
  service.kill('SIGTERM');
  assert.equal(await service.ended, 0);
}
