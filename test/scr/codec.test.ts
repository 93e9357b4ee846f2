import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { pathBytes, pathText } from '../../src/model/pathname.js';
import { CorruptTransferFile, decodeTree, encodeTree } from '../../src/scr/codec.js';
import type { Tree } from '../../src/scr/tree.js';
import { fixtures } from '../support/scr.js';

const golden = readdirSync(fixtures)
  .filter((name) => name.endsWith('.scr'))
  .map((name) => ({
    name,
    bytes: readFileSync(join(fixtures, name)),
    print: readFileSync(join(fixtures, name.replace('.scr', '.txt'))),
  }));

/** As the C implementation prints a tree: two spaces per level, keys as they are. */
function print(tree: Tree | null, depth = 1): Buffer {
  const parts = [...(tree ?? [])].flatMap(([key, below]) => [
    Buffer.from('  '.repeat(depth)),
    pathBytes(key),
    Buffer.from('\n'),
    print(below, depth + 1),
  ]);
  return Buffer.concat(parts);
}

/** Header with the right size and no checksum, so that only the bounds of the tree protect. */
function unchecked(tree: Buffer): Buffer {
  const bytes = Buffer.concat([Buffer.from('951fc3f500010001000000000000000000000000', 'hex'), tree]);
  bytes.writeUInt32BE(bytes.length, 12);
  return bytes;
}

const corrupt = (bytes: Buffer, message?: RegExp): void => {
  assert.throws(
    () => decodeTree(bytes),
    (error: unknown) => {
      assert.ok(error instanceof CorruptTransferFile, String(error));
      if (message) assert.match(error.message, message);
      return true;
    },
  );
};

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

describe('transfer files of the C implementation', () => {
  test('there are some', () => assert.ok(golden.length >= 6));

  for (const { name, bytes, print: printed } of golden) {
    test(`${name} is read as that implementation prints it`, () => {
      assert.deepEqual(print(decodeTree(bytes)).toString('latin1'), printed.toString('latin1'));
    });

    test(`${name} is written again byte for byte`, () => {
      assert.deepEqual(encodeTree(decodeTree(bytes)), bytes);
    });

    test(`every truncation of ${name} is refused`, () => {
      for (let length = 0; length < bytes.length; length++) corrupt(bytes.subarray(0, length));
      corrupt(Buffer.concat([bytes, Buffer.of(0)]));
    });

    test(`every flipped bit of ${name} is refused`, () => {
      for (let bit = 0; bit < bytes.length * 8; bit++) corrupt(flipped(bytes, bit));
    });

    test(`without its checksum, ${name} with a flipped bit is read within its bounds or refused`, () => {
      const bare = unchecked(bytes.subarray(20, -4));
      assert.deepEqual(decodeTree(bare), decodeTree(bytes));
      for (let bit = 0; bit < bare.length * 8; bit++) {
        const damaged = flipped(bare, bit);
        let tree: Tree;
        try {
          tree = decodeTree(damaged);
        } catch (error) {
          assert.ok(error instanceof CorruptTransferFile, String(error));
          continue;
        }
        // What was read is what stands there: it must come out again.
        assert.deepEqual(encodeTree(tree).subarray(20, -4), damaged.subarray(20));
      }
      for (let length = 0; length < bare.length; length++) corrupt(bare.subarray(0, length));
    });
  }
});

function flipped(bytes: Buffer, bit: number): Buffer {
  const damaged = Buffer.from(bytes);
  damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
  return damaged;
}

describe('what no transfer file may be', () => {
  const key = Buffer.from('a\0');
  const empty = Buffer.concat([key, uint32(0)]);

  test('a key that stands twice is refused', () => {
    corrupt(unchecked(Buffer.concat([uint32(2), empty, empty])), /twice/);
  });

  test('more elements than the rest can hold are refused before memory is taken for them', () => {
    corrupt(unchecked(Buffer.concat([uint32(0xffffffff), empty])), /announces 4294967295/);
  });

  test('a tree that is nested too deeply is refused', () => {
    const levels = (count: number): Buffer =>
      Buffer.concat([...Array.from({ length: count }, () => [uint32(1), key]).flat(), uint32(0)]);
    assert.equal(decodeTree(unchecked(levels(64))).size, 1);
    corrupt(unchecked(levels(65)), /levels deep/);
    corrupt(unchecked(levels(100_000)), /levels deep/);
  });

  test('a key without an end is refused', () =>
    corrupt(unchecked(Buffer.from('\0\0\0\x01aaaaaa')), /no end/));

  test('bytes behind the tree are refused', () => {
    corrupt(unchecked(Buffer.concat([uint32(1), empty, Buffer.of(0)])), /ends at byte/);
  });

  test('flags, types and versions that are not known are refused', () => {
    for (const [at, value] of [
      [5, 2],
      [7, 2],
      [19, 2],
    ] as const) {
      const bytes = unchecked(uint32(0));
      bytes[at] = value;
      corrupt(bytes);
    }
  });

  test('a checksum that does not fit behind the header is refused', () => {
    const bytes = unchecked(Buffer.alloc(0));
    bytes[19] = 1;
    corrupt(bytes);
    assert.equal(bytes.length, 20);
  });

  test('a key with a NUL is not written', () => {
    assert.throws(() => encodeTree(new Map([['a\0b', null]])), RangeError);
  });

  test('random bytes never do anything but be refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (tail) => {
        try {
          decodeTree(unchecked(Buffer.from(tail)));
        } catch (error) {
          assert.ok(error instanceof CorruptTransferFile, String(error));
        }
      }),
      { numRuns: 3000 },
    );
  });
});

test('any tree of any bytes comes back as it was written, with a checksum that zlib confirms', () => {
  const keyBytes = fc.uint8Array({ maxLength: 40 }).map((bytes) => pathText(bytes.map((byte) => byte || 1)));
  const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
    tree: fc
      .uniqueArray(fc.tuple(keyBytes, fc.option(tie('tree'), { depthSize: 'small' })), {
        selector: ([key]) => key,
        maxLength: 6,
      })
      .map(
        (elements): Tree =>
          new Map(elements.map(([key, below]) => [key, below && below.size > 0 ? below : null])),
      ),
  }));
  fc.assert(
    fc.property(tree, (written) => {
      const bytes = encodeTree(written);
      assert.deepEqual(decodeTree(bytes), written);
      assert.equal(bytes.readUInt32BE(bytes.length - 4), crc32(bytes.subarray(0, -4)));
    }),
    { numRuns: 300 },
  );
});
