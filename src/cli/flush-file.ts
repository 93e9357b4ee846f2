import { hostname } from 'node:os';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { flushFiles } from '../flush/engine.js';
import { FlushSession, type NfsTarget, type SessionEvent } from '../flush/session.js';
import { TargetDownError, TargetError } from '../flush/target-error.js';
import type { FlushFile, FlushOptions } from '../flush/types.js';
import { PathList } from '../model/path-list.js';
import { pathText } from '../model/pathname.js';
import { filesText, printable } from '../model/text.js';
import { DIALECTS, type Dialect, PATHS_ARE, type PathsAre } from '../model/words.js';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { FlushReport, type ReportOptions } from './flush-report.js';
import { parseSeconds } from './text.js';

/** No path of a list may be longer; what a server takes is less. */
const MAX_PATH_BYTES = 65_536;
interface Options extends ReportOptions {
  threads: number;
  timeout: number;
  connectTimeout: number;
  sync?: boolean;
  dialect: Dialect;
  null?: boolean;
  pathsAre: PathsAre;
  clientMount?: string;
  filesPerSecond?: number;
  portmapPort: number;
  mountPort?: number;
  nfsPort?: number;
  uid?: number;
  gid?: number;
  gids?: number[];
  privilegedPort?: boolean;
}

const HELP = `
The list is read as it comes and may have any length. An empty line is skipped and counted, a CR before the newline
is dropped, and a path that stands there twice is flushed twice. With --null a name may hold any byte.

One line per file: what became of it, the file's mtime, how long it took, its path. A summary ends the output.

Exit status: 0 every file was flushed   1 not every file was   2 usage, or a list without a path   130 interrupted`;

/** `writeback flush-file`: flushes the files of a list against one export, without service and Redis. */
export function registerFlushFile(program: Command, context: CliContext): void {
  program
    .command('flush-file')
    .summary('flush the files listed on standard input, without the service')
    .description(
      'Reads paths from standard input and has the cache write each of these files back to the permanent store.',
    )
    .argument('<export>', 'path of the export in the namespace of the cache')
    .argument('<server>', 'mount address of the cache; several are separated by commas')
    .option('--threads <flushes>', 'flushes in flight at the same time', wholeIn(1, 65_536), 256)
    .option('--timeout <seconds>', 'for each file, from its first call', secondsOf('--timeout'), 300)
    .option('--connect-timeout <seconds>', 'until the export is mounted', secondsOf('--connect-timeout'), 30)
    .option('--sync', 'one call per file that is answered when the file is written back')
    .option('--verbose', 'show attempts, evidence and calls')
    .addOption(
      new Option('--dialect <name>', 'how the server is asked; rfc1813 is any NFS version 3 server')
        .choices(DIALECTS)
        .default('hpc-cache'),
    )
    .option('-0, --null', 'paths end in NUL, as of find -print0, not in a newline')
    .addOption(
      new Option('--paths-are <form>', 'relative to the export, in the namespace, or on a client')
        .choices(PATHS_ARE)
        .default('export'),
    )
    .option('--client-mount <folder>', 'where clients mount the namespace, for --paths-are client')
    .option('--files-per-second <rate>', 'flushes begun per second, at most', rate)
    .option('--portmap-port <port>', 'of the port mapper', port, 111)
    .option('--mount-port <port>', 'of the mount service (default: the port mapper tells)', port)
    .option('--nfs-port <port>', 'of the NFS service (default: the port mapper tells)', port)
    .option('--uid <id>', 'user to act as (default: the caller)', id)
    .option('--gid <id>', 'group to act as (default: the caller)', id)
    .option('--gids <ids>', 'further groups, separated by commas; a server sees 16', ids)
    .option('--privileged-port', 'call from a source port below 1024; needs root')
    .option('--json', 'one JSON document per line, the summary as the last one')
    .addHelpText('after', HELP)
    .action((exportPath: string, server: string, options: Options) =>
      flushFile(exportPath, server, options, context),
    );
}

