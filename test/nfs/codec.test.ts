import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import * as mount3 from '../../src/nfs/mount3.js';
import { nfsStatusText } from '../../src/nfs/nfs3.js';
import {
  ACCESS,
  COMMIT,
  FSINFO,
  GETATTR,
  LOOKUP,
  NULL,
  READDIR,
  READDIRPLUS,
  READLINK,
} from '../../src/nfs/nfs3-procedures.js';
import { GETADDR_V4, GETPORT, universalAddressPort } from '../../src/nfs/portmap.js';
import { beginRecord, endRecord } from '../../src/nfs/record.js';
import {
  AUTH_SYS,
  type AuthSys,
  encodeAuth,
  type Procedure,
  readAuthSys,
  readCallHeader,
  readReplyHeader,
  writeCallHeader,
} from '../../src/nfs/rpc.js';
import { XdrError, XdrReader, XdrWriter } from '../../src/nfs/xdr.js';
import { REGULAR, writeDirectoryPage, writeFattr } from '../support/fault-server.js';

interface GoldenRecord {
  name: string;
  hex: string;
  status?: number;
  offset?: string;
  count?: number;
}

const fixture = new URL('../../../test/fixtures/nfs/flush-session.json', import.meta.url);
const { records } = JSON.parse(readFileSync(fixture, 'utf8')) as { records: GoldenRecord[] };

function golden(name: string): Buffer {
  const record = records.find((each) => each.name === name);
  assert.ok(record, `no golden record ${name}`);
  return Buffer.from(record.hex, 'hex');
}

const AUTH: AuthSys = { stamp: 0x6b01381e, machineName: 'localhost', uid: 0, gid: 0, gids: [] };
const ROOT = Buffer.from('4300000112441ddc804a1998f91c018565210078b79b0e00', 'hex');
const PLAIN = Buffer.from('4300000112441ddc804a1998f91c0189652100212d146600', 'hex');

function encodeCall<Args>(
  xid: number,
  procedure: Procedure<Args, unknown>,
  args: Args,
  auth: AuthSys | null,
): Buffer {
  const writer = new XdrWriter();
  const start = beginRecord(writer);
  writeCallHeader(writer, xid, procedure, encodeAuth(auth));
  procedure.encode(writer, args);
  endRecord(writer, start);
  return writer.take();
}

/** Reads a reply record: its xid, then header and results to their end. */
function decodeReply<Result>(record: Uint8Array, procedure: Procedure<never, Result>): Result {
  const reader = new XdrReader(record, 4);
  reader.uint32();
  assert.equal(readReplyHeader(reader), null);
  return procedure.decode(reader);
}

const FLUSH = { handle: PLAIN, offsetHigh: 0x1234abcd, offsetLow: 0xdeaddead };

const CALLS: [string, Buffer][] = [
  [
    'portmap GETPORT MOUNT3/TCP call',
    encodeCall(1, GETPORT, { program: mount3.MOUNT_PROGRAM, version: mount3.MOUNT_V3 }, null),
  ],
  ['NFS3 NULL call, AUTH_SYS', encodeCall(1, NULL, null, AUTH)],
  ["NFS3 LOOKUP call, name 'plain'", encodeCall(2, LOOKUP, { dir: ROOT, name: Buffer.from('plain') }, AUTH)],
  [
    'NFS3 COMMIT call: HPC Cache asynchronous flush',
    encodeCall(3, COMMIT, { ...FLUSH, count: 0xadeadbe6 }, AUTH),
  ],
  ['NFS3 COMMIT call: HPC Cache flush status', encodeCall(4, COMMIT, { ...FLUSH, count: 0xadeadbe5 }, AUTH)],
  [
    'NFS3 COMMIT call: HPC Cache synchronous flush',
    encodeCall(3, COMMIT, { ...FLUSH, count: 0xabadbeef }, AUTH),
  ],
];

const BRIEF = { type: 1, size: 5, fileid: '2188681' };
const MTIME_MS = 0x6b01328b * 1000 + 0x091034c5 / 1e6;

