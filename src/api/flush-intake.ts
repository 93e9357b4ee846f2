import { BrokerError } from '../model/errors.js';
import type { ApiLimits } from '../model/limits.js';
import type { JobIntake } from '../store/types.js';
import type { ListReader } from './flush-lists.js';

const NUL = 0x00;

/**
 * Puts every path of a body into the intake, as it arrives and no faster than the store takes it. `room` is how many
 * more files the queue of the cache takes.
 *
 * @throws {BrokerError} what `chunks`, `reader` and the intake throw, PATH_TOO_LONG, TOO_MANY_FILES, VALIDATION, QUEUE_FULL
 */
export async function takeFiles(
  intake: JobIntake,
  chunks: AsyncIterable<Uint8Array>,
  reader: ListReader,
  limits: ApiLimits,
  room: number,
): Promise<void> {
  const take = async (paths: Iterable<Uint8Array>) => {
    for (const path of paths) {
      checkPath(path, reader, limits);
      if (intake.filesAdded >= limits.filesPerJob) throw tooManyFiles(limits);
      const full = intake.add(path);
      if (full !== undefined) await full;
    }
    if (intake.filesAdded > room) throw queueFull();
  };
  for await (const chunk of chunks) await take(reader.push(chunk));
  await take(reader.end());
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

function tooManyFiles(limits: ApiLimits): BrokerError {
  return new BrokerError(
    'TOO_MANY_FILES',
    `The list has more than ${limits.filesPerJob} files. Send it in parts, each as a job of its own.`,
  );
}

export function queueFull(): BrokerError {
  return new BrokerError(
    'QUEUE_FULL',
    'More files wait for this cache than the service keeps. Try again when some are done.',
    { retryAfterSeconds: 30 },
  );
}
