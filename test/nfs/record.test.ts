import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { RecordError, RecordReader } from '../../src/nfs/record.js';
import { recordBytes } from '../support/fault-server.js';

const LIMITS = { maxRecordBytes: 1000, maxFragments: 8 };

function collect(chunks: readonly Uint8Array[], limits = LIMITS): string[] {
  const records: string[] = [];
  const reader = new RecordReader((bytes, start, end) => {
    records.push(Buffer.from(bytes.subarray(start, end)).toString('hex'));
  }, limits);
  for (const chunk of chunks) reader.push(chunk);
  return records;
}

/** Three records: of one fragment, of several with empty ones, and an empty one. */
const BODIES = [Buffer.from('first record'), Buffer.from('second, in five fragments'), Buffer.alloc(0)];
const STREAM = Buffer.concat([
  recordBytes(BODIES[0] as Buffer),
  recordBytes(BODIES[1] as Buffer, [0, 3, 0, 9]),
  recordBytes(BODIES[2] as Buffer),
]);
const EXPECTED = BODIES.map((body) => body.toString('hex'));

describe('record reader', () => {
  it('finds the records at every split point of the stream', () => {
    for (let first = 0; first <= STREAM.length; first++) {
      for (let second = first; second <= STREAM.length; second++) {
        const parts = [STREAM.subarray(0, first), STREAM.subarray(first, second), STREAM.subarray(second)];
        assert.deepEqual(collect(parts), EXPECTED, `split at ${first} and ${second}`);
      }
    }
  });

  it('finds them byte by byte', () => {
    assert.deepEqual(collect([...STREAM].map((byte) => Buffer.of(byte))), EXPECTED);
  });

  it('finds any records, in any fragments, in any pieces', () => {
    const body = fc.uint8Array({ maxLength: 300 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(body, fc.array(fc.nat(100), { maxLength: 7 })), { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }),
        (records, pieces) => {
          const stream = Buffer.concat(
            records.map(([bytes, sizes]) => {
              let left = bytes.length;
              const fitting = sizes.map((size) => {
                const take = Math.min(size, left);
                left -= take;
                return take;
              });
              return recordBytes(bytes, fitting);
            }),
          );
          const chunks: Buffer[] = [];
          for (let at = 0, i = 0; at < stream.length; i++) {
            const size = pieces[i % pieces.length] as number;
            chunks.push(stream.subarray(at, at + size));
            at += size;
          }
          assert.deepEqual(
            collect(chunks),
            records.map(([bytes]) => Buffer.from(bytes).toString('hex')),
          );
        },
      ),
    );
  });

  it('gives a whole record in place, without a copy', () => {
    const chunk = recordBytes(Buffer.from('whole'));
    let given: Uint8Array | null = null;
    new RecordReader((bytes) => {
      given = bytes;
    }).push(chunk);
    assert.equal(given, chunk);
  });

  it('refuses a record over the cap as soon as its mark is there, in one fragment or in many', () => {
    assert.throws(() => collect([Buffer.of(0x80, 0, 0x03, 0xe9)]), RecordError);
    assert.throws(() => collect([Buffer.of(0xff, 0xff, 0xff, 0xff)]), RecordError);
    const many = recordBytes(Buffer.alloc(1001), [500, 500]);
    assert.throws(() => collect([many]), RecordError);
    assert.deepEqual(collect([recordBytes(Buffer.alloc(1000), [500])]).length, 1);
  });

  it('refuses a record of too many fragments, even empty ones', () => {
    assert.equal(collect([recordBytes(Buffer.alloc(4), [0, 0, 0, 0, 0, 0, 0])]).length, 1);
    assert.throws(() => collect([recordBytes(Buffer.alloc(4), [0, 0, 0, 0, 0, 0, 0, 0])]), RecordError);
    assert.throws(() => collect([Buffer.alloc(4 * 100)]), RecordError);
  });

  it('tells whether it stands in the middle of a record', () => {
    const reader = new RecordReader(() => {});
    const chunk = recordBytes(Buffer.from('body'));
    assert.equal(reader.partial, false);
    for (let at = 0; at < chunk.length - 1; at++) {
      reader.push(chunk.subarray(at, at + 1));
      assert.equal(reader.partial, true);
    }
    reader.push(chunk.subarray(-1));
    assert.equal(reader.partial, false);
  });

  it('delivers nothing more after stop, not even what it has', () => {
    let records = 0;
    const reader = new RecordReader(() => {
      records++;
      reader.stop();
    });
    const one = recordBytes(Buffer.from('x'));
    reader.push(Buffer.concat([one, one, one]));
    reader.push(one);
    assert.equal(records, 1);
  });
});
