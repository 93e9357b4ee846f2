import type { FileResult } from '../model/file-result.js';
import { liesWithin, pathBytes, tidyPathBytes } from '../model/pathname.js';
import { CHUNK_FILES, encodePaths } from './chunk-codec.js';
import type { Commands } from './commands.js';
import { encodeDetails } from './detail-codec.js';
import { decodeEntry, encodeEntry } from './entry.js';
import { STATE_BYTES } from './file-states.js';
import type { Files } from './files.js';
import type { Queues } from './queue.js';
import { DEFAULT_FILES_PER_JOB, type WorkStoreOptions } from './settings.js';
import type { DirectoryRequest } from './types.js';
import { packResults, pathsOf } from './updates.js';
import type { AppendEnd, AppendRoom, ChunkFile, ExpansionRun, NamedFile, NewFile, WorkJob } from './work.js';
import { chunkFile, queueOfOpenJob, workJob } from './work-job.js';

const SKIPPED = STATE_BYTES.skipped.charCodeAt(0);

/** Directories of jobs, for those who expand them. */
export class ExpansionWork {
  readonly #commands: Commands;
  readonly #queues: Queues;
  readonly #options: WorkStoreOptions;
  readonly #files: Files;
  /** Appends of an expansion so far: a command sent twice is told from two by its number. */
  readonly #appends = new WeakMap<ExpansionRun, number>();

  constructor(commands: Commands, queues: Queues, files: Files, options: WorkStoreOptions) {
    this.#commands = commands;
    this.#queues = queues;
    this.#options = options;
    this.#files = files;
  }

