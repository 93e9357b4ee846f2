import type { Phase } from './words.js';

/**
 * What can go wrong with one file (or with the target of all of them): stable code → may a later try succeed,
 * and the sentence that helps. Codes that POSIX has keep their errno name, for flushes and transfers alike.
 * `target: true`: it is no fault of the file; everything sent to that target fails alike until somebody acts.
 */
export const FILE_ERRORS = {
  ENOENT: { retryable: false, help: 'No such file. Check the path, and which form it has (pathsAre).' },
  ENOTDIR: { retryable: false, help: 'A component of the path is a file, not a directory.' },
  EISDIR: {
    retryable: false,
    help: 'The path is a directory. List it under "directories" to flush what it holds.',
  },
  EACCES: {
    retryable: false,
    help: 'The identity used has no permission. Check the credential (uid, gid, gids) of the cache; for a transfer the user that the agent runs as.',
  },
  EPERM: {
    retryable: false,
    help: 'Not permitted for the identity used. Check the credential of the cache and its export policy; for a transfer the user that the agent runs as.',
  },
  EROFS: { retryable: false, help: 'The file system is read-only.' },
  ENAMETOOLONG: {
    retryable: false,
    help: 'A component is longer than 255 bytes, or the path than the server allows.',
  },
  EINVAL: { retryable: false, help: 'The server refused the call as invalid for this file.' },
  ELOOP: { retryable: false, help: 'More than 40 symbolic links on the way, probably a loop.' },
  EIO: {
    retryable: true,
    help: 'The storage reported an I/O error. Retry; if it stays, see the cache and its core filer, or the file system.',
  },
  ENOSPC: { retryable: true, help: 'The permanent store is full. Free space there, then retry.' },
  EDQUOT: {
    retryable: true,
    help: 'The quota on the permanent store is used up. Raise it or free space, then retry.',
  },
  EFBIG: { retryable: false, help: 'The file is larger than the permanent store takes.' },
  ENXIO: {
    retryable: true,
    help: 'The device is gone. See the cache and its core filer, or the file system.',
  },
  ESTALE: {
    retryable: true,
    help: 'The file was removed or replaced while it was worked on. Check that it is still there, then retry.',
  },
  EJUKEBOX: { retryable: true, help: 'The server kept answering "try later" until the deadline.' },
  ESERVERFAULT: { retryable: true, help: 'The server failed internally. See its log.' },
  STILL_DIRTY: {
    retryable: true,
    help: 'The flush ended but the file is still dirty: it failed in the cache, or the file is still being written.',
  },
  NFS_STATUS: {
    retryable: false,
    help: 'The server answered with a status outside RFC 1813; its number is in nfsStatus.',
  },
  PROTOCOL_ERROR: {
    retryable: true,
    help: 'The reply was not valid for this protocol. Check that the dialect of the cache is the right one.',
  },
  INVALID_PATH: {
    retryable: false,
    help: 'The path cannot name a file: it is empty, has a ".." or NUL in it, or is not within its prefix.',
  },
  OUTSIDE_EXPORT: {
    retryable: false,
    help: 'The path or a symbolic link on it leads out of the export. Name the file through its own export.',
  },
  LINK_NOT_ALLOWED: {
    retryable: false,
    help: 'A symbolic link leads to where the principal of the job may not flush. Name the file by its own path, or have that granted.',
  },
  NOT_REGULAR: {
    retryable: false,
    help: 'Only regular files can be written back, not devices, FIFOs or sockets.',
  },
  DUPLICATE_PATH: {
    retryable: false,
    help: 'The same entry stands earlier in this list; its result is there.',
  },
  DESTINATION_TAKEN: {
    retryable: false,
    help: 'Another file of the job has the same destination. Give one of them another, and transfer it by a job of its own.',
  },
  DEADLINE: { retryable: true, help: 'The deadline passed before it was done. Retry, or allow more time.' },
  CANCELED: { retryable: true, help: 'The job was canceled before this file was done.' },
  WORKER_LOST: {
    retryable: true,
    help: 'The workers that had this file in hand ended abnormally, again and again. See their logs, then retry.',
  },
  TOO_MANY_FILES: {
    retryable: false,
    help: 'The directory holds more files than one job may have. Submit its subdirectories as jobs of their own.',
  },
  SOURCE_CHANGED: {
    retryable: true,
    help: 'The source changed while it was copied. Transfer it when nobody writes to it.',
  },
  SOURCE_SHORT: {
    retryable: false,
    help: 'The source is shorter than the size given for it. Submit it when it is written to its end.',
  },
  VERIFY_FAILED: {
    retryable: true,
    help: 'The copy differs from what was read. Check the destination file system.',
  },
  OUTSIDE_ROOTS: {
    retryable: false,
    help: 'The path, or a symbolic link on it, leads out of the roots that the agent is allowed to touch (agent.sourceRoots, agent.destinationRoots).',
  },
  UNREACHABLE: {
    retryable: true,
    target: true,
    help: 'The cache cannot be reached. Check its addresses, and the network and firewall in between.',
  },
  NAME_NOT_RESOLVED: {
    retryable: true,
    target: true,
    help: 'The name of the cache does not resolve. Check its addresses in the configuration.',
  },
  NOT_REGISTERED: {
    retryable: true,
    target: true,
    help: 'The portmapper does not know the program. Is the NFS server (version 3, TCP) running? Fixed ports can be configured.',
  },
  EXPORT_NOT_FOUND: {
    retryable: false,
    target: true,
    help: 'The server does not export this path. Check "export" against the list of exports.',
  },
  MOUNT_REFUSED: {
    retryable: false,
    target: true,
    help: 'The server refused the mount. Check its export policy for this client (address, privileged port).',
  },
  AUTH_REFUSED: {
    retryable: false,
    target: true,
    help: "The server refuses AUTH_SYS from this client. Check the export's security flavours, and whether it wants a privileged source port.",
  },
  PROGRAM_UNAVAILABLE: {
    retryable: false,
    target: true,
    help: 'The server does not offer this RPC program and version on that port. NFS version 3 over TCP is needed.',
  },
} as const satisfies Record<string, { retryable: boolean; target?: boolean; help: string }>;
export type FileErrorCode = keyof typeof FILE_ERRORS;
export const FILE_ERROR_CODES = Object.keys(FILE_ERRORS) as [FileErrorCode, ...FileErrorCode[]];

