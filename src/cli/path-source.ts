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
  /** Names on the command line, as `process.argv` has them. */
  names: readonly string[];
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
  yield await namesAsBytes(context, source.names);
  if (source.filesFrom === null) return;
  const list = new PathList({ delimiter: source.nul ? 'nul' : 'newline', maxPathBytes: MAX_PATH_BYTES });
  const name = source.filesFrom === '-' ? 'standard input' : `"${source.filesFrom}"`;
  try {
    const input = source.filesFrom === '-' ? context.stdin : createReadStream(source.filesFrom);
    // A read that is never answered, as of a terminal, must not outlive Ctrl-C.
    const stop = (): void => void input.destroy();
    context.signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const chunk of input as AsyncIterable<Buffer>) yield [...list.push(chunk)];
    } finally {
      context.signal.removeEventListener('abort', stop);
    }
    yield [...list.end()];
  } catch (error) {
    if (context.signal.aborted) throw new CliError('Interrupted; nothing was submitted.', EXIT.interrupted);
    if (error instanceof BrokerError) throw new CliError(`${name}: ${error.message}`, EXIT.usage);
    if (error instanceof Error && 'syscall' in error) {
      throw new CliError(`Cannot read the list ${name}: ${error.message}.`, EXIT.usage, { cause: error });
    }
    throw error;
  }
  if (list.blank > 0) warn(`${name}: ${list.blank} empty ${source.nul ? 'entries' : 'lines'} left out.`);
  if (list.carriageReturns > 0) {
    warn(`${name}: ${list.carriageReturns} lines end in CR LF; the CR was not taken as part of the path.`);
  }
}

const REPLACEMENT = '\ufffd';

/**
 * `process.argv` has lost the bytes that are not UTF-8; the kernel still has them. Where it does not tell, or tells
 * two stories, guessing a file's name is worse than an error.
 */
async function namesAsBytes(context: CliContext, names: readonly string[]): Promise<Uint8Array[]> {
  if (!names.some((name) => name.includes(REPLACEMENT))) return names.map((name) => Buffer.from(name));
  const folder = context.procFolder ?? '/proc/self';
  const cmdline = await readFile(join(folder, 'cmdline')).catch(() => Buffer.alloc(0));
  const originals = new Map<string, Set<string>>();
  for (const argument of cmdline.toString('latin1').split('\0')) {
    const text = Buffer.from(argument, 'latin1').toString('utf8');
    if (!originals.has(text)) originals.set(text, new Set());
    originals.get(text)?.add(argument);
  }
  // Several names may look alike once decoded: then each is there once, and all of them are meant.
  const used = new Map<string, number>();
  return names.map((name) => {
    if (!name.includes(REPLACEMENT)) return Buffer.from(name);
    const nth = used.get(name) ?? 0;
    used.set(name, nth + 1);
    const original = [...(originals.get(name) ?? [])][nth];
    if (original === undefined) {
      throw new CliError(
        `The name "${name}" is not UTF-8 and cannot be read from the command line. Give it by --files-from - -0.`,
        EXIT.usage,
      );
    }
    return Buffer.from(original, 'latin1');
  });
}
