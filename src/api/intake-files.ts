import { BrokerError } from '../model/errors.js';
import type { ApiLimits } from '../model/limits.js';
import type { FileEntry } from '../store/entry.js';
import type { CommitOptions, JobIntake } from '../store/types.js';
import type { JobRequest } from './job-intake.js';

/** The files of a request on their way into the intake, within the limits of a job and of the queue it is for. */

/** One of the forms in which the files of a request arrive. */
export interface FileReader<File> {
  /** The files that are complete with this chunk; they may share its memory. Must be read to its end. */
  push(chunk: Uint8Array): Iterable<File>;
  end(): Iterable<File>;
}

/** How many files of a request its queue takes, and what is said when that is not enough. */
export interface QueueRoom {
  files: number;
  full(): BrokerError;
}

/**
 * The room for a request in the queue of a cache or a node, in which `queued` files wait. One that joins a job or was
 * answered before needs none; which of them it is, `commit` says at the end.
 * @throws {BrokerError} QUEUE_FULL
 */
export async function queueRoom(
  of: 'cache' | 'node',
  { answered }: JobRequest,
  join: boolean,
  limits: ApiLimits,
  queued: () => Promise<number>,
): Promise<QueueRoom> {
  const full = () =>
    new BrokerError(
      'QUEUE_FULL',
      `More files wait for this ${of} than the service keeps. Try again when some are done.`,
      { retryAfterSeconds: 30 },
    );
  if (answered || join) return { files: Number.POSITIVE_INFINITY, full };
  const files = limits.queuedFilesPerCache - (await queued());
  if (files <= 0) throw full();
  return { files, full };
}

/** Whether a request joins is known only when all of it was read: until then its queue may be full. */
export function commitOptions(join: boolean, limits: ApiLimits): CommitOptions {
  return join ? { join, queuedFilesAtMost: limits.queuedFilesPerCache } : {};
}

/**
 * Puts every file of a body into the intake, as it arrives and no faster than the store takes it.
 * @throws {BrokerError} what `chunks`, `reader` and the intake throw, TOO_MANY_FILES, QUEUE_FULL
 */
export async function takeBody(
  intake: JobIntake,
  chunks: AsyncIterable<Uint8Array>,
  reader: FileReader<Uint8Array | FileEntry>,
  limits: ApiLimits,
  room: QueueRoom | null,
): Promise<void> {
  for await (const chunk of chunks) await takeFiles(intake, reader.push(chunk), limits, room);
  await takeFiles(intake, reader.end(), limits, room);
}

/**
 * No `room`: it is not known yet which queue the files are for.
 * @throws {BrokerError} what `files` and the intake throw, TOO_MANY_FILES, QUEUE_FULL
 */
export async function takeFiles(
  intake: JobIntake,
  files: Iterable<Uint8Array | FileEntry>,
  limits: ApiLimits,
  room: QueueRoom | null,
): Promise<void> {
  for (const file of files) {
    if (intake.filesAdded >= limits.filesPerJob) {
      throw new BrokerError(
        'TOO_MANY_FILES',
        `The list has more than ${limits.filesPerJob} files. Send it in parts, each as a job of its own.`,
      );
    }
    if (room !== null && intake.filesAdded >= room.files) throw room.full();
    const full = intake.add(file);
    if (full !== undefined) await full;
  }
}
