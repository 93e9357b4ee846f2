import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FlushJsonReader } from '../../src/api/flush-json.js';
import { BrokerError } from '../../src/model/errors.js';
import { pathBytes, pathText } from '../../src/model/pathname.js';

const LIMITS = { maxPathBytes: 4096, maxRestBytes: 65536 };

interface Read {
  files: string[];
  rest: Record<string, unknown>;
}

function read(chunks: Uint8Array[], limits = LIMITS): Read {
  const reader = new FlushJsonReader(limits);
  const files: string[] = [];
  for (const chunk of chunks) {
    for (const path of reader.push(chunk)) {
      files.push(pathText(path));
      assert.equal(reader.where, `/files/${files.length - 1}`);
    }
  }
  for (const path of reader.end()) files.push(pathText(path));
  return { files, rest: reader.rest() };
}

function refusal(body: string | Uint8Array, limits = LIMITS): BrokerError {
  try {
    read([typeof body === 'string' ? Buffer.from(body) : body], limits);
  } catch (error) {
    assert.ok(error instanceof BrokerError, `${error}`);
    return error;
  }
  assert.fail(`${body} was taken`);
}

/** Cuts a body at the given places. */
function cut(body: Uint8Array, places: number[]): Uint8Array[] {
  const sorted = [...new Set(places.map((place) => place % (body.length + 1)))].sort((a, b) => a - b);
  return [0, ...sorted].map((from, i) => body.subarray(from, sorted[i] ?? body.length));
}

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 });

test('reads what JSON.parse reads, wherever the body is cut', () => {
  fc.assert(
    fc.property(
      fc.array(name),
      fc.dictionary(
        name.filter((key) => key !== 'files'),
        fc.jsonValue({ maxDepth: 4 }),
      ),
      fc.boolean(),
      fc.constantFrom(undefined, 1, '\t'),
      fc.array(fc.nat(), { maxLength: 12 }),
      (files, others, filesFirst, space, places) => {
        const request = filesFirst ? { files, ...others } : { ...others, files };
        const body = Buffer.from(JSON.stringify(request, null, space));
        const got = read(cut(body, places));
        const expected = JSON.parse(body.toString());
        delete expected.files;
        assert.deepEqual(got.files, files);
        assert.deepEqual(got.rest, expected);
      },
    ),
  );
});

test('every cut of one body gives the same', () => {
  const body = Buffer.from('{"cache":"a\\"]}","files":["/a","/b\\"c","/\\u00e9","/é"],"labels":{"x":"}"}}');
  const whole = read([body]);
  assert.deepEqual(whole.files, ['/a', '/b"c', '/é', '/é']);
  for (let i = 0; i <= body.length; i++) {
    for (let j = i; j <= body.length; j++) {
      assert.deepEqual(read([body.subarray(0, i), body.subarray(i, j), body.subarray(j)]), whole);
    }
  }
});

test('what JSON.parse refuses is refused, and an accepted body is what JSON.parse reads', () => {
  const valid = '{"cache": "c", "files": ["/a", "/b\\n"], "n": [1, {"x": null}], "t": true}';
  fc.assert(
    fc.property(fc.nat(valid.length), fc.nat(3), fc.string({ maxLength: 3 }), (at, removed, inserted) => {
      const body = valid.slice(0, at) + inserted + valid.slice(at + removed);
      let expected: unknown;
      try {
        expected = JSON.parse(body);
      } catch {}
      let got: Read | undefined;
      try {
        got = read([Buffer.from(body)]);
      } catch (error) {
        assert.ok(error instanceof BrokerError, `${error}`);
        return;
      }
      assert.notEqual(expected, undefined, `${body} is no JSON, but was taken`);
      const { files = [], ...rest } = expected as { files?: unknown };
      if (Array.isArray(files)) assert.deepEqual(got, { files, rest });
      else assert.deepEqual(got, { files: [], rest: { ...rest, files } });
    }),
    { numRuns: 2000 },
  );
});

