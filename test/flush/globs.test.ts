import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { globFilter } from '../../src/flush/globs.js';

const wanted = (include: string[], exclude: string[], paths: string[]) => {
  const filter = globFilter(include, exclude);
  return paths.filter((path) => filter.wants(path));
};

describe('globs', () => {
  const paths = ['a.dat', 'b.txt', 'run1/a.dat', 'run1/deep/a.dat', '.hidden.dat', 'run1/.h/a.dat'];

  it('want everything if none includes', () => {
    assert.deepEqual(wanted([], [], paths), paths);
  });

  it('match the whole path below the directory, hidden files too', () => {
    assert.deepEqual(wanted(['*.dat'], [], paths), ['a.dat', '.hidden.dat']);
    assert.deepEqual(
      wanted(['**/*.dat'], [], paths),
      paths.filter((path) => path !== 'b.txt'),
    );
    assert.deepEqual(wanted(['run1/**'], [], paths), ['run1/a.dat', 'run1/deep/a.dat', 'run1/.h/a.dat']);
    assert.deepEqual(wanted(['*.{dat,txt}'], ['b*'], paths), ['a.dat', '.hidden.dat']);
  });

  it('exclude what any of them matches', () => {
    assert.deepEqual(wanted([], ['**/*.dat', 'x'], paths), ['b.txt']);
  });

  it('take names that are not UTF-8', () => {
    assert.deepEqual(wanted(['*\udcff*'], [], ['a\udcffb', 'ab']), ['a\udcffb']);
  });

  it('spare a directory only if everything below it is excluded', () => {
    const filter = globFilter([], ['tmp/**', '**/*.old', '**/scratch/**']);
    assert.equal(filter.prunes('tmp'), true);
    assert.equal(filter.prunes('tmp/a'), true);
    assert.equal(filter.prunes('a/scratch'), true);
    // A directory called x.old may hold files that no pattern excludes.
    assert.equal(filter.prunes('x.old'), false);
    assert.equal(filter.prunes('tmpx'), false);
    assert.equal(filter.wants('x.old/a'), true);
  });

  it('have no exclamation mark: exclude is there for that', () => {
    assert.deepEqual(wanted(['!a'], [], ['!a', 'b']), ['!a']);
  });

  it('that are empty, too long or too many are refused', () => {
    for (const patterns of [[''], ['x'.repeat(2000)], Array.from({ length: 300 }, () => '*')]) {
      assert.throws(() => globFilter(patterns, []), RangeError);
      assert.throws(() => globFilter([], patterns), RangeError);
    }
  });
});