  /**
   * Null: the directory is done, or the job is gone or has ended. `later`: a directory before it that overlaps with it
   * is not done; the files of both belong to that one. `no room`: the quota of the principal is used up.
   */
  async begin<Job extends WorkJob = WorkJob>(
    jobId: string,
    directory: number,
  ): Promise<ExpansionRun<Job> | null | 'later' | 'no room'> {
    const queue = await queueOfOpenJob(this.#commands, jobId);
    if (queue === null) return null;
    const reply = await this.#commands.onJob('wbBeginExpansion', jobId, queue, directory);
    if (!Array.isArray(reply)) return String(reply) === 'no room' ? 'no room' : null;
    const [run, directories, meta, , deadlineAt] = reply;
    const requests = JSON.parse(String(directories)) as DirectoryRequest[];
    const request = requests[directory];
    if (!request) return null;
    const before = overlapping(requests, directory);
    if (!(await this.#areExpanded(jobId, before))) return 'later';
    return {
      job: workJob(jobId, queue, meta, deadlineAt) as Job,
      directory,
      run: Number(run),
      request,
      appended: () => this.#appended(jobId, (from) => from === directory),
      namedBefore: () => this.#namedBefore(jobId, request, before),
    };
  }

  /** Adds files to the job and queues them, atomically. At most 512 of them; fill them up, each call is a chunk. */
  async append(run: ExpansionRun, files: readonly (string | NewFile)[]): Promise<AppendEnd | AppendRoom> {
    const entries = files.map((file) =>
      encodeEntry(
        typeof file === 'string'
          ? { path: pathBytes(file), destination: null, size: null }
          : {
              path: pathBytes(file.path),
              destination: file.destination === null ? null : pathBytes(file.destination),
              size: file.size,
            },
      ),
    );
    const reply = await this.#appendEntries(run, entries, '', '', '', '', []);
    return typeof reply === 'number' ? { room: reply } : reply;
  }

  /**
   * Adds entries that ended already, e.g. a directory that cannot be read, so that the job shows them. A job that is
   * full takes some of these nevertheless.
   */
  async appendEnded(run: ExpansionRun, results: readonly FileResult[]): Promise<AppendEnd> {
    // Their positions are not known before the script gives them a chunk; within it they are 0, 1, 2 ….
    const placed = results.map((result, index) => ({ ...result, index }));
    const packed = packResults(0, placed);
    const details = encodeDetails(packed.details, pathsOf(0, placed));
    const entries = results.map(({ path, destination = null }) =>
      encodeEntry({
        path: pathBytes(path),
        destination: destination === null ? null : pathBytes(destination),
        size: null,
      }),
    );
    const { updates, sentence, codes, samples } = packed;
    // What has ended takes no room.
    return (await this.#appendEntries(run, entries, updates, details, sentence, codes, samples)) as AppendEnd;
  }

  /** After the last append. `matched` is how many files the walk found, appended by this or an earlier run. */
  async end({ job, directory, run, request }: ExpansionRun, matched: number): Promise<void> {
    await this.#commands.onJob(
      'wbEndExpansion',
      job.id,
      job.queue,
      directory,
      run,
      matched,
      'DIRECTORY_WITHOUT_FILES',
      `Nothing below ${JSON.stringify(request.path)} matched, so this directory added no file.`,
    );
  }

  async #areExpanded(jobId: string, directories: readonly number[]): Promise<boolean> {
    if (directories.length === 0) return true;
    const fields = directories.map((directory) => `d${directory}:done`);
    return !(await this.#commands.redis.hmget(this.#commands.keys.runs(jobId), ...fields)).includes(null);
  }

  async *#namedBefore(
    jobId: string,
    { path, destination }: DirectoryRequest,
    directories: readonly number[],
  ): AsyncIterable<NamedFile> {
    const [source, target] = [tidyPath(path), destination === undefined ? null : tidyPath(destination)];
    const wanted = new Set<number | null>([null, ...directories]);
    let chunk = -1;
    let states: Buffer = Buffer.alloc(0);
    for await (const file of this.#appended(jobId, (from) => wanted.has(from))) {
      const isTarget = target && file.destination !== null && liesWithin(tidyPath(file.destination), target);
      if (!isTarget && !liesWithin(tidyPath(file.path), source)) continue;
      const at = Math.floor(file.index / CHUNK_FILES);
      if (at !== chunk) states = await this.#files.states(jobId, at * CHUNK_FILES, CHUNK_FILES);
      chunk = at;
      yield { ...file, skipped: states[file.index - at * CHUNK_FILES] === SKIPPED };
    }
  }

  /** Files of chunks by where they come from: the index of a directory, or null for the list. */
  async *#appended(jobId: string, wanted: (from: number | null) => boolean): AsyncIterable<ChunkFile> {
    const { redis, keys } = this.#commands;
    const [chunks, runs] = await Promise.all([
      redis.hget(keys.job(jobId), 'chunks'),
      redis.hgetall(keys.runs(jobId)) as Promise<Record<string, string>>,
    ]);
    for (let chunk = 0; chunk < Number(chunks ?? 0); chunk++) {
      const from = runs[`c${chunk}`];
      if (!wanted(from === undefined ? null : Number(from))) continue;
      const entries = await this.#files.entries(jobId, chunk);
      for (const [offset, entry] of entries.entries()) yield chunkFile(chunk * CHUNK_FILES + offset, entry);
    }
  }

  async #appendEntries(
    run: ExpansionRun,
    entries: readonly Buffer[],
    updates: Buffer | string,
    details: Buffer | string,
    sentence: string,
    codes: string,
    samples: readonly (string | number)[],
  ): Promise<AppendEnd | number> {
    if (entries.length === 0) return 'ok';
    if (entries.length > CHUNK_FILES) throw new RangeError(`a chunk has at most ${CHUNK_FILES} files`);
    const { job, directory } = run;
    const sizes = entries.map((entry) => decodeEntry(entry).size);
    const sequence = (this.#appends.get(run) ?? 0) + 1;
    this.#appends.set(run, sequence);
    const reply = await this.#commands.onJob(
      'wbAppend',
      job.id,
      job.queue,
      directory,
      run.run,
      sequence,
      this.#options.filesPerJob ?? DEFAULT_FILES_PER_JOB,
      entries.length,
      encodePaths(entries),
      // What has ended already is not waited for.
      updates.length > 0 ? 0 : sizes.filter((size) => size === null).length,
      sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0),
      updates,
      details,
      sentence,
      codes,
      ...samples,
    );
    if (typeof reply === 'number') return reply;
    const answer = String(reply) as AppendEnd;
    // The chunk is safe; should BullMQ not get it now, the sweeper gives it.
    if (answer === 'ok') {
      await this.#queues
        .handOver(job.id, job.queue)
        .catch((error: unknown) => this.#options.onError?.(error, 'queueing an expanded chunk'));
    }
    return answer;
  }
}

/** Directories before this one that lie within it, or it within them; or whose destinations do. */
function overlapping(requests: readonly DirectoryRequest[], directory: number): number[] {
  const before = requests.slice(0, directory);
  const own = requests[directory] as DirectoryRequest;
  return [...before.keys()].filter((at) => {
    const { path, destination } = before[at] as DirectoryRequest;
    if (overlap(path, own.path)) return true;
    return (
      destination !== undefined && own.destination !== undefined && overlap(destination, own.destination)
    );
  });
}

function overlap(one: string, other: string): boolean {
  return liesWithin(tidyPath(one), tidyPath(other)) || liesWithin(tidyPath(other), tidyPath(one));
}

function tidyPath(path: string): Uint8Array {
  return tidyPathBytes(pathBytes(path));
}
