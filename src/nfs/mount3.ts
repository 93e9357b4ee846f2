import type { Procedure } from './rpc.js';
import { XdrError } from './xdr.js';

/** MOUNT version 3 (RFC 1813 appendix I). */

export const MOUNT_PROGRAM = 100005;
export const MOUNT_V3 = 3;

export const MOUNTPROC3_NULL = 0;
export const MOUNTPROC3_MNT = 1;
export const MOUNTPROC3_DUMP = 2;
export const MOUNTPROC3_UMNT = 3;
export const MOUNTPROC3_UMNTALL = 4;
export const MOUNTPROC3_EXPORT = 5;

export const MNTPATHLEN = 1024;
export const MNTNAMLEN = 255;
export const FHSIZE3 = 64;

/** mountstat3 → name */
export const MOUNTSTAT3: Readonly<Record<number, string>> = {
  0: 'MNT3_OK',
  1: 'MNT3ERR_PERM',
  2: 'MNT3ERR_NOENT',
  5: 'MNT3ERR_IO',
  13: 'MNT3ERR_ACCES',
  20: 'MNT3ERR_NOTDIR',
  22: 'MNT3ERR_INVAL',
  63: 'MNT3ERR_NAMETOOLONG',
  10004: 'MNT3ERR_NOTSUPP',
  10006: 'MNT3ERR_SERVERFAULT',
};
export const MNT3_OK = 0;

const MAX_FLAVORS = 64;
const MAX_EXPORTS = 65536;
const MAX_GROUPS = 65536;

export interface MntResult {
  status: number;
  handle: Buffer | null;
  /** The auth_flavor numbers that the server takes for this export. */
  flavors: number[];
}

export interface ExportEntry {
  path: string;
  /** Whom it is exported to, as the server words it; empty: everybody. */
  groups: string[];
}

function mountProcedure<Args, Result>(
  number: number,
  name: string,
  encode: Procedure<Args, Result>['encode'],
  decode: Procedure<Args, Result>['decode'],
): Procedure<Args, Result> {
  return { program: MOUNT_PROGRAM, version: MOUNT_V3, number, name: `MOUNT3 ${name}`, encode, decode };
}

export const NULL = mountProcedure<null, null>(
  MOUNTPROC3_NULL,
  'NULL',
  () => {},
  (reader) => {
    reader.finish();
    return null;
  },
);

export const MNT = mountProcedure<{ path: Uint8Array }, MntResult>(
  MOUNTPROC3_MNT,
  'MNT',
  (writer, { path }) => writer.opaque(path),
  (reader) => {
    const status = reader.uint32();
    if (status !== MNT3_OK) {
      reader.finish();
      return { status, handle: null, flavors: [] };
    }
    const handle = reader.opaque(FHSIZE3);
    const count = reader.uint32();
    if (count > MAX_FLAVORS) throw new XdrError(`${count} flavours`, reader.offset - 4);
    const flavors: number[] = [];
    for (let i = 0; i < count; i++) flavors.push(reader.uint32());
    reader.finish();
    return { status, handle, flavors };
  },
);

export const UMNT = mountProcedure<{ path: Uint8Array }, null>(
  MOUNTPROC3_UMNT,
  'UMNT',
  (writer, { path }) => writer.opaque(path),
  (reader) => {
    reader.finish();
    return null;
  },
);

export const EXPORT = mountProcedure<null, ExportEntry[]>(
  MOUNTPROC3_EXPORT,
  'EXPORT',
  () => {},
  (reader) => {
    const exports: ExportEntry[] = [];
    while (reader.bool()) {
      if (exports.length === MAX_EXPORTS) throw new XdrError('too many exports', reader.offset);
      const path = reader.text(MNTPATHLEN);
      const groups: string[] = [];
      while (reader.bool()) {
        if (groups.length === MAX_GROUPS) throw new XdrError('too many groups', reader.offset);
        groups.push(reader.text(MNTNAMLEN));
      }
      exports.push({ path, groups });
    }
    reader.finish();
    return exports;
  },
);
