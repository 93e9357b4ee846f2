import type { Readable, Writable } from 'node:stream';

/** Standard output or standard error: a stream, and what is known of the terminal behind it. */
export interface CliOutput extends Writable {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/**
 * What a command gets from outside; main.ts makes it, tests make their own. A command sets its exit status with
 * `setExitCode` when it has ended and never ends the process itself: main.ts does, once everything is written out.
 */
export interface CliContext {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  /** Results: what a script reads. */
  readonly stdout: CliOutput;
  /** Everything else: progress, warnings, errors. */
  readonly stderr: CliOutput;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by the first SIGINT or SIGTERM; a command then ends soon. A second one ends the process. */
  readonly signal: AbortSignal;
  readonly version: string;
  /** Where the process's own `mountinfo` and `cmdline` are read: `/proc/self`, if not given. */
  readonly procFolder?: string;
  /** Gives up root's rights for those of a user, for good. Throws if that is not allowed. */
  becomeUser?(uid: number, gid: number): void;
  /** One of exit-codes.ts; the last one counts. Never called: 0. */
  setExitCode(code: number): void;
}
