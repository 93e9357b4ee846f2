import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  exportOfLocation,
  isLocated,
  locate,
  type Mount,
  MountTable,
  parseMountinfo,
  sameHost,
} from '../../src/cli/mountinfo.js';

const V3 =
  'rw,vers=3,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,mountaddr=10.21.0.1,mountvers=3,mountport=20048,mountproto=tcp,local_lock=none,addr=10.21.0.1';
const TABLE = [
  '22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw',
  '28 1 8:2 / / rw,relatime shared:1 master:7 - ext4 /dev/sda2 rw,errors=remount-ro',
  '95 28 0:49 / /mnt/cache rw,relatime shared:48 - autofs systemd-1 rw,fd=60,pgrp=1,timeout=0,minproto=5,maxproto=5,direct,pipe_ino=15691',
  `97 95 0:52 / /mnt/cache rw,relatime shared:50 - nfs 10.21.0.1:/NAS_12_exp5 ${V3}`,
  `98 28 0:53 / /mnt/with\\040space\\134\\011 rw,relatime - nfs filer.example:/exp\\040ort/a ${V3}`,
  '99 28 0:54 / /mnt/four rw,relatime - nfs4 10.21.0.2:/ rw,vers=4.2,proto=tcp,clientaddr=10.0.0.9,addr=10.21.0.2',
  '100 28 0:55 / /mnt/six rw,relatime - nfs [2001:db8::1]:/x rw,vers=3,port=12049,proto=tcp6,mountaddr=2001:db8::2,mountport=635,addr=2001:db8::1',
  `101 28 0:52 / /opt/bound rw,relatime - nfs 10.21.0.1:/NAS_12_exp5/sub ${V3}`,
  `102 28 0:52 / /etc/one.conf ro,relatime - nfs 10.21.0.1:/NAS_12_exp5/conf/one.conf ${V3}`,
  `103 28 0:56 / /mnt/slash rw,relatime - nfs 192.168.50.10:/srv/share/ ${V3}`,
].join('\n');

function located(table: string, path: string) {
  const result = locate(new MountTable(parseMountinfo(Buffer.from(table, 'latin1'))), path, 'file');
  assert.ok(isLocated(result), `${path}: ${JSON.stringify(result)}`);
  return result;
}

describe('a local path leads to server, export and path', () => {
  test('through an NFS mount upon an automount point', () => {
    assert.deepEqual(located(TABLE, '/mnt/cache/result/out put'), {
      server: '10.21.0.1',
      addresses: ['10.21.0.1'],
      port: null,
      mounted: '/NAS_12_exp5',
      path: '/result/out put',
    });
  });

  test('with octal escapes in the mount point and in the source', () => {
    const { server, mounted, path } = located(TABLE, '/mnt/with space\\\t/f');
    assert.deepEqual(
      { server, mounted, path },
      { server: 'filer.example', mounted: '/exp ort/a', path: '/f' },
    );
  });

  test('with an IPv6 server, a port of its own and another address for MOUNT', () => {
    assert.deepEqual(located(TABLE, '/mnt/six/a/b'), {
      server: '2001:db8::1',
      addresses: ['2001:db8::1', '2001:db8::2'],
      port: 12049,
      mounted: '/x',
      path: '/a/b',
    });
  });

  test('through a bind mount of a directory, of which NFS shows the source', () => {
    const { mounted, path } = located(TABLE, '/opt/bound/f');
    assert.deepEqual({ mounted, path }, { mounted: '/NAS_12_exp5/sub', path: '/f' });
  });

  test('through a bind mount of the file itself', () => {
    const { mounted, path } = located(TABLE, '/etc/one.conf');
    assert.deepEqual({ mounted, path }, { mounted: '/NAS_12_exp5/conf', path: '/one.conf' });
  });

  test('when the root field holds the bound directory instead', () => {
    const line = `5 1 0:5 /sub / rw - nfs h:/e/sub ${V3}`;
    const { mounted, path } = located(line, '/f');
    assert.deepEqual({ mounted, path }, { mounted: '/e', path: '/sub/f' });
  });

  test('of a directory that is the mount point itself', () => {
    const result = locate(new MountTable(parseMountinfo(Buffer.from(TABLE))), '/mnt/cache', 'directory');
    assert.ok(isLocated(result));
    assert.deepEqual([result.mounted, result.path], ['/NAS_12_exp5', '/']);
    assert.deepEqual(exportOfLocation(result, ['/NAS_12_exp5']), { export: '/NAS_12_exp5', path: '/' });
  });

  test('without the slash that somebody mounted with', () => {
    assert.equal(located(TABLE, '/mnt/slash/f').mounted, '/srv/share');
  });

  test('with bytes that are not UTF-8 in the mount point', () => {
    const line = `5 1 0:5 / /mnt/caf\xe9 rw - nfs h:/e\xff ${V3}`;
    const { mounted, path } = located(line, '/mnt/caf\udce9/x');
    assert.deepEqual({ mounted, path }, { mounted: '/e\udcff', path: '/x' });
  });
});

