import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BrokerError } from '../../src/model/errors.js';
import { PathList, type PathListOptions } from '../../src/model/path-list.js';
import { pathText } from '../../src/model/pathname.js';

function split(chunks: Uint8Array[], options: Partial<PathListOptions> = {}) {
  const list = new PathList({ delimiter: 'newline', maxPathBytes: 4096, ...options });
  const paths: string[] = [];
  const lines: number[] = [];
  for (const chunk of chunks) {
    for (const path of list.push(chunk)) {
      paths.push(pathText(path));
      lines.push(list.line);
    }
    chunk.fill(0x78); // whoever feeds it may use the memory again
  }
  for (const path of list.end()) {
    paths.push(pathText(path));
    lines.push(list.line);
  }
  return { list, paths, lines };
}

const bytes = (text: string) => Buffer.from(text, 'latin1');

describe('a list of paths', () => {
  it('gives one path per line, with or without a last newline', () => {
    assert.deepEqual(split([bytes('/a\n/b\n')]).paths, ['/a', '/b']);
    assert.deepEqual(split([bytes('/a\n/b')]).paths, ['/a', '/b']);
    assert.deepEqual(split([]).paths, []);
  });

  it('skips and counts blank lines, and still numbers the lines as an editor does', () => {
    const { list, paths, lines } = split([bytes('\n/a\n\r\n\n/b')]);
    assert.deepEqual(paths, ['/a', '/b']);
    assert.deepEqual(lines, [2, 5]);
    assert.equal(list.blank, 3);
    assert.equal(list.paths, 2);
  });

  it('drops the CR of CR LF, and says how many there were', () => {
    const { list, paths } = split([bytes('/a\r\n/b\r\n/c d\re\n')]);
    assert.deepEqual(paths, ['/a', '/b', '/c d\re']);
    assert.equal(list.carriageReturns, 2);
  });

  it('takes NUL-separated names as they are, newlines and CR included', () => {
    const { list, paths } = split([bytes('/a\nb\0\0/c\r\0/d')], { delimiter: 'nul' });
    assert.deepEqual(paths, ['/a\nb', '/c\r', '/d']);
    assert.equal(list.blank, 1);
    assert.equal(list.carriageReturns, 0);
  });

  it('keeps bytes that are not UTF-8', () => {
    assert.deepEqual(split([Buffer.of(0x2f, 0xff, 0x0a)]).paths, ['/\udcff']);
  });

  it('does not take a byte order mark for a part of the first path', () => {
    const { list, paths } = split([Buffer.of(0xef), Buffer.of(0xbb, 0xbf, 0x2f, 0x61, 0x0a)]);
    assert.deepEqual(paths, ['/a']);
    assert.equal(list.byteOrderMark, true);
  });

  it('refuses a path that is too long with its line, before it has all arrived', () => {
    assert.throws(
      () =>
        split([bytes('/ok\n'), bytes('/12345678'), bytes('9'.repeat(100)), bytes('\n')], { maxPathBytes: 8 }),
      (error) => error instanceof BrokerError && error.code === 'PATH_TOO_LONG' && error.pointer === 'line 2',
    );
    assert.deepEqual(split([bytes('/1234567\r\n/1234567')], { maxPathBytes: 8 }).paths, [
      '/1234567',
      '/1234567',
    ]);
  });

  it('can report a path that is too long and go on with the next', () => {
    const refused: [number, string][] = [];
    const { list, paths } = split(
      [bytes('/a\n/123'), bytes('45678\n/b\n'), bytes(`/${'c'.repeat(200)}`), bytes('c\r\n/d')],
      { maxPathBytes: 8, onTooLong: (line, start) => refused.push([line, pathText(start)]) },
    );
    assert.deepEqual(paths, ['/a', '/b', '/d']);
    assert.deepEqual(
      refused.map(([line]) => line),
      [2, 4],
    );
    assert.equal(list.tooLong, 2);
    assert.ok(refused.every(([, start]) => start.startsWith('/') && start.length <= 80));
  });

  it('means the same however it is cut into chunks', () => {
    const content = fc.uint8Array({ maxLength: 200 }).map((raw) =>
      // Dense in the bytes that matter.
      raw.map((byte) => [0x0a, 0x0d, 0x00, 0x61, 0x2f, 0xff, 0xc3, 0xa9][byte % 32] ?? 0x62),
    );
    fc.assert(
      fc.property(
        content,
        fc.array(fc.nat(200)),
        fc.constantFrom('newline', 'nul'),
        (raw, cuts, delimiter) => {
          const options = { delimiter, maxPathBytes: 20, onTooLong: () => undefined } as const;
          const whole = split([Uint8Array.from(raw)], options);
          const ends = [...new Set([...cuts, raw.length].map((cut) => Math.min(cut, raw.length)))].sort(
            (a, b) => a - b,
          );
          const chunks = ends.map((end, i) => raw.slice(i === 0 ? 0 : ends[i - 1], end));
          const pieces = split(chunks, options);
          assert.deepEqual(pieces.paths, whole.paths);
          assert.deepEqual(pieces.lines, whole.lines);
          for (const counter of ['blank', 'carriageReturns', 'tooLong', 'paths', 'byteOrderMark'] as const) {
            assert.equal(pieces.list[counter], whole.list[counter], counter);
          }
          assert.equal(whole.list.paths + whole.list.blank + whole.list.tooLong, whole.list.line);
        },
      ),
    );
  });
});
