import { getSystemErrorMap } from 'node:util';

/** errno names that a copy reports as they are; any other is reported as EIO, with its name in the message. */
const POSIX_CODES = [
  'ENOENT',
  'ENOTDIR',
  'EISDIR',
  'EACCES',
  'EPERM',
  'EROFS',
  'ENAMETOOLONG',
  'EINVAL',
  'ELOOP',
  'EIO',
  'ENOSPC',
  'EDQUOT',
  'EFBIG',
  'ENXIO',
  'ESTALE',
] as const;

export type CopyErrorCode =
  | (typeof POSIX_CODES)[number]
  | 'INVALID_PATH'
  | 'DESTINATION_TAKEN'
  | 'OUTSIDE_ROOTS'
  | 'NOT_REGULAR'
  | 'SOURCE_CHANGED'
  | 'SOURCE_SHORT'
  | 'VERIFY_FAILED';

/** Why one file was not copied. `message` is a sentence without the final stop that names the path. */
export class CopyError extends Error {
  readonly code: CopyErrorCode;
  readonly phase: 'copy' | 'verify';

  constructor(
    code: CopyErrorCode,
    message: string,
    options: { phase?: 'copy' | 'verify'; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'CopyError';
    this.code = code;
    this.phase = options.phase ?? 'copy';
  }
}

/**
 * What a system call threw, as a CopyError; a CopyError is passed through.
 * @param attempted what was tried on what, e.g. `the source /a/b cannot be read`
 */
export function copyErrorOf(error: unknown, attempted: string): CopyError {
  if (error instanceof CopyError) return error;
  if (!isSystemError(error)) {
    return new CopyError('EIO', `${attempted}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  const reason = getSystemErrorMap().get(error.errno)?.[1] ?? error.message;
  const known = POSIX_CODES.find((code) => code === error.code);
  return new CopyError(known ?? 'EIO', `${attempted}: ${reason} (${error.code})`, { cause: error });
}

function isSystemError(error: unknown): error is Error & { code: string; errno: number } {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' && 'code' in error;
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return isSystemError(error) && codes.includes(error.code);
}