const REPLIES: [string, Procedure<never, unknown>, unknown][] = [
  ['portmap GETPORT reply (20048)', GETPORT, 20048],
  ['portmap GETPORT NFS3 reply (20049)', GETPORT, 20049],
  ['MOUNT3 MNT reply, one flavour (AUTH_SYS)', mount3.MNT, { status: 0, handle: ROOT, flavors: [1] }],
  ['NFS3 NULL reply', NULL, null],
  ['NFS3 LOOKUP reply', LOOKUP, { status: 0, handle: PLAIN, attributes: { ...BRIEF, mtimeMs: MTIME_MS } }],
  [
    'NFS3 COMMIT reply, status 0, with wcc_data and verifier',
    COMMIT,
    { status: 0, attributes: { ...BRIEF, mtimeMs: MTIME_MS }, verifier: '1c38016b00000000' },
  ],
  [
    'NFS3 COMMIT reply',
    COMMIT,
    { status: 0, attributes: { ...BRIEF, mtimeMs: MTIME_MS }, verifier: '1c38016b00000000' },
  ],
];

describe('golden records of an independent client and server', () => {
  it('are all covered', () => {
    const covered = new Set([...CALLS, ...REPLIES].map(([name]) => name));
    assert.deepEqual(
      records.map((record) => record.name).filter((name) => !covered.has(name)),
      [],
    );
  });

  for (const [name, encoded] of CALLS) {
    it(`encodes ${name} to the same bytes`, () =>
      assert.equal(encoded.toString('hex'), golden(name).toString('hex')));
  }

  for (const [name, procedure, expected] of REPLIES) {
    it(`decodes ${name}`, () => assert.deepEqual(decodeReply(golden(name), procedure), expected));

    it(`refuses every truncation of ${name}, and anything after it`, () => {
      const record = golden(name);
      for (let end = 4; end < record.length; end++) {
        assert.throws(() => decodeReply(record.subarray(0, end), procedure), XdrError, `cut at ${end}`);
      }
      for (const extra of [1, 4]) {
        const longer = Buffer.concat([record, Buffer.alloc(extra)]);
        assert.throws(() => decodeReply(longer, procedure), XdrError);
      }
    });
  }

  for (const { name, offset, count } of records.filter((record) => record.offset !== undefined)) {
    it(`reads ${name} as a server does`, () => {
      const reader = new XdrReader(golden(name), 4);
      const header = readCallHeader(reader);
      assert.deepEqual(
        [header.rpcVersion, header.program, header.version, header.procedure, header.authFlavor],
        [2, 100003, 3, 21, AUTH_SYS],
      );
      assert.deepEqual(readAuthSys(header.authBody), AUTH);
      assert.deepEqual(reader.opaque(64), PLAIN);
      assert.equal(reader.uint64Text(), offset);
      assert.equal(reader.uint32(), count);
      reader.finish();
    });

    it(`refuses every truncation of ${name}`, () => {
      const record = golden(name);
      for (let end = 4; end < record.length; end++) {
        assert.throws(() => {
          const reader = new XdrReader(record, 4, end);
          readCallHeader(reader);
          reader.opaque(64);
          reader.uint64();
          reader.uint32();
        }, XdrError);
      }
    });
  }
});

function results(write: (writer: XdrWriter) => void): XdrReader {
  const writer = new XdrWriter(16);
  write(writer);
  return new XdrReader(writer.take());
}

