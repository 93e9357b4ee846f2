import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { pump } from '../../src/copy/pump.js';
import { Throttle } from '../../src/copy/throttle.js';

for (const crc of [null, 0]) {
  test(`a range beyond 4 GiB is pumped ${crc === null ? 'by the kernel' : 'through memory'}, and nothing else`, async () => {
    const folder = await fs.mkdtemp(join(tmpdir(), 'writeback-pump-'));
    const from = 5 * 1024 ** 3;
    const content = randomBytes(300_001);
    const source = await fs.open(join(folder, 'source'), 'w+');
    const destination = await fs.open(join(folder, 'destination'), 'w+');
    try {
      await source.write(content, 0, content.length, from);
      await source.write('not this', from + content.length);
      const heard: number[] = [];
      const sealedAt: (number | undefined)[] = [];
      const pumped = await pump(
        source,
        destination,
        { from, to: from + content.length, crc, seal: async () => void sealedAt.push(heard.at(-1)) },
        65_536,
        new Throttle(),
        new AbortController().signal,
        (position) => heard.push(position),
      );
      assert.deepEqual(pumped, {
        durable: from + content.length,
        crc: crc === null ? null : crc32(content),
      });
      assert.equal(heard.at(-1), from + content.length);
      // Before the last fsync was heard of.
      assert.deepEqual(sealedAt, heard.length > 1 ? [heard.at(-2)] : [undefined]);
      const copied = Buffer.alloc(content.length);
      await destination.read(copied, 0, copied.length, from);
      assert.deepEqual(copied, content);
      assert.equal((await destination.stat()).size, from + content.length);
    } finally {
      await source.close();
      await destination.close();
      await fs.rm(folder, { recursive: true });
    }
  });
}
