import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { runScrDaemon } from '../scr/daemon.js';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';

/** As the original daemon has them. */
const DEFAULT_POLL_SECONDS = 60;
const DEFAULT_BUFFER_BYTES = 1024 * 1024;
const LONGEST_POLL_SECONDS = 24 * 3600;
const LARGEST_BUFFER_BYTES = 256 * 1024 * 1024;
/** Enough to keep storage busy that answers each fsync late; more would only share the same threads. */
const FILES_AT_ONCE = 8;
const LOCK_TIMEOUT_MS = 10_000;
/** Of all files together; each takes two buffers. */
const COPY_MEMORY_BYTES = 64 * 1024 * 1024;

interface Options {
  poll?: number;
  buffer?: number;
  verify?: boolean;
}

/** `writeback scr-transfer`: a drop-in for SCR's `scr_transfer`. */
export function registerScrTransfer(program: Command, context: CliContext): void {
  program
    .command('scr-transfer')
    .summary("copy what an SCR transfer file lists, as SCR's own daemon does")
    .description(
      'Copies the files that an SCR transfer file lists from node-local storage to the parallel file system, in ' +
        'the background and within the limits that the file sets, until its COMMAND is EXIT. ' +
        'A file that cannot be copied gets an ERROR in its entry and is tried again; the others go on.',
    )
    .argument('<transferfile>', 'the transfer file; made if there is none')
    .option(
      '--poll <seconds>',
      `read the transfer file again at least this often (default: SCR_TRANSFER_SECS or ${DEFAULT_POLL_SECONDS})`,
      parsePoll,
    )
    .option(
      '--buffer <bytes>',
      `the largest burst (default: SCR_FILE_BUF_SIZE or ${DEFAULT_BUFFER_BYTES})`,
      parseBuffer,
    )
    .option('--verify', 'read every copy again and compare its CRC-32')
    .addHelpText(
      'after',
      '\nExit status:\n' +
        '  0 nothing failed   10 some files failed   11 no file was copied, and some failed\n' +
        '  1 the transfer file cannot be used   2 usage',
    )
    .action(async (transferFile: string, options: Options) => {
      const path = resolve(transferFile);
      await checkPlace(path);
      const log = (message: string): void => {
        context.stderr.write(`writeback scr-transfer: ${message}\n`);
      };
      const bufferBytes =
        options.buffer ?? fromEnv(context, 'SCR_FILE_BUF_SIZE', parseBuffer) ?? DEFAULT_BUFFER_BYTES;
      const filesAtOnce = Math.floor(COPY_MEMORY_BYTES / (2 * bufferBytes));
      const result = await runScrDaemon(
        {
          transferFile: path,
          pollMs:
            1000 * (options.poll ?? fromEnv(context, 'SCR_TRANSFER_SECS', parsePoll) ?? DEFAULT_POLL_SECONDS),
          bufferBytes,
          verify: options.verify ?? false,
          filesAtOnce: Math.max(1, Math.min(FILES_AT_ONCE, filesAtOnce)),
          lockTimeoutMs: LOCK_TIMEOUT_MS,
          log,
        },
        context.signal,
      ).catch((cause: unknown) => {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new CliError(`the transfer file ${path} cannot be used: ${reason}`, EXIT.error, { cause });
      });
      if (result.failed.size > 0) {
        log(`${result.failed.size} files failed:`);
        for (const [source, message] of result.failed) log(`  ${source}: ${message}`);
        context.setExitCode(result.copied > 0 ? EXIT.partial : EXIT.failed);
      }
      if (!result.recorded) {
        log(
          'the last progress could not be recorded; the files are copied again from what was recorded before',
        );
        context.setExitCode(EXIT.error);
      }
    });
}

async function checkPlace(path: string): Promise<void> {
  try {
    // As the original does: it may come before the library.
    await mkdir(dirname(path), { recursive: true, mode: 0o770 });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CliError(`the transfer file can have no directory ${dirname(path)}: ${reason}`, EXIT.usage);
  }
  const file = await stat(path).catch(() => null);
  if (file !== null && !file.isFile()) throw new CliError(`${path} is not a regular file`, EXIT.usage);
}

function fromEnv<T>(context: CliContext, name: string, parse: (text: string) => T): T | undefined {
  const text = context.env[name];
  if (text === undefined || text === '') return undefined;
  try {
    return parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CliError(`${name}=${text}: ${reason}`, EXIT.usage);
  }
}

function parsePoll(text: string): number {
  const seconds = Number(text);
  if (text.trim() === '' || !(seconds > 0 && seconds <= LONGEST_POLL_SECONDS)) {
    throw new InvalidArgumentError(
      `a number of seconds above 0, at most ${LONGEST_POLL_SECONDS}, is needed.`,
    );
  }
  return seconds;
}

function parseBuffer(text: string): number {
  const bytes = Number(text);
  if (!/^\d+$/.test(text) || bytes < 1 || bytes > LARGEST_BUFFER_BYTES) {
    throw new InvalidArgumentError(`a number of bytes from 1 to ${LARGEST_BUFFER_BYTES} is needed.`);
  }
  return bytes;
}
