import {
  MNT3_OK,
  MNTPATHLEN,
  MOUNT_PROGRAM,
  MOUNT_V3,
  MOUNTPROC3_DUMP,
  MOUNTPROC3_EXPORT,
  MOUNTPROC3_MNT,
  MOUNTPROC3_NULL,
  MOUNTPROC3_UMNT,
  MOUNTPROC3_UMNTALL,
} from '../nfs/mount3.js';
import { NF3DIR, NFS3ERR_ACCES, NFS3ERR_NOENT, NFS3ERR_NOTDIR } from '../nfs/nfs3.js';
import { AUTH_SYS } from '../nfs/rpc.js';
import type { FaultTable } from './faults.js';
import { splitPath } from './handles.js';
import { doNothing, procedureEntry } from './procedure-entry.js';
import type { Call, Procedure, RpcProgram } from './rpc-server.js';
import { NfsStatusError, nfsStatusOf } from './status.js';
import type { Located, Volume } from './volume.js';

/** DUMP lists what was mounted last; the list is a hint by definition (RFC 1813 appendix I). */
const MAX_MOUNTS_LISTED = 1024;

/** MOUNT version 3. An export, or any directory below one, can be mounted by anybody. */
export function mountProgram(volumes: readonly Volume[], faults: FaultTable): RpcProgram {
  const mounts = new Map<string, { host: string; path: Buffer }>();

  const mnt: Procedure = (args, results, call) => {
    const path = args.opaque(MNTPATHLEN);
    args.finish();
    const fate = call.fate?.instead;
    try {
      if (fate !== null && typeof fate === 'object') throw new NfsStatusError(fate.status);
      const directory = mountedDirectory(volumes, path);
      rememberMount(path, call);
      results.uint32(MNT3_OK);
      results.opaque(directory.handle);
      results.uint32(1);
      results.uint32(AUTH_SYS);
    } catch (error) {
      // mountstat3 shares its numbers with nfsstat3.
      results.uint32(nfsStatusOf(error));
    }
    return undefined;
  };

  const rememberMount = (path: Buffer, call: Call): void => {
    const key = mountKey(path, call);
    mounts.delete(key);
    mounts.set(key, { host: call.remoteAddress, path });
    if (mounts.size <= MAX_MOUNTS_LISTED) return;
    const oldest = mounts.keys().next();
    if (!oldest.done) mounts.delete(oldest.value);
  };

  const dump: Procedure = (args, results) => {
    args.finish();
    for (const { host, path } of mounts.values()) {
      results.bool(true);
      results.text(host);
      results.opaque(path);
    }
    results.bool(false);
    return undefined;
  };

  const umnt: Procedure = (args, _results, call) => {
    const path = args.opaque(MNTPATHLEN);
    args.finish();
    mounts.delete(mountKey(path, call));
    return undefined;
  };

  const umntall: Procedure = (args, _results, call) => {
    args.finish();
    for (const [key, mount] of mounts) if (mount.host === call.remoteAddress) mounts.delete(key);
    return undefined;
  };

  const exports: Procedure = (args, results) => {
    args.finish();
    for (const volume of volumes) {
      results.bool(true);
      results.text(volume.exportPath);
      // No groups: everybody.
      results.bool(false);
    }
    results.bool(false);
    return undefined;
  };

  const entry = (name: string, run: Procedure) => procedureEntry(name, faults, run);
  return {
    program: MOUNT_PROGRAM,
    versions: new Map([
      [
        MOUNT_V3,
        new Map([
          [MOUNTPROC3_NULL, entry('MOUNTPROC3_NULL', doNothing)],
          [MOUNTPROC3_MNT, entry('MNT', mnt)],
          [MOUNTPROC3_DUMP, entry('DUMP', dump)],
          [MOUNTPROC3_UMNT, entry('UMNT', umnt)],
          [MOUNTPROC3_UMNTALL, entry('UMNTALL', umntall)],
          [MOUNTPROC3_EXPORT, entry('EXPORT', exports)],
        ]),
      ],
    ]),
  };
}

function mountKey(path: Buffer, call: Call): string {
  return `${call.remoteAddress} ${path.toString('latin1')}`;
}

/** The directory that a path of the namespace names: the export with the longest path that leads to it, and on. */
function mountedDirectory(volumes: readonly Volume[], path: Buffer): Located {
  const names = splitPath(path).filter((name) => name.length > 0);
  let best: Volume | null = null;
  let bestLength = -1;
  for (const volume of volumes) {
    const own = exportNames(volume);
    const leads = own.length <= names.length && own.every((name, i) => names[i]?.equals(name));
    if (leads && own.length > bestLength) {
      best = volume;
      bestLength = own.length;
    }
  }
  if (best === null) throw new NfsStatusError(NFS3ERR_NOENT);
  let directory = best.root();
  for (const name of names.slice(bestLength)) {
    if (name.equals(DOT) || name.equals(DOT_DOT) || name.includes(0)) throw new NfsStatusError(NFS3ERR_ACCES);
    const child = best.lookup(directory, name);
    if (child === null) throw new NfsStatusError(NFS3ERR_NOENT);
    if (child.attributes.type !== NF3DIR) throw new NfsStatusError(NFS3ERR_NOTDIR);
    directory = child;
  }
  return directory;
}

const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');

function exportNames(volume: Volume): Buffer[] {
  return splitPath(Buffer.from(volume.exportPath)).filter((name) => name.length > 0);
}
