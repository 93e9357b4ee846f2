import {
  ACCESS3_EXECUTE,
  ACCESS3_LOOKUP,
  ACCESS3_READ,
  MAX_NAME_BYTES,
  NF3DIR,
  NF3LNK,
  NF3REG,
  NFS_PROGRAM,
  NFS_V3,
  NFS3_FHSIZE,
  NFS3_OK,
  NFS3ERR_ACCES,
  NFS3ERR_BADHANDLE,
  NFS3ERR_INVAL,
  NFS3ERR_ISDIR,
  NFS3ERR_NAMETOOLONG,
  NFS3ERR_NOENT,
  NFS3ERR_NOTDIR,
  NFS3ERR_ROFS,
  NFS3ERR_STALE,
  NFSPROC3_ACCESS,
  NFSPROC3_COMMIT,
  NFSPROC3_CREATE,
  NFSPROC3_FSINFO,
  NFSPROC3_FSSTAT,
  NFSPROC3_GETATTR,
  NFSPROC3_LINK,
  NFSPROC3_LOOKUP,
  NFSPROC3_MKDIR,
  NFSPROC3_MKNOD,
  NFSPROC3_NULL,
  NFSPROC3_PATHCONF,
  NFSPROC3_READ,
  NFSPROC3_READDIR,
  NFSPROC3_READDIRPLUS,
  NFSPROC3_READLINK,
  NFSPROC3_REMOVE,
  NFSPROC3_RENAME,
  NFSPROC3_RMDIR,
  NFSPROC3_SETATTR,
  NFSPROC3_SYMLINK,
  NFSPROC3_WRITE,
} from '../nfs/nfs3.js';
import type { XdrReader, XdrWriter } from '../nfs/xdr.js';
import { type CommitArgs, type CommitService, commitNames, readCommitArgs } from './commit-service.js';
import { readdir, readdirplus, readReaddirArgs, readReaddirplusArgs } from './directory-pages.js';
import type { FaultTable } from './faults.js';
import { volumeIdOf } from './handles.js';
import { writeFattr, writePostOpAttr, writeWccData } from './nfs-results.js';
import { demand, demandContent, isAllowed, MAY_EXECUTE, MAY_READ, type Permissions } from './permissions.js';
import { doNothing, procedureEntry } from './procedure-entry.js';
import type { Call, ProcedureEntry, RpcProgram, WriteResults } from './rpc-server.js';
import { NfsStatusError, nfsStatusOf } from './status.js';
import type { Attributes, Located, Volume } from './volume.js';

export interface NfsServiceOptions {
  volumes: readonly Volume[];
  commits: CommitService;
  faults: FaultTable;
  permissions: Permissions;
}

/** Small, because one segment can hold many calls, and the answer to each waits in memory. */
const MAX_READ_BYTES = 128 << 10;
const PREFERRED_DIRECTORY_BYTES = 64 << 10;
const MAX_COMPONENT_BYTES = 255;
const MAX_LINKS = 32_000;
const FSF3_LINK_SYMLINK_HOMOGENEOUS = 0x01 | 0x02 | 0x08;

/** One call on a file or directory that is there, with its arguments read. */
interface FileCall<Args> {
  volume: Volume;
  file: Located;
  args: Args;
  call: Call;
}