async function flushFile(
  exportPath: string,
  server: string,
  options: Options,
  context: CliContext,
): Promise<void> {
  if (!exportPath.startsWith('/')) throw usage(`The export begins with a slash, unlike "${exportPath}".`);
  if (options.pathsAre === 'client' && options.clientMount === undefined) {
    throw usage('--paths-are client needs --client-mount, the folder where clients mount the namespace.');
  }
  const target = targetOf(server, options);
  const report = new FlushReport(context.stdout, options);
  const warn = (sentence: string): void => {
    context.stderr.write(`writeback flush-file: ${printable(sentence)}\n`);
  };
  if (context.stdin.isTTY) warn('reading paths from the terminal, one per line; Ctrl-D ends the list.');

  const ending = new AbortController();
  const onSignal = (): void => ending.abort(context.signal.reason);
  if (context.signal.aborted) onSignal();
  else context.signal.addEventListener('abort', onSignal, { once: true });
  const list = new ListReader(context, ending.signal, report, options.null ?? false);
  let session: FlushSession | null = null;
  try {
    const files = list.files();
    const first = await files.next();
    if (first.done && !ending.signal.aborted && report.files === 0) {
      throw usage(
        'The list on standard input has no path in it; there is nothing to flush. Give one path per line.',
      );
    }
    if (!first.done) {
      session = await open(target, exportPath, options, ending.signal, warn);
      const outcomes = flushFiles(session, following(first.value, files), runOptions(options), ending.signal);
      for await (const outcome of outcomes) await report.file(outcome);
    }
  } catch (error) {
    if (!(error instanceof TargetDownError)) throw error;
    warn(`the server is gone: ${error.message}`);
    report.targetDown = true;
  } finally {
    context.signal.removeEventListener('abort', onSignal);
    ending.abort();
    await session?.close();
  }
  if (list.failure !== null) warn(`the list cannot be read any further: ${list.failure.message}`);
  for (const sentence of list.remarks()) warn(sentence);
  if (report.accepted > 0) {
    warn(
      `${filesText(report.accepted)}: OK from a server that has never shown the hpc-cache dialect. They were clean, or it is a plain NFS server, which means nothing by it (--dialect rfc1813 is for those).`,
    );
  }
  const interrupted = context.signal.aborted;
  await report.summary({ interrupted, complete: list.complete, session });
  if (interrupted) context.setExitCode(EXIT.interrupted);
  else if (report.files !== report.succeeded || report.targetDown || !list.complete) {
    context.setExitCode(EXIT.error);
  }
}

/** Mounts before the list is read any further: a wrong export is one error, not one per file. */
async function open(
  target: NfsTarget,
  exportPath: string,
  options: Options,
  signal: AbortSignal,
  warn: (sentence: string) => void,
): Promise<FlushSession> {
  const onEvent = (event: SessionEvent): void => {
    if (event.type === 'down') warn(`${event.error.message} Trying again.`);
    else if (event.type === 'up') warn(`${event.address} answers again.`);
    else if (event.type === 'warning') warn(event.message);
    else if (event.type === 'server-restarted') {
      warn(
        `${event.address} was restarted: what was flushed before was flushed by an instance that is gone.`,
      );
    }
  };
  try {
    return await FlushSession.open(
      target,
      exportPath,
      {
        inFlight: options.threads,
        filesPerSecond: options.filesPerSecond ?? null,
        dialectProven: false,
        onEvent,
      },
      { deadlineAt: Date.now() + options.connectTimeout * 1000, signal },
    );
  } catch (error) {
    if (signal.aborted) throw new CliError('Interrupted before the export was mounted.', EXIT.interrupted);
    if (!(error instanceof TargetError)) throw error;
    throw new CliError(
      `Cannot mount ${printable(exportPath)}; no file was flushed. ${printable(error.message)}`,
      EXIT.error,
      { cause: error },
    );
  }
}