/** An error of one file as it is reported. `message` says what was tried, on which path, and what came back. */
export interface FileError {
  code: FileErrorCode;
  /** nfsstat3 or mountstat3 of the reply, or null when there was none. */
  nfsStatus: number | null;
  phase: Phase;
  message: string;
}

/** True if the fault lies with the whole target (cache, export, credential) and not with one file. */
export function isTargetError(code: FileErrorCode): boolean {
  return 'target' in FILE_ERRORS[code];
}

/** True if the same request may succeed later without anybody changing it. */
export function isRetryable(code: FileErrorCode): boolean {
  return FILE_ERRORS[code].retryable;
}

/** What the HTTP API refuses: stable code → HTTP status and title (RFC 9457 `title`). */
export const API_ERRORS = {
  VALIDATION: { status: 422, title: 'The request is not valid' },
  MALFORMED: { status: 400, title: 'The request cannot be read' },
  EMPTY_LIST: { status: 422, title: 'The list names no file' },
  PATH_TOO_LONG: { status: 422, title: 'A path is too long' },
  TOO_MANY_FILES: { status: 413, title: 'The list has too many files' },
  BODY_TOO_LARGE: { status: 413, title: 'The body is too large' },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, title: 'The media type is not supported' },
  UNKNOWN_CACHE: { status: 422, title: 'The cache is not known' },
  ADDRESS_NOT_ALLOWED: { status: 403, title: 'The address is not within the allowed networks' },
  WEBHOOK_NOT_ALLOWED: { status: 403, title: 'The webhook is not one that the service calls' },
  UNAUTHENTICATED: { status: 401, title: 'A valid credential is needed' },
  PRINCIPAL_UNKNOWN: { status: 403, title: 'The principal is not known here' },
  ROLE_TOO_LOW: { status: 403, title: 'The role does not allow this' },
  CACHE_NOT_ALLOWED: { status: 403, title: 'The principal may not flush this cache' },
  NODE_NOT_ALLOWED: { status: 403, title: 'The principal may not transfer files of this node' },
  PATH_NOT_ALLOWED: { status: 403, title: 'The principal may not touch this path' },
  CROSS_SITE: { status: 403, title: 'Requests from pages of other sites are not taken' },
  UNKNOWN_EXPORT: { status: 422, title: 'The export is not one of the cache' },
  JOB_NOT_FOUND: { status: 404, title: 'There is no such job' },
  JOB_GONE: { status: 410, title: 'The job ended and its retention is over' },
  JOB_NOT_FINISHED: { status: 409, title: 'The job has not ended yet' },
  JOB_ENDED: { status: 409, title: 'The job has ended' },
  NOT_A_TRANSFER: { status: 409, title: 'The job is no transfer' },
  NOTHING_TO_RETRY: { status: 409, title: 'The job has no file to retry' },
  IDEMPOTENCY_KEY_IN_USE: { status: 409, title: 'A request with this key is still arriving' },
  IDEMPOTENCY_KEY_REUSED: { status: 422, title: 'The key belongs to another request' },
  DELIVERY_NOT_FOUND: { status: 404, title: 'There is no such delivery' },
  CACHE_NOT_FOUND: { status: 404, title: 'There is no such cache' },
  NODE_NOT_FOUND: { status: 404, title: 'There is no such node' },
  NOT_FOUND: { status: 404, title: 'There is no such resource' },
  METHOD_NOT_ALLOWED: { status: 405, title: 'The method is not allowed here' },
  REQUEST_TIMEOUT: { status: 408, title: 'The request did not arrive in time' },
  TOO_MANY_WAITERS: { status: 429, title: 'Too many requests are waiting' },
  QUOTA_EXCEEDED: { status: 429, title: 'A quota of the principal is used up' },
  RATE_LIMITED: { status: 429, title: 'The principal sends too many requests' },
  QUEUE_FULL: { status: 429, title: 'The queue is full' },
  KEYS_UNAVAILABLE: { status: 503, title: 'Credentials cannot be checked now' },
  STORE_UNAVAILABLE: { status: 503, title: 'The job store is not available' },
  SHUTTING_DOWN: { status: 503, title: 'The service is shutting down' },
  INTERNAL: { status: 500, title: 'Internal error' },
} as const satisfies Record<string, { status: number; title: string }>;
export type ApiErrorCode = keyof typeof API_ERRORS;
export const API_ERROR_CODES = Object.keys(API_ERRORS) as [ApiErrorCode, ...ApiErrorCode[]];

/**
 * A refusal with the sentence that the caller may read (`detail`). What only the log may see goes into `cause`.
 * Thrown by store, api and config alike; one function in the API turns it into problem+json.
 */
export class BrokerError extends Error {
  readonly code: ApiErrorCode;
  /** JSON pointer into the request body, or `line 17` of a streamed list. */
  readonly pointer: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ApiErrorCode,
    detail: string,
    options: { pointer?: string; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(detail, { cause: options.cause });
    this.name = 'BrokerError';
    this.code = code;
    this.pointer = options.pointer;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}
