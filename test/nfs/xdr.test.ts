import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { uint64Text, XdrError, XdrReader, XdrWriter } from '../../src/nfs/xdr.js';

/** One XDR item, and the bytes that a second, naive encoder gives for it. */
type Item =
  | { kind: 'uint32'; value: number }
  | { kind: 'bool'; value: boolean }
  | { kind: 'uint64'; value: bigint }
  | { kind: 'opaque'; value: Uint8Array }
  | { kind: 'fixed'; value: Uint8Array };

function naive(item: Item): number[] {
  const word = (value: number) => [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256);
  const padded = (bytes: Uint8Array) => {
    const list = [...bytes];
    while (list.length % 4 !== 0) list.push(0);
    return list;
  };
  switch (item.kind) {
    case 'uint32':
      return word(item.value);
    case 'bool':
      return word(item.value ? 1 : 0);
    case 'uint64':
      return [...word(Number(item.value / 2n ** 32n)), ...word(Number(item.value % 2n ** 32n))];
    case 'opaque':
      return [...word(item.value.length), ...padded(item.value)];
    case 'fixed':
      return padded(item.value);
  }
}

function write(writer: XdrWriter, item: Item): void {
  if (item.kind === 'uint32') writer.uint32(item.value);
  else if (item.kind === 'bool') writer.bool(item.value);
  else if (item.kind === 'uint64')
    writer.uint64(Number(item.value >> 32n), Number(item.value & 0xffff_ffffn));
  else if (item.kind === 'opaque') writer.opaque(item.value);
  else writer.fixedOpaque(item.value);
}

function read(reader: XdrReader, item: Item): unknown {
  if (item.kind === 'uint32') return reader.uint32();
  if (item.kind === 'bool') return reader.bool();
  if (item.kind === 'uint64') return BigInt(reader.uint64Text());
  if (item.kind === 'opaque') return new Uint8Array(reader.opaque(1000));
  return new Uint8Array(reader.fixedOpaque(item.value.length));
}

const bytes = fc.uint8Array({ maxLength: 200 });
const items = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('uint32' as const), value: fc.nat(0xffff_ffff) }),
    fc.record({ kind: fc.constant('bool' as const), value: fc.boolean() }),
    fc.record({ kind: fc.constant('uint64' as const), value: fc.bigInt(0n, 2n ** 64n - 1n) }),
    fc.record({ kind: fc.constant('opaque' as const), value: bytes }),
    fc.record({ kind: fc.constant('fixed' as const), value: bytes }),
  ),
  { maxLength: 20 },
);

describe('XDR', () => {
  it('writes what a naive encoder writes, and reads it back', () => {
    fc.assert(
      fc.property(items, (list) => {
        const writer = new XdrWriter(1);
        for (const item of list) write(writer, item);
        assert.deepEqual([...writer.take()], list.flatMap(naive));
        const reader = new XdrReader(writer.take());
        for (const item of list) assert.deepEqual(read(reader, item), item.value);
        reader.finish();
      }),
    );
  });

  it('refuses to read beyond its end, wherever it lies in a larger buffer', () => {
    fc.assert(
      fc.property(items, fc.nat(), (list, seed) => {
        const whole = Buffer.from(list.flatMap(naive));
        if (whole.length === 0) return;
        const cut = seed % whole.length;
        const surrounded = Buffer.concat([Buffer.alloc(4, 0xff), whole, Buffer.alloc(8, 0xff)]);
        const reader = new XdrReader(surrounded, 4, 4 + cut);
        assert.throws(() => {
          for (const item of list) read(reader, item);
          if (reader.offset === reader.end) throw new XdrError('all read', reader.offset);
        }, XdrError);
        assert.ok(reader.offset <= reader.end);
      }),
    );
  });

  it('never throws anything but XdrError for random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), items, (input, list) => {
        const reader = new XdrReader(input);
        try {
          for (const item of list) read(reader, item);
        } catch (error) {
          assert.ok(error instanceof XdrError);
        }
      }),
    );
  });

  it('refuses an opaque over its limit, whatever follows', () => {
    const writer = new XdrWriter();
    writer.opaque(Buffer.alloc(65));
    assert.throws(() => new XdrReader(writer.take()).opaque(64), XdrError);
    assert.throws(() => new XdrReader(writer.take()).skipOpaque(64), XdrError);
  });

  it('gives copies: what it read stays when the buffer is used again', () => {
    for (const length of [8, 500]) {
      const writer = new XdrWriter();
      writer.opaque(Buffer.alloc(length, 7));
      const buffer = writer.take();
      const value = new XdrReader(buffer).opaque(1000);
      buffer.fill(0);
      assert.deepEqual(value, Buffer.alloc(length, 7));
    }
  });

  it('gives 64-bit numbers in decimal, exactly', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 64n - 1n), (value) => {
        assert.equal(uint64Text(Number(value >> 32n), Number(value & 0xffff_ffffn)), String(value));
      }),
    );
  });

  it('writes whole Numbers up to 2^53 as 64 bits', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const writer = new XdrWriter();
        writer.uint64Number(value);
        assert.equal(new XdrReader(writer.take()).uint64(), value);
      }),
    );
  });
});
