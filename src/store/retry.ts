import { BrokerError } from '../model/errors.js';
import type { Job } from '../model/job.js';
import { isTerminalJobState } from '../model/words.js';
import { CHUNK_FILES } from './chunk-codec.js';
import type { Commands } from './commands.js';
import { decodeEntry } from './entry.js';
import { STATE_BYTES } from './file-states.js';
import type { Files } from './files.js';
import { type JobRow, jobMeta, jobState } from './job-record.js';
import type { DirectoryRequest, FileCheck, JobIntake } from './types.js';

const SLICE_FILES = CHUNK_FILES * 64;
const BAD = new Set(
  [STATE_BYTES.failed, STATE_BYTES.expired, STATE_BYTES.canceled].map((byte) => byte.charCodeAt(0)),
);

/**
 * Makes a new job of the files of an ended one that failed, expired or were canceled, chunk by chunk, never with the
 * list in memory. A directory whose expansion did not come to its end, or met a directory it could not read, is
 * expanded anew, and its files are then not named one by one. The warnings of the job stay its own: they are about
 * files that are not tried again.
 * @throws BrokerError JOB_NOT_FINISHED, NOTHING_TO_RETRY, and what `check` throws
 */
export async function retryJob(
  commands: Commands,
  files: Files,
  row: JobRow,
  intake: JobIntake,
  check?: FileCheck,
): Promise<Job> {
  const id = row.id ?? '';
  if (!isTerminalJobState(jobState(row))) {
    throw new BrokerError(
      'JOB_NOT_FINISHED',
      `Job ${id} is ${row.state}. Wait for its end, or cancel it first.`,
    );
  }
  // Where the parent came from is no part of what its retry is.
  const { origin: _, ...meta } = jobMeta(row);
  try {
    const again = await directoriesAgain(commands, files, row);
    await eachBadChunk(files, id, async (chunk, states) => {
      const directory = again.directoryOf.get(chunk);
      if (directory !== undefined && again.indices.has(directory)) return;
      const entries = await files.entries(id, chunk);
      const [stored] = meta.kind === 'transfer' ? await files.read(id, [chunk], () => states) : [];
      for (let offset = 0; offset < states.length; offset++) {
        const entry = entries[offset];
        if (!entry || !BAD.has(states[offset] as number)) continue;
        // Alone it would replace the copy of the file that it collided with.
        if (stored?.details.get(offset)?.lastError?.code === 'DESTINATION_TAKEN') continue;
        check?.checkFile(decodeEntry(entry), `/files/${chunk * CHUNK_FILES + offset}`);
        await intake.add(entry);
      }
    });
    if (intake.filesAdded === 0 && again.indices.size === 0) {
      throw new BrokerError(
        'NOTHING_TO_RETRY',
        `Every file of job ${id} succeeded, was skipped, or has the destination of another.`,
      );
    }
    for (const index of again.indices) {
      const directory = again.requests[index];
      if (directory) check?.checkDirectory(directory, `/directories/${index}`);
    }
    return await intake.commit({
      ...(check ? confinedBy(meta, check) : meta),
      directories: [...again.indices].flatMap((index) => again.requests[index] ?? []),
      parentJobId: id,
    });
  } catch (error) {
    await intake.abort();
    throw error;
  }
}

/** What its owner may flush or transfer now, and not what that was once. */
function confinedBy<Meta extends object>(meta: Meta, { confinedTo, asks }: FileCheck): Meta {
  const { confinedTo: _, ...rest } = meta as Meta & { confinedTo?: string[] };
  return {
    ...rest,
    ...(confinedTo && { confinedTo }),
    ...('followsLinks' in rest && { followsLinks: !asks }),
  } as Meta;
}

interface DirectoriesAgain {
  requests: DirectoryRequest[];
  /** Which of them are to be expanded anew. */
  indices: Set<number>;
  /** Chunk → the directory it came from. */
  directoryOf: Map<number, number>;
}

async function directoriesAgain(commands: Commands, files: Files, row: JobRow): Promise<DirectoriesAgain> {
  const id = row.id ?? '';
  const again: DirectoriesAgain = { requests: [], indices: new Set(), directoryOf: new Map() };
  if (!Number(row.directories)) return again;
  const meta = jobMeta(row);
  const drivesScr = meta.kind === 'transfer' && meta.options.scrTransferFile !== null;
  const runs: Record<string, string> = await commands.redis.hgetall(commands.keys.runs(id));
  again.requests = JSON.parse(runs.directories ?? '[]') as DirectoryRequest[];
  again.requests.forEach((_, index) => {
    if (runs[`d${index}:done`] === undefined) again.indices.add(index);
  });
  for (const [field, value] of Object.entries(runs)) {
    if (/^c\d+$/.test(field)) again.directoryOf.set(Number(field.slice(1)), Number(value));
  }
  await eachBadChunk(files, id, async (chunk, states) => {
    const directory = again.directoryOf.get(chunk);
    if (directory === undefined || again.indices.has(directory)) return;
    // What an SCR transfer file lists is for its daemon alone.
    if (drivesScr) again.indices.add(directory);
    const [stored] = await files.read(id, [chunk], () => states);
    for (const detail of stored?.details.values() ?? []) {
      if (detail.lastError?.phase === 'expand') again.indices.add(directory);
    }
  });
  return again;
}

/** Calls `work` for each chunk that holds such a file, one after the other. */
async function eachBadChunk(
  files: Files,
  id: string,
  work: (chunk: number, states: Buffer) => Promise<void>,
): Promise<void> {
  for (let start = 0; ; start += SLICE_FILES) {
    const slice = await files.states(id, start, SLICE_FILES);
    for (let at = 0; at < slice.length; at += CHUNK_FILES) {
      const states = slice.subarray(at, at + CHUNK_FILES);
      if (states.some((byte) => BAD.has(byte))) await work((start + at) / CHUNK_FILES, states);
    }
    if (slice.length < SLICE_FILES) return;
  }
}
