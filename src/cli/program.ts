import { Command, CommanderError } from 'commander';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { isEpilog } from './epilog.js';
import { EXIT } from './exit-codes.js';

/** Adds one command to the program. Its action ends with `context.setExitCode`. */
export type RegisterCommand = (program: Command, context: CliContext) => void;

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
  // A write that fails says so to its caller; without a listener it would also end the process.
  for (const stream of [context.stdout, context.stderr]) stream.on('error', () => {});
  for (const register of commands) register(program, inner);
  try {
    await program.parseAsync([...args], { from: 'user' });
  } catch (error) {
    exitCode = shownError(error, context);
    if (isEpilog(args)) exitCode = EXIT.succeeded;
    context.setExitCode(exitCode);
  }
  return exitCode;
}

function shownError(error: unknown, context: CliContext): number {
  // Help and version come out of commander as an "error" with status 0; its usage errors have 1 and are shown.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.succeeded : EXIT.usage;
  if (error instanceof CliError) {
    if (error.message !== '') context.stderr.write(`writeback: ${error.message}\n`);
    return error.exitCode;
  }
  if (context.signal.aborted) return EXIT.interrupted;
  context.stderr.write(`writeback: ${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
  return EXIT.error;
}
