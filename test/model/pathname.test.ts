import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { pathBytes, pathText, tidyPathBytes } from '../../src/model/pathname.js';

const tidy = (path: string) => Buffer.from(tidyPathBytes(Buffer.from(path, 'latin1'))).toString('latin1');

describe('the name of a file', () => {
  it('survives the way into text and back, whatever its bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => assert.deepEqual([...pathBytes(pathText(bytes))], [...bytes])),
    );
  });

  it('is the same for all spellings of one path', () => {
    for (const spelling of ['a/b', '/a/b', '//a//b/', './a/./b', 'a/b/.', '/./a/b//']) {
      assert.equal(tidy(spelling), 'a/b', spelling);
    }
    for (const path of ['a/../b', '..', 'a/.b', 'a/b.', 'a/...', '']) assert.equal(tidy(path), path);
    for (const path of ['/', '//', '.', './.']) assert.equal(tidy(path), '', path);
  });

  it('is tidied as a naive reader would', () => {
    const piece = fc.constantFrom('/', '.', '..', 'a', 'é', '\xff');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const path = pieces.join('');
        const components = path.split('/').filter((each) => each !== '' && each !== '.');
        assert.equal(tidy(path), components.join('/'));
      }),
    );
  });
});