/** NFS version 3 (RFC 1813) for reading and COMMIT; whatever would change the cache's files is refused with ROFS. */
export function nfsProgram(options: NfsServiceOptions): RpcProgram {
  const { faults, permissions, commits } = options;
  const volumes = new Map(options.volumes.map((volume) => [volume.volumeId, volume]));

  /** A procedure whose first argument is a handle; `subject` tells faults what the call is about. */
  function onFile<Args>(
    name: string,
    writeFailure: (results: XdrWriter, attributes: Attributes | null) => void,
    readArgs: (args: XdrReader) => Args,
    run: (call: FileCall<Args>, results: XdrWriter) => undefined | Promise<WriteResults>,
    subject: (file: Located, args: Args) => { names: readonly string[]; path: Buffer } = (file) => ({
      names: [name, '*'],
      path: file.path,
    }),
  ): ProcedureEntry {
    return {
      name,
      calls: 0,
      run(reader, results, call) {
        const handle = reader.opaque(NFS3_FHSIZE);
        const args = readArgs(reader);
        reader.finish();
        const start = results.length;
        let file: Located | null = null;
        const fail = (writer: XdrWriter, error: unknown): void => {
          writer.uint32(nfsStatusOf(error));
          writeFailure(writer, file?.attributes ?? null);
        };
        try {
          const volume = volumes.get(volumeIdOf(handle) ?? -1);
          if (volume === undefined) throw new NfsStatusError(NFS3ERR_BADHANDLE);
          file = volume.find(handle);
          if (file === null) throw new NfsStatusError(NFS3ERR_STALE);
          if (!faults.empty) {
            const { names, path } = subject(file, args);
            call.fate = faults.fateOf(names, path);
            const instead = call.fate?.instead ?? null;
            if (typeof instead === 'string') return undefined;
            if (instead !== null) throw new NfsStatusError(instead.status);
          }
          return run({ volume, file, args, call }, results)?.catch(
            (error: unknown): WriteResults =>
              (writer) =>
                fail(writer, error),
          );
        } catch (error) {
          results.length = start;
          fail(results, error);
          return undefined;
        }
      },
    };
  }

  const getattr = onFile('GETATTR', writeNothing, readNothing, ({ file }, results) => {
    results.uint32(NFS3_OK);
    writeFattr(results, file.attributes);
    return undefined;
  });

  const lookup = onFile(
    'LOOKUP',
    writePostOpAttr,
    (args) => args.opaque(MAX_NAME_BYTES),
    ({ volume, file, args: name, call }, results) => {
      if (file.attributes.type !== NF3DIR) throw new NfsStatusError(NFS3ERR_NOTDIR);
      demand(permissions, file.attributes, call.credential, MAY_EXECUTE);
      checkName(name);
      const found = name.equals(DOT) ? file : volume.lookup(file, name);
      if (found === null) throw new NfsStatusError(NFS3ERR_NOENT);
      results.uint32(NFS3_OK);
      results.opaque(found.handle);
      writePostOpAttr(results, found.attributes);
      writePostOpAttr(results, file.attributes);
      return undefined;
    },
    (directory, name) => ({
      names: ['LOOKUP', '*'],
      path: directory.path.length === 0 ? name : Buffer.concat([directory.path, SLASH, name]),
    }),
  );

  const access = onFile(
    'ACCESS',
    writePostOpAttr,
    (args) => args.uint32(),
    ({ file, args: asked, call }, results) => {
      results.uint32(NFS3_OK);
      writePostOpAttr(results, file.attributes);
      results.uint32(asked & grantedAccess(permissions, file.attributes, call));
      return undefined;
    },
  );

  const readlink = onFile('READLINK', writePostOpAttr, readNothing, ({ volume, file }, results) => {
    if (file.attributes.type !== NF3LNK) throw new NfsStatusError(NFS3ERR_INVAL);
    const target = volume.readlink(file);
    results.uint32(NFS3_OK);
    writePostOpAttr(results, file.attributes);
    results.opaque(target);
    return undefined;
  });

  const read = onFile(
    'READ',
    writePostOpAttr,
    (args) => ({ offset: args.uint64(), count: args.uint32() }),
    async ({ volume, file, args: { offset, count }, call }) => {
      demandRegular(file.attributes);
      demandContent(permissions, file.attributes, call.credential, MAY_READ, MAY_EXECUTE);
      call.expectedBytes = Math.min(count, MAX_READ_BYTES);
      const data = await volume.read(file, offset, call.expectedBytes);
      return (results) => {
        results.uint32(NFS3_OK);
        writePostOpAttr(results, file.attributes);
        results.uint32(data.length);
        results.bool(offset + data.length >= file.attributes.size);
        results.opaque(data);
      };
    },
  );

  const commit = onFile<CommitArgs>(
    'COMMIT',
    writeWccData,
    readCommitArgs,
    ({ volume, file, args, call }, results) => {
      demandRegular(file.attributes);
      return commits.commit(volume, file, args, call.credential, results);
    },
    (file, args) => ({ names: commitNames(args), path: file.path }),
  );

  const fsstat = onFile('FSSTAT', writePostOpAttr, readNothing, ({ volume, file }, results) => {
    const space = volume.space();
    results.uint32(NFS3_OK);
    writePostOpAttr(results, file.attributes);
    results.uint64Number(space.totalBytes);
    results.uint64Number(space.freeBytes);
    results.uint64Number(space.availableBytes);
    results.uint64Number(space.totalFiles);
    results.uint64Number(space.freeFiles);
    results.uint64Number(space.freeFiles);
    results.uint32(0);
    return undefined;
  });

  const fsinfo = onFile('FSINFO', writePostOpAttr, readNothing, ({ file }, results) => {
    results.uint32(NFS3_OK);
    writePostOpAttr(results, file.attributes);
    for (const bytes of [MAX_READ_BYTES, MAX_READ_BYTES, 1]) results.uint32(bytes);
    for (const bytes of [MAX_READ_BYTES, MAX_READ_BYTES, 1]) results.uint32(bytes);
    results.uint32(PREFERRED_DIRECTORY_BYTES);
    // maxfilesize, time_delta
    results.uint64Number(Number.MAX_SAFE_INTEGER);
    results.uint32(0);
    results.uint32(1);
    results.uint32(FSF3_LINK_SYMLINK_HOMOGENEOUS);
    return undefined;
  });

  const pathconf = onFile('PATHCONF', writePostOpAttr, readNothing, ({ file }, results) => {
    results.uint32(NFS3_OK);
    writePostOpAttr(results, file.attributes);
    results.uint32(MAX_LINKS);
    results.uint32(MAX_COMPONENT_BYTES);
    // no_trunc, chown_restricted, case_insensitive, case_preserving
    for (const value of [true, true, false, true]) results.bool(value);
    return undefined;
  });

  const procedures = new Map<number, ProcedureEntry>([
    [NFSPROC3_NULL, procedureEntry('NULL', faults, doNothing)],
    [NFSPROC3_GETATTR, getattr],
    [NFSPROC3_LOOKUP, lookup],
    [NFSPROC3_ACCESS, access],
    [NFSPROC3_READLINK, readlink],
    [NFSPROC3_READ, read],
    [NFSPROC3_READDIR, onFile('READDIR', writePostOpAttr, readReaddirArgs, listing(readdir))],
    [NFSPROC3_READDIRPLUS, onFile('READDIRPLUS', writePostOpAttr, readReaddirplusArgs, listing(readdirplus))],
    [NFSPROC3_FSSTAT, fsstat],
    [NFSPROC3_FSINFO, fsinfo],
    [NFSPROC3_PATHCONF, pathconf],
    [NFSPROC3_COMMIT, commit],
  ]);
  for (const [number, name, failureWords] of REFUSED) procedures.set(number, refused(name, failureWords));
  return { program: NFS_PROGRAM, versions: new Map([[NFS_V3, procedures]]) };

  function listing<Args>(
    page: (volume: Volume, directory: Located, args: Args, results: XdrWriter) => void,
  ): (call: FileCall<Args>, results: XdrWriter) => undefined {
    return ({ volume, file, args, call }, results) => {
      if (file.attributes.type !== NF3DIR) throw new NfsStatusError(NFS3ERR_NOTDIR);
      demand(permissions, file.attributes, call.credential, MAY_READ);
      page(volume, file, args, results);
      return undefined;
    };
  }
}