test('a body that ends early is refused at every length', () => {
  const body = Buffer.from('{"cache":"c","files":["/a","/b"],"mode":"sync"}');
  for (let length = 0; length < body.length; length++) {
    assert.equal(refusal(body.subarray(0, length)).code, 'MALFORMED', `${body.subarray(0, length)}`);
  }
});

test('a malformed body is refused with its place', () => {
  const cases: [string, RegExp][] = [
    ['', /nothing in it, at byte 0/],
    ['[]', /"\[" stands where an object: "\{" is expected, at byte 0/],
    ['{"a":1,}', /"}" stands where the name of a member is expected, at byte 7/],
    ['{"files":["a",]}', /"\]" stands where a string is expected, at byte 14/],
    ['{"files":["a" "b"]}', /"\\"" stands where "," or "\]" is expected, at byte 14/],
    ['{"a":1} x', /"x" stands where the end is expected, at byte 8/],
    ['{"a" 1}', /"1" stands where ":" is expected, at byte 5/],
    ['{a:1}', /"a" stands where the name of a member in quotes is expected, at byte 1/],
    ['{"a":tru}', /the value of "a", which begins at byte 5, cannot be read/],
    ['{"a":}', /the value of "a"/],
    ['{"a":1,"a":2}', /the member "a" stands in it twice, at byte 7/],
    ['{"files":["a"],"files":["b"]}', /the member "files" stands in it twice/],
    [`{"a":${'['.repeat(100)}`, /nested more than 32 deep/],
    [`{"a":1${']'.repeat(3)}`, /"]" stands where a value is expected/],
    [`{"${'k'.repeat(300)}":1}`, /the name of a member is too long/],
    ['{"files":["a\nb"]}', /The path at byte 10 of the body has a control character/],
    ['{"files":["a\\q"]}', /The path at byte 10 of the body has an escape that is not JSON/],
  ];
  for (const [body, message] of cases) {
    const error = refusal(body);
    assert.equal(error.code, 'MALFORMED', body);
    assert.match(error.message, message);
  }
});

test('an element of files that is no string is refused with its pointer', () => {
  for (const element of ['1', 'null', '{"path":"/a"}', '["/a"]', 'true', '-']) {
    const error = refusal(`{"files":["/a","/b",${element}]}`);
    assert.equal(error.code, 'VALIDATION');
    assert.equal(error.pointer, '/files/2');
  }
});

test('bytes of names that are not UTF-8 come as escapes, and raw bytes say so', () => {
  const { files } = read([Buffer.from('{"files":["/caf\\udce9","/\\ud83d\\ude00"]}')]);
  assert.deepEqual(pathBytes(files[0] as string), Buffer.from('/caf\xe9', 'latin1'));
  assert.equal(files[1], '/😀');
  const raw = refusal(Buffer.from('{"files":["/a","/caf\xe9"]}', 'latin1'));
  assert.equal(raw.code, 'MALFORMED');
  assert.equal(raw.pointer, '/files/1');
  assert.match(raw.message, /not UTF-8.*\\udc80/);
  assert.match(refusal('{"files":["\\ud800"]}').message, /neither text nor an escaped byte/);
});

test('what is held back is bounded: a string without end, and everything but files', () => {
  assert.equal(refusal(`{"files":["${'x'.repeat(30_000)}`).code, 'PATH_TOO_LONG');
  const long = refusal(`{"labels":"${'x'.repeat(70_000)}"}`);
  assert.equal(long.code, 'BODY_TOO_LARGE');
  assert.equal(long.pointer, '/labels');
});

test('a member called __proto__ is data', () => {
  const { rest } = read([Buffer.from('{"__proto__":{"cache":"x"}}')]);
  assert.equal(rest.cache, undefined);
  assert.deepEqual(Object.keys(rest), ['__proto__']);
});
