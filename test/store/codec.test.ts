import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FILE_ERROR_CODES } from '../../src/model/errors.js';
import { pathText } from '../../src/model/pathname.js';
import { EVIDENCE, FILE_OUTCOMES, PHASES } from '../../src/model/words.js';
import { ByteReader, ByteWriter } from '../../src/store/bytes.js';
import { decodePaths, encodePaths } from '../../src/store/chunk-codec.js';
import { Duplicates } from '../../src/store/dedup.js';
import { decodeDetails, encodeDetails, type FileDetail } from '../../src/store/detail-codec.js';
import { firstIdAt, isJobId, newJobId } from '../../src/store/job-id.js';
import { queueName } from '../../src/store/keys.js';
import { averageRate, currentRate } from '../../src/store/rates.js';

const path = fc
  .uint8Array({ minLength: 1, maxLength: 80 })
  .map((bytes) => Buffer.from(bytes.map((byte) => byte || 1)));
/** Neighbours that begin alike, as names in a list do. */
const paths = fc.array(
  fc.oneof(
    path,
    fc.nat(999).map((n) => Buffer.from(`run/out/rank-${n}.dat`)),
  ),
  { maxLength: 512 },
);

test('paths of any bytes come back unchanged and in order', () => {
  fc.assert(
    fc.property(paths, (list) => {
      assert.deepEqual(decodePaths(encodePaths(list)), list);
    }),
  );
});

test('a chunk that was cut, or is none, is refused and not misread', () => {
  const blob = encodePaths([Buffer.from('a/b'), Buffer.from('a/c')]);
  for (let end = 0; end < blob.length; end++) assert.throws(() => decodePaths(blob.subarray(0, end)));
  assert.throws(() => decodePaths(Buffer.from('no deflated bytes')));
});

test('numbers of every size come back unchanged', () => {
  fc.assert(
    fc.property(fc.array(fc.maxSafeInteger()), (numbers) => {
      const writer = new ByteWriter();
      for (const number of numbers) {
        writer.varint(Math.abs(number));
        writer.signed(Math.trunc(number / 2));
      }
      const reader = new ByteReader(Buffer.from(writer.view()));
      for (const number of numbers) {
        assert.equal(reader.varint(), Math.abs(number));
        assert.equal(reader.signed(), Math.trunc(number / 2) || 0);
      }
    }),
  );
});

const error = fc.record({
  code: fc.constantFrom(...FILE_ERROR_CODES),
  nfsStatus: fc.option(fc.nat(70_000), { nil: null }),
  phase: fc.constantFrom(...PHASES),
  message: fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constant('LOOKUP of run/out/rank-3.dat failed: no run/out/rank-3.dat'),
  ),
});
const detail = fc.record<Omit<FileDetail, 'offset'>>({
  stateByte: fc.constantFrom(...Buffer.from('scfkxe')),
  outcome: fc.option(fc.constantFrom(...FILE_OUTCOMES), { nil: null }),
  evidence: fc.option(fc.constantFrom(...EVIDENCE), { nil: null }),
  attempts: fc.nat(1000),
  size: fc.option(fc.nat(2 ** 50), { nil: null }),
  mtimeMs: fc.option(fc.integer({ min: -(2 ** 45), max: 2 ** 45 }), { nil: null }),
  durationMs: fc.option(fc.nat(1e9), { nil: null }),
  firstError: fc.option(error, { nil: null }),
  lastError: fc.option(error, { nil: null }),
});

test('details come back unchanged, with the path in their messages', () => {
  fc.assert(
    fc.property(fc.array(detail, { maxLength: 60 }), paths, (list, names) => {
      const details = list.map((item, offset) => ({ ...item, offset }));
      const pathOf = (offset: number): string => pathText(names[offset] ?? Buffer.from('run/out/rank-3.dat'));
      // A NUL in a message would stand for the path; messages are text for people and lose it.
      const clean = (message: string | undefined): string | undefined => message?.replaceAll('\0', '�');
      const decoded = decodeDetails(encodeDetails(details, pathOf), pathOf);
      assert.equal(decoded.length, details.length);
      decoded.forEach((actual, i) => {
        const wanted = details[i] as FileDetail;
        assert.deepEqual(
          { ...actual, firstError: actual.firstError?.message, lastError: actual.lastError?.message },
          {
            ...wanted,
            firstError: clean(wanted.firstError?.message),
            lastError: clean(wanted.lastError?.message),
          },
        );
      });
    }),
  );
});

