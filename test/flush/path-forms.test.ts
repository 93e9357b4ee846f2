import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Fault } from '../../src/flush/fault.js';
import { PathForms } from '../../src/flush/path-forms.js';
import type { PathsAre } from '../../src/model/words.js';

const forms = (pathsAre: PathsAre, exportPath = '/NAS_12_exp5', clientMount: string | null = '/mnt/cache') =>
  new PathForms(exportPath, { pathsAre, clientMount });

function fault(read: string | Fault): Fault['error'] {
  assert.ok(read instanceof Fault, `was read as ${String(read)}`);
  return read.error;
}

describe('a path', () => {
  it('means the same file in each of its three forms', () => {
    assert.equal(forms('export').read('/result/output3.txt'), 'result/output3.txt');
    assert.equal(forms('namespace').read('/NAS_12_exp5/result/output3.txt'), 'result/output3.txt');
    assert.equal(forms('client').read('/mnt/cache/NAS_12_exp5/result/output3.txt'), 'result/output3.txt');
  });

  it('may be written with needless slashes and dots, and without the first slash', () => {
    assert.equal(forms('export').read('//result/./a//b/'), 'result/a/b');
    assert.equal(forms('export').read('result/a'), 'result/a');
    assert.equal(forms('namespace', '/NAS//x/').read('/NAS/./x//a'), 'a');
    assert.equal(forms('client').read('/mnt//cache/./NAS_12_exp5/a'), 'a');
    assert.equal(forms('export').read('/...'), '...');
    assert.equal(forms('export').read('/..a/b..'), '..a/b..');
    assert.equal(forms('export').read('/'), '');
  });

  it('is refused with "..", NUL, or nothing in it', () => {
    for (const path of ['', '/a/../b', '..', '/..', 'a/..', '/a\0b', '/a/\0']) {
      assert.equal(fault(forms('export').read(path)).code, 'INVALID_PATH', JSON.stringify(path));
    }
    assert.match(fault(forms('export').read('/a/../b')).message, /"\.\."/);
  });

  it('is refused with a component of 256 bytes, whatever the characters', () => {
    assert.equal(forms('export').read(`/${'a'.repeat(255)}`), 'a'.repeat(255));
    assert.equal(forms('export').read(`/x/${'ü'.repeat(127)}a/y`), `x/${'ü'.repeat(127)}a/y`);
    for (const component of ['a'.repeat(256), 'ü'.repeat(128), `${'\udcff'.repeat(255)}a`]) {
      const error = fault(forms('export').read(`/x/${component}/y`));
      assert.equal(error.code, 'ENAMETOOLONG');
      assert.match(error.message, /256 bytes/);
    }
    // An escaped byte is one byte, not the three of its surrogate.
    assert.equal(typeof forms('export').read(`/${'\udcff'.repeat(255)}`), 'string');
  });

  it('may have bytes that are not UTF-8, but no surrogate that stands for none', () => {
    assert.equal(forms('export').read('/a\udcff'), 'a\udcff');
    assert.equal(fault(forms('export').read('/a\ud800')).code, 'INVALID_PATH');
  });

  it('outside its prefix is refused with the form that was read, and the one it looks like', () => {
    const wrongNamespace = fault(forms('namespace').read('/result/output3.txt'));
    assert.equal(wrongNamespace.code, 'OUTSIDE_EXPORT');
    assert.match(wrongNamespace.message, /not below the export \/NAS_12_exp5 \(pathsAre: namespace\)/);
    assert.match(wrongNamespace.message, /pathsAre: export\?$/);

    const client = fault(forms('namespace').read('/mnt/cache/NAS_12_exp5/a'));
    assert.match(client.message, /begins with the client mount \/mnt\/cache: is it pathsAre: client\?/);

    const notBelow = fault(forms('client').read('/NAS_12_exp5/a'));
    assert.equal(notBelow.code, 'INVALID_PATH');
    assert.match(notBelow.message, /not below the clientMount \/mnt\/cache .*pathsAre: namespace\?/);

    const otherExport = fault(forms('client').read('/mnt/cache/NAS_12_exp55/a'));
    assert.equal(otherExport.code, 'OUTSIDE_EXPORT');
    assert.match(otherExport.message, /^\/NAS_12_exp55\/a is not below the export/);

    assert.match(fault(forms('client', '/e', null).read('/mnt/e/a')).message, /no clientMount is given/);
    assert.equal(fault(forms('client').read('mnt/cache/NAS_12_exp5/a')).code, 'INVALID_PATH');
  });

  it('that was not found is explained by what was looked up', () => {
    assert.equal(
      forms('export', '/NAS').explain('NAS/result/x'),
      'looked up /NAS/result/x below export /NAS (pathsAre: export); the path begins with the export itself: is it pathsAre: namespace?',
    );
    assert.match(forms('export').explain('mnt/cache/NAS_12_exp5/x'), /pathsAre: client\?$/);
    assert.match(
      forms('export', '/NAS', null).explain('mnt/here/NAS/x'),
      /the export stands within the path: is it pathsAre: client with clientMount: \/mnt\/here\?$/,
    );
    assert.equal(
      forms('namespace', '/NAS', null).explain('x'),
      'looked up /x below export /NAS (pathsAre: namespace)',
    );
    assert.equal(forms('export', '/', null).explain('x'), 'looked up /x below export / (pathsAre: export)');
  });

  it('never leaves the export and is never read twice in two ways', () => {
    const component = fc.oneof(
      fc.constantFrom('', '.', '..', 'a', 'NAS', 'mnt', '...', 'ü', '\udcff', '\0'),
      fc.string({ maxLength: 5 }),
    );
    fc.assert(
      fc.property(fc.array(component, { maxLength: 6 }), (components) => {
        const path = `/${components.join('/')}`;
        const read = forms('export', '/NAS').read(path);
        if (read instanceof Fault) return;
        assert.ok(
          read === '' || read.split('/').every((part) => part !== '' && part !== '.' && part !== '..'),
          read,
        );
        if (read !== '') assert.equal(forms('export', '/NAS').read(`/${read}`), read);
        assert.equal(forms('namespace', '/NAS').read(`/NAS${path}`), read);
        assert.equal(forms('client', '/NAS').read(`/mnt/cache/NAS${path}`), read);
      }),
    );
  });
});

describe('an absolute symbolic link', () => {
  it('is followed where it is known to lie below the export', () => {
    assert.equal(forms('export').linkBelowExport('/mnt/cache/NAS_12_exp5/a/../b'), 'a/../b');
    assert.equal(forms('export').linkBelowExport('/NAS_12_exp5/a'), 'a');
    assert.equal(forms('export').linkBelowExport('/etc/passwd'), null);
    assert.equal(forms('export').linkBelowExport('/mnt/cache/other/a'), null);
    assert.equal(forms('export', '/').linkBelowExport('/etc/passwd'), null);
    assert.equal(forms('export', '/').linkBelowExport('/mnt/cache/a'), 'a');
  });
});
