import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseExposition, sampleValue } from '../support/exposition.js';

test('the reader takes what the format allows', () => {
  const families = parseExposition(
    [
      '# HELP a_total Some\\nthing \\\\ else.',
      '# TYPE a_total counter',
      'a_total{x="1\\"\\\\\\n}",} 3',
      'a_total 4.5e3',
      '# TYPE h histogram',
      'h_bucket{le="0.1"} 1',
      'h_bucket{le="+Inf"} 2',
      'h_sum 0.3',
      'h_count 2',
      '# a remark',
      'plain NaN',
      '',
    ].join('\n'),
  );
  assert.equal(sampleValue(families, 'a_total', { x: '1"\\\n}' }), 3);
  assert.equal(families.get('a_total')?.help, 'Some\nthing \\ else.');
  assert.equal(sampleValue(families, 'h_count'), 2);
});

test('the reader refuses what Prometheus would refuse or misread', () => {
  const bad: [string, RegExp][] = [
    ['a 1', /does not end/],
    ['a{x=1} 1\n', /not quoted/],
    ['a{x="1" y="2"} 1\n', /not separated/],
    ['a{x="1",x="2"} 1\n', /twice/],
    ['a{x="\\t"} 1\n', /no escape/],
    ['a 1 2 3\n', /no number/],
    ['a undefined\n', /no number/],
    ['a 1\na 2\n', /same sample/],
    ['a 1\nb 1\na{x="1"} 2\n', /stand together/],
    ['# TYPE a counter\n# TYPE a gauge\na 1\n', /second TYPE/],
    ['a 1\n# TYPE a counter\n', /TYPE after/],
    ['# TYPE a counter\na -1\n', /is -1/],
    ['# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n', /do not grow/],
    ['# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\nh_count 1\n', /not its count/],
    ['1a 1\n', /no name/],
  ];
  for (const [text, why] of bad) assert.throws(() => parseExposition(text), why, text);
});