test('the same message about each of 512 files is stored once', () => {
  const pathOf = (offset: number): string => `projects/x/run-${offset * 7919}/rank-${offset}.h5`;
  const details = Array.from({ length: 512 }, (_, offset): FileDetail => {
    const lastError = {
      code: 'ENOENT',
      nfsStatus: 2,
      phase: 'resolve',
      message: `LOOKUP of ${pathOf(offset)} answered NFS3ERR_NOENT.`,
    } as const;
    return {
      offset,
      stateByte: 102,
      outcome: null,
      evidence: null,
      attempts: 0,
      size: null,
      mtimeMs: null,
      durationMs: 3,
      firstError: lastError,
      lastError,
    };
  });
  assert.ok(encodeDetails(details, pathOf).length < 300);
});

test('duplicates are found exactly, and the first entry is the one that is told', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          path,
          fc.nat(50).map((n) => Buffer.from(`${n}`)),
        ),
        { maxLength: 3000 },
      ),
      (list) => {
        const table = new Duplicates();
        const naive = new Map<string, number>();
        list.forEach((bytes, index) => {
          const key = bytes.toString('latin1');
          assert.equal(table.add(bytes, index), naive.get(key) ?? -1);
          if (!naive.has(key)) naive.set(key, index);
        });
      },
    ),
    { numRuns: 30 },
  );
});

test('a hundred thousand different paths are all different', () => {
  const table = new Duplicates();
  for (let i = 0; i < 100_000; i++) assert.equal(table.add(Buffer.from(`p/${i}`), i), -1);
  for (let i = 0; i < 100_000; i += 97) assert.equal(table.add(Buffer.from(`p/${i}`), -5), i);
});

test('job ids sort by time and are of one form', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 41), fc.nat(2 ** 41), (a, b) => {
      assert.ok(isJobId(newJobId(a)));
      if (a < b) assert.ok(newJobId(a) < newJobId(b));
      assert.ok(firstIdAt(a) <= newJobId(a));
      assert.ok(newJobId(a) < firstIdAt(a + 1));
    }),
  );
});

test('a queue name is safe in a key and tells different caches apart', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      assert.match(queueName(a, true), /^[A-Za-z0-9._-]+$/);
      if (a !== b) assert.notEqual(queueName(a, true), queueName(b, true));
    }),
  );
  assert.notEqual(queueName('nas', true), queueName('nas', false));
});

test('a rate is the true one from the first second on, and sinks when nothing happens', () => {
  const startedAt = 1_000_000;
  // 100 files a second, sampled at the end of each second as the script does.
  let perSecond = 0;
  for (let second = 1; second <= 40; second++) {
    const keep = Math.exp(-1000 / 10_000);
    perSecond = perSecond * keep + 100 * (1 - keep);
    const done = second * 100;
    const sample = {
      perSecond,
      sampledAt: startedAt + second * 1000,
      doneThen: done,
      doneNow: done,
      startedAt,
    };
    const rate = currentRate({ ...sample, now: sample.sampledAt + 1 });
    assert.ok(rate !== null && Math.abs(rate - 100) < 1, `${rate} after ${second} s`);
    const later = currentRate({ ...sample, now: sample.sampledAt + 60_000 });
    assert.ok(later !== null && later < 1);
  }
  assert.equal(
    currentRate({
      perSecond: 0,
      sampledAt: startedAt,
      doneThen: 0,
      doneNow: 0,
      startedAt,
      now: startedAt + 5000,
    }),
    null,
  );
  assert.equal(averageRate(50, 0, 10_000), 5);
  assert.equal(averageRate(0, 0, 10_000), null);
});
