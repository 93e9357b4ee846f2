/**
 * Errors as the log has them. Errors of libraries carry what they were doing: a command of Redis its arguments, the
 * password among them, and a URL that cannot be parsed itself. So only what is known to be harmless is kept.
 */

const KEPT = ['code', 'errno', 'syscall', 'hostname', 'address', 'port', 'path', 'status'] as const;
/** Old servers repeat the arguments of a command that they do not know. */
const ARGUMENTS = /,? with args beginning with:[^\n]*/g;
const DEEPEST = 4;

export interface LoggedError {
  type: string;
  message: string;
  stack: string;
  [key: string]: unknown;
}

/** For pino's `serializers.err`. */
export function loggedError(error: unknown, depth = 0): LoggedError | string {
  if (!(error instanceof Error)) return String(error);
  const { name, cause } = error;
  const known = error as unknown as Record<string, unknown>;
  const kept = KEPT.flatMap((key) => (isPlain(known[key]) ? [[key, known[key]] as const] : []));
  const command = (known.command as { name?: unknown } | undefined)?.name;
  const errors = error instanceof AggregateError ? error.errors : [];
  return {
    type: error.constructor.name || name,
    message: error.message.replace(ARGUMENTS, ''),
    stack: (error.stack ?? '').replace(ARGUMENTS, ''),
    ...Object.fromEntries(kept),
    ...(typeof command === 'string' && { command }),
    ...(cause !== undefined && depth < DEEPEST && { cause: loggedError(cause, depth + 1) }),
    ...(errors.length > 0 &&
      depth < DEEPEST && { errors: errors.map((one: unknown) => loggedError(one, depth + 1)) }),
  };
}

function isPlain(value: unknown): value is string | number {
  return typeof value === 'string' || typeof value === 'number';
}
