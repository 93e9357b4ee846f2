import { LRUCache } from 'lru-cache';
import type { CacheLimits } from '../model/cache.js';
import type { FileErrorCode } from '../model/errors.js';
import type { FileResult } from '../model/file-result.js';
import { liesWithin, pathBytes, pathText, tidyPathBytes } from '../model/pathname.js';
import { isTerminalJobState, type JobState } from '../model/words.js';
import { CHUNK_FILES, decodePaths, encodePaths } from './chunk-codec.js';
import { Commands, type ScriptReply } from './commands.js';
import { connectForQueue, connectWaiting, disconnect, type QueueConnection } from './connect.js';
import { encodeDetails } from './detail-codec.js';
import { type DialectTarget, proofField } from './dialect-proof.js';
import { decodeEntry, encodeEntry } from './entry.js';
import { Subscriptions } from './events.js';
import { STATE_BYTES } from './file-states.js';
import { Files } from './files.js';
import { parseMeta } from './job-record.js';
import { Keys } from './keys.js';
import { filesPerSecondOf } from './limits.js';
import { Queues } from './queue.js';
import { readRegistry } from './registry.js';
import { tellServer } from './serving.js';
import { DEFAULT_FILES_PER_JOB, type WorkStoreOptions } from './settings.js';
import { TransferWork } from './transfers.js';
import type { DirectoryRequest } from './types.js';
import { packResults } from './updates.js';
import { holdCode } from './waiting.js';
import type {
  AppendEnd,
  AppendRoom,
  CacheHold,
  ChunkFile,
  ChunkRun,
  ExpansionRun,
  HoldReason,
  NamedFile,
  NewFile,
  NextItem,
  QueueEntry,
  RecordReply,
  Slots,
  Starts,
  WorkJob,
  WorkStore,
} from './work.js';

const LEASE_MS = 10_000;
/** A worker must have stopped before Redis gives its slots away. */
const LEASE_MARGIN_MS = 1000;
const SHORTEST_HOLD_MS = 1000;
const LONGEST_HOLD_MS = 30_000;
/** Enough for the files of some jobs, so that the bad ones of a single job do not keep the circuit open. */
const TRIAL_SLOTS = 4;
const RESYNC_MS = 15_000;
const ENDINGS_RECHECK_MS = 3000;
/** Of the jobs whose chunks were begun last. */
const REMEMBERED_JOBS = 10_000;
const ACTIVE = STATE_BYTES.active.charCodeAt(0);
const SKIPPED = STATE_BYTES.skipped.charCodeAt(0);

/** The store as a worker uses it; one per process. */
export function openWorkStore(options: WorkStoreOptions): WorkStore {
  return new RedisWorkStore(options);
}

class RedisWorkStore implements WorkStore {
  readonly bullPrefix: string;
  readonly transfers: TransferWork;
  readonly #options: WorkStoreOptions;
  readonly #commands: Commands;
  readonly #queues: Queues;
  readonly #files: Files;
  readonly #subscriptions: Subscriptions;
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Job → its queue, which never changes. */
  readonly #queueOfJob = new LRUCache<string, string>({ max: REMEMBERED_JOBS });
  /** Runs whose chunk's details lie in more than one blob. */
  readonly #scattered = new WeakSet<ChunkRun>();
  /** Appends of an expansion so far: a command sent twice is told from two by its number. */
  readonly #appends = new WeakMap<ExpansionRun, number>();

