import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { FILE_ERRORS, type FileErrorCode } from '../../src/model/errors.js';
import { pathBytes } from '../../src/model/pathname.js';
import { startRig } from './rig.js';

/** Entries of one list, and what becomes of each: null is success; else its code, and words of its message. */
const ENTRIES: readonly [path: string, code: FileErrorCode | null, message?: RegExp][] = [
  ['run/good', null],
  ['link-inside', null],
  ['run/n\udcff\udcfe', null],
  ['missing', 'ENOENT', /LOOKUP of "missing" in \/: .*looked up \/missing below export \/cache/],
  ['dangling', 'ENOENT', /LOOKUP of "nowhere"/],
  ['run', 'EISDIR', /"\/run" is a directory/],
  ['/', 'EISDIR', /root of the export/],
  ['fifo', 'NOT_REGULAR', /"\/fifo" is a FIFO/],
  ['run/good/below', 'ENOTDIR', /"\/run\/good" is a regular file, not a directory/],
  ['link-out', 'OUTSIDE_EXPORT', /leads to "\/etc\/passwd"/],
  ['link-up', 'OUTSIDE_EXPORT', /above the export/],
  ['loop', 'ELOOP', /number 41/],
  ['run/../run/good', 'INVALID_PATH', /has a "\.\." in it; give the path without it/],
  ['x'.repeat(256), 'ENAMETOOLONG', /has 256 bytes, at most 255/],
  ['./run//good', 'DUPLICATE_PATH', /entry 0 of this list/],
  ['run/good', 'DUPLICATE_PATH', /entry 0 of this list/],
  ['/cache/run/good', 'ENOENT', /is it pathsAre: namespace\?/],
];

test('each entry of a list has its own end, and one that cannot be flushed says what to do', async (t) => {
  const rig = await startRig(t, { files: ['run/good'], sim: { flushLatencyMs: 5 } });
  const at = (name: string) => join(rig.cacheDir, name);
  execFileSync('mkfifo', [at('fifo')]);
  await writeFile(Buffer.concat([Buffer.from(at('run/n')), Buffer.of(0xff, 0xfe)]), 'not UTF-8');
  await symlink('run/good', at('link-inside'));
  await symlink('nowhere', at('dangling'));
  await symlink('/etc/passwd', at('link-out'));
  await symlink('../../../etc/passwd', at('link-up'));
  await symlink('loop', at('loop'));
  rig.startWorker();
  const id = await rig.submit(ENTRIES.map(([path]) => pathBytes(path)));
  const job = await rig.ended(id);
  assert.equal(job.state, 'partial');
  assert.equal(job.progress.filesTotal, ENTRIES.length);
  assert.deepEqual([job.progress.filesSucceeded, job.progress.filesSkipped], [3, 2]);
  const { items } = await rig.test.store.listFiles(id, {}, null, 100);
  ENTRIES.forEach(([path, code, message], index) => {
    const file = items[index];
    assert.equal(file?.path, path);
    assert.equal(file?.lastError?.code ?? null, code, path);
    if (code === null) assert.deepEqual([file?.state, file?.evidence], ['succeeded', 'written-back'], path);
    else {
      assert.match(file?.lastError?.message ?? '', message ?? /never/);
      assert.ok(FILE_ERRORS[code].help.length > 0);
    }
  });
  const groups = await rig.test.store.errorGroups(id);
  const counted = groups.reduce((sum, { count }) => sum + count, 0);
  assert.equal(counted, ENTRIES.filter(([, code]) => code !== null).length);
});
