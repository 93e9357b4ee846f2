import type { TerminalJobState } from '../model/words.js';

/**
 * The exit statuses of every command. 2, 69 and 124 mean what they mean elsewhere: a usage error of the shell's
 * own kind, `EX_UNAVAILABLE` of sysexits.h, and the status of timeout(1). A process that a signal ends has 128
 * plus its number, as in a shell.
 */
export const EXIT = {
  succeeded: 0,
  /** Anything that has no status of its own: the service refused the request, a file cannot be read. */
  error: 1,
  usage: 2,
  partial: 10,
  failed: 11,
  canceled: 12,
  expired: 13,
  unavailable: 69,
  waitTimedOut: 124,
  /** SIGINT or SIGTERM. */
  interrupted: 130,
  /** The reader of standard output went away. */
  brokenPipe: 141,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export function exitCodeOfJob(state: TerminalJobState): ExitCode {
  return EXIT[state];
}

/** From best to worst: what several jobs together ended with is the worst of them. */
const BY_SEVERITY: readonly ExitCode[] = [
  EXIT.succeeded,
  EXIT.partial,
  EXIT.canceled,
  EXIT.expired,
  EXIT.failed,
  EXIT.waitTimedOut,
  EXIT.error,
  EXIT.usage,
  EXIT.unavailable,
  EXIT.interrupted,
  EXIT.brokenPipe,
];

export function worstExitCode(codes: Iterable<ExitCode>): ExitCode {
  let worst: ExitCode = EXIT.succeeded;
  for (const code of codes) if (BY_SEVERITY.indexOf(code) > BY_SEVERITY.indexOf(worst)) worst = code;
  return worst;
}

/** For the help of the commands that wait for a job. */
export const EXIT_HELP = `Exit status:
  0 succeeded   10 partial   11 failed   12 canceled   13 expired
  1 refused or failed otherwise   2 usage   69 service unavailable   124 wait timed out`;
