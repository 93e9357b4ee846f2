import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BrokerError } from '../model/errors.js';
import { PathList } from '../model/path-list.js';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';

/** The longest path that is read from a list; what the service takes is its own, lower limit. */
const MAX_PATH_BYTES = 65_536;

export interface PathSource {
  /** Names of the command line. */
  names: readonly Buffer[];
  /** A file with a list, `-` for standard input, or null. */
  filesFrom: string | null;
  /** The list's paths end in NUL instead of a newline. */
  nul: boolean;
}

/**
 * The paths that a command was given, as bytes and as many at a time as came together: first those of the command
 * line, then those of the list.
 * @param warn gets a sentence on what was left out of the list
 * @throws {CliError} usage, if the list cannot be read or one of its paths is absurdly long
 */
export async function* givenPaths(
  context: CliContext,
  source: PathSource,
  warn: (sentence: string) => void,
): AsyncGenerator<Uint8Array[], void, undefined> {
  yield [...source.names];
  if (source.filesFrom === null) return;
  const list = new PathList({ delimiter: source.nul ? 'nul' : 'newline', maxPathBytes: MAX_PATH_BYTES });
  const name = source.filesFrom === '-' ? 'standard input' : `"${source.filesFrom}"`;
  try {
    const input = source.filesFrom === '-' ? context.stdin : createReadStream(source.filesFrom);
    // A read that is never answered, as of a terminal, must not outlive Ctrl-C.
    const stop = (): void => void input.destroy();
    context.signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const chunk of input as AsyncIterable<Buffer>) {
        yield [...list.push(chunk)];
        if (context.signal.aborted) break;
      }
    } finally {
      context.signal.removeEventListener('abort', stop);
    }
    if (context.signal.aborted) throw interrupted();
    yield [...list.end()];
  } catch (error) {
    if (context.signal.aborted) throw interrupted();
    if (error instanceof BrokerError) throw new CliError(`${name}: ${error.message}`, EXIT.usage);
    if (error instanceof Error && 'syscall' in error) {
      throw new CliError(`Cannot read the list ${name}: ${error.message}.`, EXIT.usage, { cause: error });
    }
    throw error;
  }
  const { blank, carriageReturns } = list;
  if (blank > 0) {
    const [one, many] = source.nul ? ['entry', 'entries'] : ['line', 'lines'];
    warn(`${name}: ${blank} empty ${blank === 1 ? one : many} left out.`);
  }
  if (carriageReturns > 0) {
    const ends = carriageReturns === 1 ? 'line ends' : 'lines end';
    warn(`${name}: ${carriageReturns} ${ends} in CR LF; the CR was not taken as part of the path.`);
  }
}

function interrupted(): CliError {
  return new CliError('Interrupted; nothing was submitted.', EXIT.interrupted);
}

const REPLACEMENT = '\ufffd';

/**
 * Names of the command line as bytes. `process.argv` has lost those that are not UTF-8; the kernel still has them.
 * Where it does not tell, or not which is which, guessing a file's name is worse than an error.
 * @param names each as often as it stands on the command line
 * @throws {CliError} usage
 */
export async function namesAsBytes(context: CliContext, names: readonly string[]): Promise<Buffer[]> {
  if (!names.some((name) => name.includes(REPLACEMENT))) return names.map((name) => Buffer.from(name));
  const cmdline = await readFile(join(context.procFolder ?? '/proc/self', 'cmdline')).catch(() => null);
  const given = (cmdline?.toString('latin1').split('\0') ?? []).map((bytes) => Buffer.from(bytes, 'latin1'));
  const seen = new Map<string, number>();
  return names.map((name) => {
    if (!name.includes(REPLACEMENT)) return Buffer.from(name);
    // Names that differ may look alike once decoded: then they are told apart by their order.
    const alike = given.filter((bytes) => bytes.toString('utf8') === name);
    const nth = seen.get(name) ?? 0;
    seen.set(name, nth + 1);
    const bytes = alike[nth];
    if (bytes === undefined || alike.length !== names.filter((other) => other === name).length) {
      throw new CliError(
        `The name "${name}" is not UTF-8 and cannot be read from the command line. Give it by --files-from - -0.`,
        EXIT.usage,
      );
    }
    return bytes;
  });
}
