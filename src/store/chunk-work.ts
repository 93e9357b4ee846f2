import { LRUCache } from 'lru-cache';
import type { FileResult } from '../model/file-result.js';
import { CHUNK_FILES, decodePaths } from './chunk-codec.js';
import type { Commands, ScriptReply } from './commands.js';
import { encodeDetails } from './detail-codec.js';
import { STATE_BYTES } from './file-states.js';
import type { Files } from './files.js';
import { packResults, pathsOf } from './updates.js';
import { holdCode } from './waiting.js';
import type { ChunkFile, ChunkRun, HoldReason, RecordReply, WorkJob } from './work.js';
import { chunkFile, queueOfOpenJob, workJob } from './work-job.js';

/** Of the jobs whose chunks were begun last. */
const REMEMBERED_JOBS = 10_000;
const ACTIVE = STATE_BYTES.active.charCodeAt(0);

/** Chunks of files, for those who flush or copy them. */
export class ChunkWork {
  readonly #commands: Commands;
  readonly #files: Files;
  /** Job → its queue, which never changes. */
  readonly #queueOfJob = new LRUCache<string, string>({ max: REMEMBERED_JOBS });
  /** Runs whose chunk's details lie in more than one blob. */
  readonly #scattered = new WeakSet<ChunkRun>();

  constructor(commands: Commands, files: Files) {
    this.#commands = commands;
    this.#files = files;
  }

  /** Marks the unfinished files of a chunk active. Null: the job is gone or has ended, there is nothing to do. */
  async begin<Job extends WorkJob = WorkJob>(jobId: string, chunk: number): Promise<ChunkRun<Job> | null> {
    const queue = this.#queueOfJob.get(jobId) ?? (await queueOfOpenJob(this.#commands, jobId));
    if (queue === null) return null;
    this.#queueOfJob.set(jobId, queue);
    const reply = await this.#commands.onJob('wbBegin', jobId, queue, chunk);
    if (!Array.isArray(reply)) return null;
    const [run, states, blob, meta, , deadlineAt, ...hold] = reply;
    const entries = decodePaths(blob as Buffer);
    const files: ChunkFile[] = [];
    (states as Buffer).forEach((state, offset) => {
      if (state === ACTIVE) files.push(chunkFile(chunk * CHUNK_FILES + offset, entries[offset] as Buffer));
    });
    return {
      job: workJob(jobId, queue, meta, deadlineAt) as Job,
      chunk,
      run: Number(run),
      files,
      hold: holdReason(hold),
    };
  }

  /** Counts what ended, exactly once per file however often it is called. At most 512 results, all of this chunk. */
  async record(run: ChunkRun, results: readonly FileResult[]): Promise<RecordReply> {
    const packed = packResults(run.chunk, results);
    const reply = await this.#commands.onJob(
      'wbRecord',
      run.job.id,
      run.job.queue,
      run.chunk,
      packed.updates,
      results.length > 0 ? encodeDetails(packed.details, pathsOf(run.chunk, results)) : '',
      packed.sentence,
      packed.codes,
      ...packed.samples,
    );
    const [state, accepted, blobs] = reply as [Buffer, number, number];
    if (blobs > 1) this.#scattered.add(run);
    return { state: String(state) as RecordReply['state'], accepted };
  }

  /** Gives back a chunk that will be run again: its active files become pending. */
  async release(run: ChunkRun): Promise<void> {
    await this.#commands.onJob('wbRelease', run.job.id, run.job.queue, run.chunk, run.run);
  }

  /** After the last `record` of a chunk: packs its details into one. */
  async end(run: ChunkRun): Promise<void> {
    if (!this.#scattered.delete(run)) return;
    const { job, chunk } = run;
    const key = this.#commands.keys.details(job.id);
    // Another batch can come in between only from an older run that is still alive: rare, and then it is packed again.
    for (let tries = 0; tries < 3; tries++) {
      const batches = await this.#commands.redis.hget(key, `${chunk}:n`);
      if (batches === null) return;
      const states = await this.#files.states(job.id, chunk * CHUNK_FILES, CHUNK_FILES);
      const [stored] = await this.#files.read(job.id, [chunk], () => states);
      if (!stored) return;
      const details = [...stored.details.values()].sort((a, b) => a.offset - b.offset);
      const blob = encodeDetails(details, (offset) => stored.pathOf(offset));
      if ((await this.#commands.onJob('wbCompact', job.id, job.queue, chunk, batches, blob)) === 1) return;
    }
  }
}

function holdReason([code, since, message]: readonly ScriptReply[]): HoldReason | null {
  const at = Number(since ?? 0);
  return at === 0 ? null : { code: holdCode(String(code ?? '')), since: at, message: String(message ?? '') };
}
