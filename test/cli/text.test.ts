import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseSeconds, tableText } from '../../src/cli/text.js';
import { pathText } from '../../src/model/pathname.js';
import { bytesText, countText, durationText, printable } from '../../src/model/text.js';

test('no name can steer the terminal', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.string({ unit: 'binary' }), (bytes, text) => {
      for (const shown of [printable(pathText(bytes)), printable(text)]) {
        assert.doesNotMatch(shown, /\p{Cc}|\p{Cs}/u);
      }
    }),
  );
  assert.equal(printable('a\n\t\u001b[2J\udcff\u202eé€😀'), 'a\\n\\t\\x1b[2J\\xff\\u202eé€😀');
});

test('numbers are read at a glance', () => {
  assert.deepEqual([0, 1023, 1024, 1_048_575, 5.5 * 1024 ** 3, 2 ** 70].map(bytesText), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.0 MiB',
    '5.5 GiB',
    '1048576.0 PiB',
  ]);
  assert.deepEqual([0, 999, 1000, 1234567].map(countText), ['0', '999', '1,000', '1,234,567']);
  assert.deepEqual([0.04, 9.94, 59.4, 61, 3600, 90_000].map(durationText), [
    '0.0 s',
    '9.9 s',
    '59 s',
    '1 min 01 s',
    '1 h 00 min',
    '25 h 00 min',
  ]);
});

test('times are seconds, or have a unit', () => {
  assert.deepEqual(
    ['90', '0.5', '90s', '15m', '2h', '1.5d'].map((text) => parseSeconds(text, '--t')),
    [90, 0.5, 90, 900, 7200, 129_600],
  );
  for (const text of ['', '0', '-1', '1w', '1e3', 'Infinity', '5 m']) {
    assert.throws(() => parseSeconds(text, '--t'), { exitCode: 2 }, text);
  }
});

test('tables have columns, numbers at the right', () => {
  assert.deepEqual(
    tableText(
      ['NAME', 'FILES'],
      [
        ['a', 1000],
        ['long name', 5],
      ],
    ),
    ['NAME       FILES', 'a          1,000', 'long name      5'],
  );
});