function runOptions(options: Options): FlushOptions {
  return {
    dialect: options.dialect,
    mode: options.sync ? 'sync' : 'async',
    pathsAre: options.pathsAre,
    clientMount: options.clientMount ?? null,
    fileTimeoutMs: options.timeout * 1000,
    deadlineAt: null,
    // A server that is gone for as long as a file may take ends the run: the rest of the list would only wait too.
    whenDown: 'hand-back',
    holdAfterMs: options.timeout * 1000,
  };
}

function targetOf(server: string, options: Options): NfsTarget {
  const addresses = server
    .split(',')
    .map((address) => address.trim().replace(/^\[(.*)\]$/, '$1'))
    .filter((address) => address !== '');
  if (addresses.length === 0) throw usage('The server is empty; give a mount address of the cache.');
  return {
    addresses,
    ports: { portmap: options.portmapPort, mount: options.mountPort ?? null, nfs: options.nfsPort ?? null },
    credential: {
      uid: options.uid ?? process.getuid?.() ?? 0,
      gid: options.gid ?? process.getgid?.() ?? 0,
      // A uid that is not the caller's has no share in the caller's groups.
      gids: options.gids ?? (options.uid === undefined ? (process.getgroups?.() ?? []) : []),
    },
    machineName: hostname(),
    privilegedPort: options.privilegedPort ?? false,
    callTimeoutMs: Math.min(30, options.timeout) * 1000,
  };
}

async function* following(first: FlushFile, rest: AsyncIterable<FlushFile>): AsyncGenerator<FlushFile> {
  yield first;
  yield* rest;
}

/** The list on standard input, read as far as files are wanted. */
class ListReader {
  /** It was read to its end. */
  complete = false;
  failure: Error | null = null;
  readonly #context: CliContext;
  readonly #signal: AbortSignal;
  readonly #list: PathList;

  constructor(context: CliContext, signal: AbortSignal, report: FlushReport, nul: boolean) {
    this.#context = context;
    this.#signal = signal;
    this.#list = new PathList({
      delimiter: nul ? 'nul' : 'newline',
      maxPathBytes: MAX_PATH_BYTES,
      onTooLong: (line, start) => report.refused(line - 1, pathText(start), MAX_PATH_BYTES),
    });
  }

  async *files(): AsyncGenerator<FlushFile, void, undefined> {
    const { stdin } = this.#context;
    const list = this.#list;
    // A read that is never answered, as of a terminal, must not outlive the end of the run.
    const stop = (): void => void stdin.destroy();
    if (this.#signal.aborted) stop();
    this.#signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const chunk of stdin as AsyncIterable<Buffer>) {
        for (const path of list.push(chunk)) {
          if (this.#signal.aborted) return;
          yield { index: list.line - 1, path: pathText(path) };
        }
      }
      for (const path of list.end()) yield { index: list.line - 1, path: pathText(path) };
      this.complete = true;
    } catch (error) {
      // Files that were read go on; that the others are not known is told at the end.
      if (!this.#signal.aborted) this.failure = error as Error;
    } finally {
      this.#signal.removeEventListener('abort', stop);
    }
  }

  remarks(): string[] {
    const { blank, carriageReturns } = this.#list;
    const remarks: string[] = [];
    if (blank > 0) remarks.push(`${blank} empty ${blank === 1 ? 'line' : 'lines'} skipped.`);
    if (carriageReturns > 0) {
      remarks.push(
        `${carriageReturns} ${carriageReturns === 1 ? 'line ends' : 'lines end'} in CR LF; the CR was not taken as part of the path.`,
      );
    }
    return remarks;
  }
}

function usage(sentence: string): CliError {
  return new CliError(sentence, EXIT.usage);
}

function wholeIn(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most)) {
      throw new InvalidArgumentError(`It is a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

const port = wholeIn(1, 65_535);
const id = wholeIn(0, 0xffff_ffff);

function ids(text: string): number[] {
  return text.split(',').map((each) => id(each.trim()));
}

function rate(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('It is a number above 0.');
  return value;
}

function secondsOf(option: string): (text: string) => number {
  return (text) => parseSeconds(text, option);
}