  constructor(options: WorkStoreOptions) {
    this.#options = options;
    const keys = new Keys(options.keyPrefix);
    this.bullPrefix = keys.tag;
    this.#commands = new Commands(connectWaiting(options.redis, 'writeback-work'), keys);
    this.#queues = new Queues(this.#commands);
    this.#files = new Files(this.#commands);
    this.#subscriptions = new Subscriptions(options.redis);
    this.transfers = new TransferWork(this.#commands, this.#subscriptions, this.#files);
  }

  newConnection(): QueueConnection {
    return connectForQueue(this.#options.redis, 'writeback-queue');
  }

  watchQueues(onChange: (queues: QueueEntry[]) => void): () => void {
    let told = '';
    let ended = false;
    const read = async (): Promise<void> => {
      const queues = await readRegistry(this.#commands);
      const text = JSON.stringify(queues);
      if (ended || text === told) return;
      told = text;
      onChange(queues);
    };
    const look = (): void => {
      read().catch((error: unknown) => {
        if (!ended) this.#options.onError?.(error, 'reading the registry of queues');
      });
    };
    const unlisten = this.#subscriptions.listen(this.#commands.keys.registry, look, look);
    const stopLooking = this.#every(RESYNC_MS, look);
    look();
    return () => {
      ended = true;
      unlisten();
      stopLooking();
    };
  }

  watchEndings(onEnd: (jobId: string, why: 'canceled' | 'expired') => void): () => void {
    const tell = (jobId: string, why: string | null | undefined): void => {
      if (why === 'canceled' || why === 'expired') onEnd(jobId, why);
    };
    const { redis, keys } = this.#commands;
    let ended = false;
    const read = async (): Promise<void> => {
      for (const jobId of await redis.smembers(keys.ending)) {
        const why = await redis.hget(keys.job(jobId), 'ending');
        if (!ended) tell(jobId, why);
      }
    };
    // A message can be lost while Redis is away, and a worker whose flushes all hang records nothing for long.
    const look = (): void => {
      read().catch((error: unknown) => {
        if (!ended) this.#options.onError?.(error, 'looking for jobs that are ending');
      });
    };
    const unlisten = this.#subscriptions.listen(
      keys.endings,
      (message) => tell(message.split(' ')[0] ?? '', message.split(' ')[1]),
      look,
    );
    const stopLooking = this.#every(ENDINGS_RECHECK_MS, look);
    return () => {
      ended = true;
      unlisten();
      stopLooking();
    };
  }

  async beginChunk<Job extends WorkJob>(jobId: string, chunk: number): Promise<ChunkRun<Job> | null> {
    const queue = this.#queueOfJob.get(jobId) ?? (await this.#queueOf(jobId));
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

  async releaseChunk(run: ChunkRun): Promise<void> {
    await this.#commands.onJob('wbRelease', run.job.id, run.job.queue, run.chunk, run.run);
  }

  async endChunk(run: ChunkRun): Promise<void> {
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

  async beginExpansion<Job extends WorkJob>(
    jobId: string,
    directory: number,
  ): Promise<ExpansionRun<Job> | null | 'later' | 'no room'> {
    const queue = await this.#queueOf(jobId);
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

  async appendExpanded(
    run: ExpansionRun,
    files: readonly (string | NewFile)[],
  ): Promise<AppendEnd | AppendRoom> {
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
    const reply = await this.#append(run, entries, '', '', '', '', []);
    return typeof reply === 'number' ? { room: reply } : reply;
  }

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
    return (await this.#append(run, entries, updates, details, sentence, codes, samples)) as AppendEnd;
  }

  async endExpansion({ job, directory, run, request }: ExpansionRun, matched: number): Promise<void> {
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

  async warn(jobId: string, code: string, message: string, count: number | null): Promise<void> {
    const queue = await this.#queueOf(jobId);
    if (queue !== null) await this.#commands.onJob('wbWarn', jobId, queue, code, message, count ?? '');
  }

  async setStatusDetail(jobId: string, detail: string | null): Promise<void> {
    const queue = await this.#queueOf(jobId);
    if (queue !== null) await this.#commands.onJob('wbSetDetail', jobId, queue, detail ?? '');
  }

  nextItem(queue: string): Promise<NextItem | null> {
    return this.#queues.next(queue);
  }

  async leaseSlots(
    queue: string,
    workerId: string,
    configured: CacheLimits,
    inUse: number,
    wanted: number,
  ): Promise<Slots> {
    const askedAt = Date.now();
    const leases = this.#commands.keys.leases(queue);
    const reply = await this.#commands.onCache(
      'wbLease',
      queue,
      [leases],
      workerId,
      inUse,
      wanted,
      LEASE_MS,
      configured.inFlight,
      configured.filesPerSecond ?? '',
      TRIAL_SLOTS,
    );
    const [slots, paused, inFlight, perSecond, trial] = reply as [number, number, number, Buffer, number];
    return {
      slots,
      paused: paused === 1,
      limits: { inFlight, filesPerSecond: filesPerSecondOf(String(perSecond)) },
      trial: trial === 1,
      validUntil: askedAt + LEASE_MS - LEASE_MARGIN_MS,
    };
  }

  async takeStarts(queue: string, filesPerSecond: number, wanted: number): Promise<Starts> {
    const bucket = this.#commands.keys.bucket(queue);
    const reply = await this.#commands.onCache('wbStarts', queue, [bucket], filesPerSecond, wanted);
    const [granted, waitMs] = reply as [number, number];
    return { granted, waitMs };
  }

  async cacheUp(queue: string, flushed = false): Promise<void> {
    const ended = await this.#commands.onCache('wbUp', queue, [], flushed ? '1' : '0');
    // Otherwise BullMQ would keep to the pause although the hold has ended.
    if (ended === 1) await this.#queues.release(queue);
  }

  async serves(queue: string, server: string, present: boolean, registered = false): Promise<void> {
    await tellServer(this.#commands, queue, server, present, registered);
  }

  holdCache(queue: string, code: FileErrorCode, message: string): Promise<CacheHold> {
    return this.#hold(queue, code, message, false);
  }

  openCircuit(queue: string, code: FileErrorCode, message: string): Promise<CacheHold> {
    return this.#hold(queue, code, message, true);
  }

  async #hold(queue: string, code: FileErrorCode, message: string, answers: boolean): Promise<CacheHold> {
    const reply = await this.#commands.onCache(
      'wbHold',
      queue,
      [],
      code,
      message,
      SHORTEST_HOLD_MS,
      LONGEST_HOLD_MS,
      answers ? '1' : '0',
    );
    const [until, tries, forMs] = reply as [number, number, number];
    await this.#queues.hold(queue, Math.max(1, forMs));
    return { until, tries };
  }

  async getHold(queue: string): Promise<CacheHold | null> {
    const key = this.#commands.keys.cache(queue);
    const [until, tries] = await this.#commands.redis.hmget(key, 'holdUntil', 'holdTries');
    return until && tries ? { until: Number(until), tries: Number(tries) } : null;
  }

  async isDialectProven(queue: string, target: DialectTarget): Promise<boolean> {
    return (await this.#commands.redis.hexists(this.#commands.keys.cache(queue), proofField(target))) === 1;
  }

  async setDialectProven(queue: string, target: DialectTarget): Promise<void> {
    await this.#commands.redis.hset(this.#commands.keys.cache(queue), proofField(target), '1');
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers.clear();
    this.#subscriptions.close();
    await this.#queues.close();
    disconnect(this.#commands.redis);
  }

  #every(ms: number, work: () => void): () => void {
    const timer = setInterval(work, ms);
    timer.unref();
    this.#timers.add(timer);
    return () => {
      clearInterval(timer);
      this.#timers.delete(timer);
    };
  }

  /** Null: there is no such job, or it has ended. */
  async #queueOf(jobId: string): Promise<string | null> {
    const key = this.#commands.keys.job(jobId);
    const [queue, state] = await this.#commands.redis.hmget(key, 'queue', 'state');
    return queue && state && !isTerminalJobState(state as JobState) ? queue : null;
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

  async #append(
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

function workJob(
  id: string,
  queue: string,
  meta: ScriptReply | undefined,
  deadlineAt: ScriptReply | undefined,
): WorkJob {
  const { labels: _, parentJobId: __, ...target } = parseMeta(String(meta));
  return { ...target, id, queue, deadlineAt: Number(deadlineAt) };
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

function holdReason([code, since, message]: readonly ScriptReply[]): HoldReason | null {
  const at = Number(since ?? 0);
  return at === 0 ? null : { code: holdCode(String(code ?? '')), since: at, message: String(message ?? '') };
}

function chunkFile(index: number, bytes: Buffer): ChunkFile {
  const { path, destination, size } = decodeEntry(bytes);
  return { index, path: pathText(path), destination: destination && pathText(destination), size };
}

function pathsOf(chunk: number, results: readonly FileResult[]): (offset: number) => string {
  const paths = new Map(results.map(({ index, path }) => [index - chunk * CHUNK_FILES, path]));
  return (offset) => paths.get(offset) ?? '';
}
