import {
  NFS3ERR_ACCES,
  NFS3ERR_DQUOT,
  NFS3ERR_EXIST,
  NFS3ERR_FBIG,
  NFS3ERR_INVAL,
  NFS3ERR_IO,
  NFS3ERR_ISDIR,
  NFS3ERR_JUKEBOX,
  NFS3ERR_NAMETOOLONG,
  NFS3ERR_NOENT,
  NFS3ERR_NOSPC,
  NFS3ERR_NOTDIR,
  NFS3ERR_NXIO,
  NFS3ERR_PERM,
  NFS3ERR_ROFS,
  NFS3ERR_STALE,
  NFSSTAT3,
} from '../nfs/nfs3.js';

const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  EPERM: NFS3ERR_PERM,
  ENOENT: NFS3ERR_NOENT,
  EIO: NFS3ERR_IO,
  ENXIO: NFS3ERR_NXIO,
  EACCES: NFS3ERR_ACCES,
  EEXIST: NFS3ERR_EXIST,
  ENOTDIR: NFS3ERR_NOTDIR,
  EISDIR: NFS3ERR_ISDIR,
  EINVAL: NFS3ERR_INVAL,
  ELOOP: NFS3ERR_STALE,
  EFBIG: NFS3ERR_FBIG,
  ENOSPC: NFS3ERR_NOSPC,
  EROFS: NFS3ERR_ROFS,
  ENAMETOOLONG: NFS3ERR_NAMETOOLONG,
  EDQUOT: NFS3ERR_DQUOT,
  ESTALE: NFS3ERR_STALE,
  // Out of descriptors or memory: it passes.
  EMFILE: NFS3ERR_JUKEBOX,
  ENFILE: NFS3ERR_JUKEBOX,
  ENOMEM: NFS3ERR_JUKEBOX,
};

/** A refusal by an NFS server, thrown where it is found and answered where the reply is written. */
export class NfsStatusError extends Error {
  readonly status: number;

  constructor(status: number) {
    super(NFSSTAT3[status] ?? `status ${status}`);
    this.name = 'NfsStatusError';
    this.status = status;
  }
}

/** The nfsstat3 for whatever the file system threw. */
export function nfsStatusOf(error: unknown): number {
  if (error instanceof NfsStatusError) return error.status;
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return (code !== undefined && STATUS_OF_CODE[code]) || NFS3ERR_IO;
}

/** `NFS3ERR_NOSPC`, `NOSPC` and `28` → 28; null for what is none of them. */
export function nfsStatusFromText(text: string): number | null {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  const wanted = text.toUpperCase().replace(/^NFS3ERR_/, '');
  for (const [status, name] of Object.entries(NFSSTAT3)) {
    if (name.replace(/^NFS3ERR_/, '') === wanted) return Number(status);
  }
  return null;
}
