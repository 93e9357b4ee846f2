import { BrokerError } from '../model/errors.js';
import type { ApiLimits } from '../model/limits.js';
import type { ListReader } from './flush-lists.js';
import type { FileReader } from './intake-files.js';

const NUL = 0x00;

/** The paths of `reader`; one that is empty, too long or has a NUL in it throws a BrokerError VALIDATION or PATH_TOO_LONG, and `visit` may throw another. */
export function checkedPaths(
  reader: ListReader,
  limits: ApiLimits,
  visit?: (path: Uint8Array, where: string) => void,
): FileReader<Uint8Array> {
  function* checked(paths: Iterable<Uint8Array>): Generator<Uint8Array, void, undefined> {
    for (const path of paths) {
      checkPath(path, reader, limits);
      visit?.(path, reader.where);
      yield path;
    }
  }
  return { push: (chunk) => checked(reader.push(chunk)), end: () => checked(reader.end()) };
}

function checkPath(path: Uint8Array, reader: ListReader, limits: ApiLimits): void {
  if (path.length > limits.pathBytes) {
    throw new BrokerError(
      'PATH_TOO_LONG',
      `The path at ${reader.where} has ${path.length} bytes; ${limits.pathBytes} are allowed.`,
      { pointer: reader.where },
    );
  }
  if (path.length === 0) {
    throw new BrokerError('VALIDATION', `The path at ${reader.where} is empty.`, { pointer: reader.where });
  }
  if (path.indexOf(NUL) >= 0) {
    throw new BrokerError(
      'VALIDATION',
      `The path at ${reader.where} has a NUL in it, which no file name has. A list made by "find -print0" is sent as text/plain with ?delimiter=nul.`,
      { pointer: reader.where },
    );
  }
}
