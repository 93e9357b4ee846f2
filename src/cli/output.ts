import { CliError } from './cli-error.js';
import type { CliOutput } from './context.js';
import { EXIT } from './exit-codes.js';

/**
 * Writes and waits until it is taken, so that a long listing holds no more than a page in memory.
 * @throws {CliError} without a message when the reader is gone, as in `writeback files ID | head`
 */
export function write(stream: CliOutput, text: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => {
      if (!error) resolve();
      else if ('code' in error && error.code === 'EPIPE') reject(new CliError('', EXIT.brokenPipe));
      else reject(new CliError(`Cannot write the output: ${error.message}.`, EXIT.error, { cause: error }));
    });
  });
}

export function writeLine(stream: CliOutput, line: string): Promise<void> {
  return write(stream, `${line}\n`);
}

/** One JSON document per line. A name's bytes outside UTF-8 are escapes such as `"\udcff"`, as in the API. */
export function writeJson(stream: CliOutput, value: unknown): Promise<void> {
  return write(stream, `${JSON.stringify(value)}\n`);
}
