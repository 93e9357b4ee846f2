import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadLibc } from '../../src/copy/libc.js';

const kernel = await loadLibc();
const skip = kernel === null && 'this platform has no C library that is used';

test('on Linux the kernel copies', { skip: process.platform !== 'linux' }, () => assert.ok(kernel));

test('the kernel moves a range beyond 4 GiB, says when the source ends, and when it cannot', {
  skip,
}, async () => {
  assert.ok(kernel);
  const folder = await fs.mkdtemp(join(tmpdir(), 'writeback-kernel-'));
  const position = 5 * 1024 ** 3;
  const content = randomBytes(100_000);
  const source = await fs.open(join(folder, 'source'), 'w+');
  const destination = await fs.open(join(folder, 'destination'), 'w+');
  try {
    await source.write(content, 0, content.length, position);
    assert.equal(kernel.seek(destination.fd, position), true);
    let moved = 0;
    while (moved < content.length) {
      const bytes = await kernel.move(destination.fd, source.fd, position + moved, content.length - moved);
      assert.ok(bytes > 0);
      moved += bytes;
    }
    const copied = Buffer.alloc(content.length);
    await destination.read(copied, 0, copied.length, position);
    assert.deepEqual(copied, content);
    assert.equal((await destination.stat()).size, position + content.length);
    assert.equal(await kernel.move(destination.fd, source.fd, position + moved, 10), 0);
    assert.equal(await kernel.move(-1, source.fd, 0, 10), -1);
    assert.equal(kernel.seek(-1, 0), false);
  } finally {
    await source.close();
    await destination.close();
    await fs.rm(folder, { recursive: true });
  }
});

test('times are set to the nanosecond, also those before 1970', { skip }, async () => {
  assert.ok(kernel);
  const folder = await fs.mkdtemp(join(tmpdir(), 'writeback-times-'));
  const file = await fs.open(join(folder, 'file'), 'w');
  try {
    for (const mtimeNs of [1_700_000_000_123_456_789n, -1_500_000_001n, 0n]) {
      assert.equal(kernel.setTimes(file.fd, 1n, mtimeNs), true);
      assert.equal((await file.stat({ bigint: true })).mtimeNs, mtimeNs);
    }
    assert.equal(kernel.setTimes(-1, 1n, 1n), false);
  } finally {
    await file.close();
    await fs.rm(folder, { recursive: true });
  }
});
