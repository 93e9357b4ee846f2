import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { eventReader, type ServerEvent } from '../../src/web/event-stream.js';

const TEXT =
  'retry: 2000\n\nid: 7\nevent: job\ndata: {"a":1}\n\n: ping\nid: 8\n\nid: 9\nevent: end\ndata: one\ndata: two\n\ndata: cut';

function read(parts: readonly string[]): ServerEvent[] {
  const events: ServerEvent[] = [];
  const reader = eventReader((event) => events.push(event));
  for (const part of parts) reader(part);
  return events;
}

test('the events of a stream are the same, wherever it is cut', () => {
  const expected = [
    { type: 'job', id: '7', data: '{"a":1}' },
    { type: 'message', id: '8', data: '' },
    { type: 'end', id: '9', data: 'one\ntwo' },
  ];
  fc.assert(
    fc.property(fc.array(fc.nat({ max: TEXT.length })), (cuts) => {
      const places = [0, ...cuts.sort((a, b) => a - b), TEXT.length];
      const parts = places.slice(1).map((end, i) => TEXT.slice(places[i], end));
      assert.deepEqual(read(parts), expected);
    }),
  );
});
