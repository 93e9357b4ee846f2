import { Command, CommanderError } from 'commander';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';

/** Adds one command to the program. Its action ends with `context.setExitCode`. */
export type RegisterCommand = (program: Command, context: CliContext) => void;

/**
 * An error that is the user's to read: shown without a stack, and with an exit status of its own.
 * Any other error that leaves a command is a fault of the program and is shown with its stack.
 */
export class CliError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.error, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'CliError';
    this.exitCode = exitCode;
  }
}

/**
 * Reads the command line, runs the command and resolves to the exit status. Never rejects and never ends the
 * process.
 * @param args what follows the program's name
 */
export async function runProgram(
  args: readonly string[],
  context: CliContext,
  commands: readonly RegisterCommand[],
): Promise<number> {
  let exitCode: number = EXIT.succeeded;
  const inner: CliContext = {
    ...context,
    setExitCode(code) {
      exitCode = code;
      context.setExitCode(code);
    },
  };
  const program = new Command('writeback')
    .description('Makes named files durable on long-term storage now, and tells when that is true.')
    .version(context.version, '-V, --version', 'print the version')
    .helpCommand('help [command]', 'show the help of a command')
    .showHelpAfterError('(--help shows what there is)')
    .configureHelp({ helpWidth: Math.min(context.stdout.columns ?? 100, 110) })
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .exitOverride();
  for (const register of commands) register(program, inner);
  try {
    await program.parseAsync([...args], { from: 'user' });
  } catch (error) {
    exitCode = shownError(error, context);
    context.setExitCode(exitCode);
  }
  return exitCode;
}

function shownError(error: unknown, context: CliContext): number {
  // Help and version come out of commander as an "error" with status 0; its usage errors have 1 and are shown.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.succeeded : EXIT.usage;
  if (error instanceof CliError) {
    context.stderr.write(`writeback: ${error.message}\n`);
    return error.exitCode;
  }
  if (context.signal.aborted) return EXIT.interrupted;
  context.stderr.write(`writeback: ${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
  return EXIT.error;
}