describe('results', () => {
  it('keep every status, also one that RFC 1813 does not know', () => {
    for (const status of [2, 10002, 10008, 66, 4711]) {
      const failed = { status, handle: null, attributes: null };
      assert.deepEqual(
        LOOKUP.decode(
          results((w) => {
            w.uint32(status);
            w.bool(false);
          }),
        ),
        failed,
      );
      assert.deepEqual(
        COMMIT.decode(
          results((w) => {
            w.uint32(status);
            w.bool(false);
            w.bool(true);
            writeFattr(w, REGULAR);
          }),
        ),
        {
          status,
          attributes: { type: 1, size: 5, mtimeMs: 1_700_000_000_500, fileid: '7' },
          verifier: '',
        },
      );
    }
    assert.equal(nfsStatusText(2), 'NFS3ERR_NOENT (2)');
    assert.equal(nfsStatusText(4711), 'status 4711');
  });

  it('refuse a handle of 65 bytes, and take one of 64', () => {
    const lookup = (length: number) =>
      LOOKUP.decode(
        results((w) => {
          w.uint32(0);
          w.opaque(Buffer.alloc(length, 1));
          w.bool(false);
          w.bool(false);
        }),
      );
    assert.equal(lookup(64).handle?.length, 64);
    assert.throws(() => lookup(65), XdrError);
    const mnt = results((w) => {
      w.uint32(0);
      w.opaque(Buffer.alloc(65));
      w.uint32(0);
    });
    assert.throws(() => mount3.MNT.decode(mnt), XdrError);
  });

  it('refuse lengths that promise more than there is, before any memory is taken', () => {
    for (const length of [0xffff_ffff, 0x7fff_ffff, 65537, 40]) {
      assert.throws(
        () =>
          READLINK.decode(
            results((w) => {
              w.uint32(0);
              w.bool(false);
              w.uint32(length);
              w.raw(Buffer.alloc(8));
            }),
          ),
        XdrError,
      );
      assert.throws(
        () =>
          mount3.MNT.decode(
            results((w) => {
              w.uint32(0);
              w.opaque(ROOT);
              w.uint32(length);
            }),
          ),
        XdrError,
      );
    }
  });

  it('refuse booleans other than 0 and 1, and file types that do not exist', () => {
    assert.throws(
      () =>
        LOOKUP.decode(
          results((w) => {
            w.uint32(0);
            w.opaque(ROOT);
            w.uint32(2);
            writeFattr(w, REGULAR);
            w.bool(false);
          }),
        ),
      XdrError,
    );
    for (const type of [0, 8, 0xffff_ffff]) {
      const getattr = results((w) => {
        w.uint32(0);
        writeFattr(w, { ...REGULAR, type });
      });
      assert.throws(() => GETATTR.decode(getattr), XdrError);
    }
  });

  it('give a directory page with what the server left out as null', () => {
    const entries = [
      { name: 'a', cookie: 1, attributes: REGULAR, handle: ROOT },
      { name: 'bcd', cookie: 2 ** 33 + 5, attributes: null, handle: null },
    ];
    const brief = { type: 1, size: 5, mtimeMs: 1_700_000_000_500, fileid: '7' };
    const page = READDIRPLUS.decode(results((w) => writeDirectoryPage(w, true, entries, false)));
    assert.deepEqual(page, {
      status: 0,
      entries: [
        { name: Buffer.from('a'), fileid: '1', handle: ROOT, attributes: brief },
        { name: Buffer.from('bcd'), fileid: '8589934597', handle: null, attributes: null },
      ],
      next: { cookieHigh: 2, cookieLow: 5, verifier: Buffer.from('verifier') },
    });
    const last = READDIR.decode(results((w) => writeDirectoryPage(w, false, entries, true)));
    assert.deepEqual([last.entries.map((entry) => entry.name.toString()), last.next], [['a', 'bcd'], null]);
  });

  it('refuse a directory page that has neither entries nor an end', () => {
    assert.throws(() => READDIRPLUS.decode(results((w) => writeDirectoryPage(w, true, [], false))), XdrError);
    assert.deepEqual(READDIR.decode(results((w) => writeDirectoryPage(w, false, [], true))).entries, []);
  });
});

describe('any bytes instead of results', () => {
  for (const [name, procedure] of REPLIES) {
    it(`(a damaged ${name}) give a result or XdrError, nothing else`, () => {
      const record = golden(name);
      fc.assert(
        fc.property(
          fc.array(fc.tuple(fc.nat(record.length - 5), fc.nat(255)), { maxLength: 4 }),
          (damages) => {
            const damaged = Buffer.from(record);
            for (const [at, byte] of damages) damaged[4 + at] = byte;
            const reader = new XdrReader(damaged, 4);
            try {
              reader.uint32();
              if (readReplyHeader(reader) === null) procedure.decode(reader);
            } catch (error) {
              assert.ok(error instanceof XdrError, String(error));
            }
          },
        ),
      );
    });
  }

  for (const procedure of [GETATTR, ACCESS, READLINK, READDIR, READDIRPLUS, FSINFO, mount3.EXPORT]) {
    it(`(for ${procedure.name}) give a result or XdrError, nothing else`, () => {
      const word = fc.oneof(fc.constantFrom(0, 1, 2, 3, 8, 64), fc.nat(0xffff_ffff));
      fc.assert(
        fc.property(fc.array(word, { maxLength: 60 }), (words) => {
          const reader = results((w) => {
            for (const each of words) w.uint32(each);
          });
          try {
            procedure.decode(reader);
          } catch (error) {
            assert.ok(error instanceof XdrError, String(error));
          }
        }),
      );
    });
  }
});

