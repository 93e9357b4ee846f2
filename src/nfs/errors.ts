/** What can go wrong with a target that is no NFS status: the codes and what each means. */
const NFS_ERROR_CODES = [
  /** No TCP connection, or no answer on it. */
  'UNREACHABLE',
  'NAME_NOT_RESOLVED',
  /** The port mapper does not know the program. */
  'NOT_REGISTERED',
  'EXPORT_NOT_FOUND',
  'MOUNT_REFUSED',
  /** AUTH_SYS from here is not taken, or the privileged source port that it needs cannot be had. */
  'AUTH_REFUSED',
  'PROGRAM_UNAVAILABLE',
  /** Replies that cannot be read, again and again. */
  'PROTOCOL_ERROR',
  /** The caller's deadline; `cause` is the last trouble with the server, if there was any. */
  'DEADLINE',
  /** The caller's signal; `cause` is its reason. */
  'ABORTED',
  'CLOSED',
] as const;
export type NfsErrorCode = (typeof NFS_ERROR_CODES)[number];

/** `message` says what was tried against which address, what came back, and what to do about it. */
export class NfsError extends Error {
  readonly code: NfsErrorCode;
  /** nfsstat3 or mountstat3, where there was one. */
  readonly nfsStatus: number | null;

  constructor(code: NfsErrorCode, message: string, options: { nfsStatus?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = 'NfsError';
    this.code = code;
    this.nfsStatus = options.nfsStatus ?? null;
  }
}

/** Codes that no waiting cures: somebody has to change something. */
const DEFINITE: ReadonlySet<NfsErrorCode> = new Set([
  'EXPORT_NOT_FOUND',
  'MOUNT_REFUSED',
  'AUTH_REFUSED',
  'PROGRAM_UNAVAILABLE',
  'ABORTED',
  'CLOSED',
]);

export function isDefinite(error: NfsError): boolean {
  return DEFINITE.has(error.code);
}

/** The text of whatever was thrown, with the system's code in front where there is one. */
export function causeText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = (error as NodeJS.ErrnoException).code;
  return code === undefined || error.message.includes(code) ? error.message : `${code}: ${error.message}`;
}