const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');
const SLASH = Buffer.from('/');

/**
 * Names that are no names. ".." is refused although RFC 1813 has it as an alias: nobody needs it who keeps the
 * handles of the directories above, and what is never followed cannot lead out of the export.
 */
function checkName(name: Buffer): void {
  if (name.length === 0 || name.equals(DOT_DOT)) throw new NfsStatusError(NFS3ERR_ACCES);
  if (name.length > MAX_COMPONENT_BYTES) throw new NfsStatusError(NFS3ERR_NAMETOOLONG);
  if (name.includes(0x2f) || name.includes(0)) throw new NfsStatusError(NFS3ERR_INVAL);
}

function demandRegular(attributes: Attributes): void {
  if (attributes.type === NF3DIR) throw new NfsStatusError(NFS3ERR_ISDIR);
  if (attributes.type !== NF3REG) throw new NfsStatusError(NFS3ERR_INVAL);
}

/** Nothing that changes a file is ever granted: this server refuses it. */
function grantedAccess(permissions: Permissions, attributes: Attributes, call: Call): number {
  const may = (bit: number) => permissions === 'ignored' || isAllowed(attributes, call.credential, bit);
  let granted = 0;
  if (may(MAY_READ)) granted |= ACCESS3_READ;
  if (may(MAY_EXECUTE)) granted |= attributes.type === NF3DIR ? ACCESS3_LOOKUP : ACCESS3_EXECUTE;
  return granted;
}

function readNothing(): null {
  return null;
}

function writeNothing(): void {}

/** Number, name, and how many words of absent attributes follow the status (RFC 1813 §3.3). */
const REFUSED: readonly (readonly [number: number, name: string, failureWords: number])[] = [
  [NFSPROC3_SETATTR, 'SETATTR', 2],
  [NFSPROC3_WRITE, 'WRITE', 2],
  [NFSPROC3_CREATE, 'CREATE', 2],
  [NFSPROC3_MKDIR, 'MKDIR', 2],
  [NFSPROC3_SYMLINK, 'SYMLINK', 2],
  [NFSPROC3_MKNOD, 'MKNOD', 2],
  [NFSPROC3_REMOVE, 'REMOVE', 2],
  [NFSPROC3_RMDIR, 'RMDIR', 2],
  [NFSPROC3_RENAME, 'RENAME', 4],
  [NFSPROC3_LINK, 'LINK', 3],
];

function refused(name: string, failureWords: number): ProcedureEntry {
  return {
    name,
    calls: 0,
    run(_args, results) {
      results.uint32(NFS3ERR_ROFS);
      for (let i = 0; i < failureWords; i++) results.bool(false);
      return undefined;
    },
  };
}