describe('AUTH_SYS', () => {
  it('carries at most 16 gids and 255 bytes of machine name, whole characters only', () => {
    const auth = encodeAuth({
      ...AUTH,
      machineName: 'ä'.repeat(200),
      gids: Array.from({ length: 20 }, (_, i) => i + 100),
    });
    const reader = new XdrReader(auth);
    assert.equal(reader.uint32(), AUTH_SYS);
    const body = readAuthSys(reader.opaque(400));
    assert.deepEqual(
      body.gids,
      Array.from({ length: 16 }, (_, i) => i + 100),
    );
    assert.equal(body.machineName, 'ä'.repeat(127));
  });

  it('pads names of every length', () => {
    for (let length = 0; length < 9; length++) {
      const auth = encodeAuth({ ...AUTH, machineName: 'x'.repeat(length), uid: 0xffff_ffff });
      assert.equal(auth.length % 4, 0);
      const reader = new XdrReader(auth, 4);
      assert.deepEqual(readAuthSys(reader.opaque(400)), {
        ...AUTH,
        machineName: 'x'.repeat(length),
        uid: 0xffff_ffff,
      });
    }
  });
});

describe('replies that are no success', () => {
  const failure = (...words: number[]) =>
    readReplyHeader(
      results((w) => {
        for (const word of words) w.uint32(word);
      }),
    );

  it('are told apart', () => {
    assert.deepEqual(failure(1, 0, 0, 0, 1), { kind: 'prog-unavail' });
    assert.deepEqual(failure(1, 0, 0, 0, 2, 4, 4), { kind: 'prog-mismatch', low: 4, high: 4 });
    assert.deepEqual(failure(1, 0, 0, 0, 3), { kind: 'proc-unavail' });
    assert.deepEqual(failure(1, 0, 0, 0, 4), { kind: 'garbage-args' });
    assert.deepEqual(failure(1, 0, 0, 0, 5), { kind: 'system-err' });
    assert.deepEqual(failure(1, 1, 1, 5), { kind: 'auth-error', authStat: 5 });
    assert.deepEqual(failure(1, 1, 0, 2, 2), { kind: 'rpc-mismatch', low: 2, high: 2 });
  });

  it('are refused when they are no replies at all', () => {
    assert.throws(() => failure(0, 0, 0, 0, 0), XdrError);
    assert.throws(() => failure(1, 2, 0), XdrError);
    assert.throws(() => failure(1, 0, 0, 0, 6), XdrError);
    assert.throws(() => failure(1, 1, 2, 0), XdrError);
    assert.throws(() => failure(1, 1, 1, 5, 0), XdrError);
    assert.throws(() => failure(1, 0, 0, 0xffff_ffff, 0), XdrError);
  });

  it('skip the padding of a verifier of any length', () => {
    for (let length = 0; length < 9; length++) {
      const reader = results((w) => {
        w.uint32(1);
        w.uint32(0);
        w.uint32(6);
        w.opaque(Buffer.alloc(length, 0xff));
        w.uint32(0);
        w.uint32(20049);
      });
      assert.equal(readReplyHeader(reader), null);
      assert.equal(GETPORT.decode(reader), 20049);
    }
  });
});

describe('rpcbind', () => {
  it('asks for an address by transport', () => {
    const reader = results((w) => GETADDR_V4.encode(w, { program: 100003, version: 3, netid: 'tcp6' }));
    assert.deepEqual([reader.uint32(), reader.uint32()], [100003, 3]);
    assert.deepEqual([reader.text(64), reader.text(64), reader.text(64)], ['tcp6', '', '']);
    reader.finish();
  });

  it('reads the port of a universal address', () => {
    assert.equal(universalAddressPort('192.0.2.1.8.1'), 2049);
    assert.equal(universalAddressPort('::1.78.81'), 20049);
    for (const wrong of ['', '2049', '::1.8', '::1.256.1', '::1.8.x']) {
      assert.equal(universalAddressPort(wrong), null);
    }
  });
});

describe('MOUNT3 EXPORT', () => {
  it('lists paths with their groups', () => {
    const reader = results((w) => {
      w.bool(true);
      w.text('/a');
      w.bool(true);
      w.text('10.0.0.0/8');
      w.bool(true);
      w.text('host');
      w.bool(false);
      w.bool(true);
      w.text('/b');
      w.bool(false);
      w.bool(false);
    });
    assert.deepEqual(mount3.EXPORT.decode(reader), [
      { path: '/a', groups: ['10.0.0.0/8', 'host'] },
      { path: '/b', groups: [] },
    ]);
  });
});