describe('a path that NFS version 3 cannot reach gets the reason', () => {
  for (const [path, reason] of [
    ['/home/me/file', 'not-nfs'],
    ['/mnt/cachefile', 'not-nfs'],
    ['/mnt/four/file', 'nfs4'],
    ['/proc/self/maps', 'not-nfs'],
  ] as const) {
    test(`${path}: ${reason}`, () => {
      const result = locate(new MountTable(parseMountinfo(Buffer.from(TABLE))), path, 'file');
      assert.equal(isLocated(result) ? 'located' : result.reason, reason);
    });
  }
  test('an nfs mount that negotiated version 4 by option', () => {
    const result = locate(
      new MountTable(parseMountinfo(Buffer.from('5 1 0:5 / / rw - nfs h:/e rw,vers=4.1'))),
      '/f',
      'file',
    );
    assert.equal(isLocated(result) ? 'located' : result.reason, 'nfs4');
  });
  test('an empty table', () => {
    assert.deepEqual(locate(new MountTable([]), '/f', 'file'), { reason: 'no-mount', mount: null });
  });
});

describe('the mount on top is the one that counts', () => {
  const at = (id: number, parentId: number, mountPoint: string): Mount => ({
    id,
    parentId,
    root: '/',
    mountPoint,
    fsType: 'nfs',
    source: `h:/${id}`,
    options: new Map(),
  });
  const idOf = (mounts: Mount[], path: string) => new MountTable(mounts).mountOf(path)?.id;

  test('of two at one place, the later one', () => {
    assert.equal(idOf([at(1, 0, '/'), at(2, 1, '/m'), at(3, 2, '/m')], '/m/f'), 3);
  });
  test('a mount that a later mount of a parent directory covers is not reached', () => {
    assert.equal(idOf([at(1, 0, '/'), at(2, 1, '/m/deep'), at(3, 1, '/m')], '/m/deep/f'), 3);
  });
  test('a root that was mounted over', () => {
    assert.equal(idOf([at(1, 1, '/'), at(2, 1, '/'), at(3, 2, '/m')], '/m'), 3);
  });
  test('in a chroot whose root is no mount', () => {
    assert.equal(idOf([at(7, 4, '/m')], '/m/f'), 7);
    assert.equal(idOf([at(7, 4, '/m')], '/n/f'), undefined);
  });
  test('a table that is no tree ends all the same', () => {
    assert.ok(idOf([at(1, 2, '/'), at(2, 1, '/')], '/f') === undefined);
  });
});

describe('the table is read whatever is in it', () => {
  test('any bytes give a list and no exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => Array.isArray(parseMountinfo(bytes))),
    );
  });

  test('what the kernel escapes comes back, for any mount point', () => {
    const name = fc
      .array(fc.constantFrom(...' \t\n\\#ab:,=-é'), { minLength: 1, maxLength: 12 })
      .map((units) => units.join(''));
    const escaped = (text: string) =>
      Buffer.from(text)
        .toString('latin1')
        .replace(/[ \t\n\\#]/g, (unit) => `\\${unit.charCodeAt(0).toString(8).padStart(3, '0')}`);
    fc.assert(
      fc.property(name, name, (point, below) => {
        const line = `9 1 0:5 / /${escaped(point)} rw shared:1 - nfs h:/${escaped(below)} vers=3`;
        const [mount] = parseMountinfo(Buffer.from(line, 'latin1'));
        assert.equal(mount?.mountPoint, `/${point}`);
        assert.equal(mount?.source, `h:/${below}`);
      }),
    );
  });
});

describe('what the service exports decides where the export ends', () => {
  const location = { mounted: '/NAS/exp5/sub', path: '/a/f' };
  test('no list: what the client mounted', () => {
    assert.deepEqual(exportOfLocation(location, null), { export: '/NAS/exp5/sub', path: '/a/f' });
  });
  test('the longest export that holds the file', () => {
    assert.deepEqual(exportOfLocation(location, ['/', '/NAS', '/NAS/exp5/', '/NAS/exp']), {
      export: '/NAS/exp5/',
      path: '/sub/a/f',
    });
  });
  test('the export below a mount of the whole namespace', () => {
    assert.deepEqual(exportOfLocation({ mounted: '/', path: '/exp5/f' }, ['/exp5']), {
      export: '/exp5',
      path: '/f',
    });
  });
  test('none holds it', () => {
    assert.equal(exportOfLocation(location, ['/other']), null);
  });
});

test('hosts are the same whatever their spelling', () => {
  assert.ok(sameHost('Cache.Example.', 'cache.example'));
  assert.ok(sameHost('[2001:DB8:0::1]', '2001:db8::1'));
  assert.ok(sameHost('fe80::1%eth0', 'fe80:0::1%eth0'));
  assert.ok(!sameHost('fe80::1%eth0', 'fe80::1%eth1'));
  assert.ok(!sameHost('10.0.0.1', '10.0.0.10'));
});
