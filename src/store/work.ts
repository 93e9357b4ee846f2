import type { CacheConfig, CacheLimits, Credential } from '../model/cache.js';
import type { FileErrorCode } from '../model/errors.js';
import type { FileResult } from '../model/file-result.js';
import type { JobState, WebhookEvent } from '../model/words.js';
import type { QueueConnection } from './connect.js';
import type { DialectTarget } from './dialect-proof.js';
import type { TransferWork } from './transfers.js';
import type { DirectoryRequest, FlushTarget, JobOrigin, TransferTarget } from './types.js';

/** What a worker needs of the store: take up a chunk, say what became of its files, share a cache with others. */

/** The data of a BullMQ job: a chunk of files, or a directory to expand (its index in the job's request). */
export type WorkItem = { jobId: string; chunk: number } | { jobId: string; directory: number };

/** The item of a queue that is taken next. */
export interface NextItem {
  jobId: string;
  /** The lowest is taken first. */
  priority: number;
}

/** The data of a BullMQ job of the queue of webhooks: whose webhook is to be told, and of what. */
export interface DeliveryItem {
  jobId: string;
  event: WebhookEvent;
}

/** Whose work a queue holds. There is one per cache, and one per node. */
export interface CacheQueue {
  kind: 'cache';
  /** The configured name, or the address that requests named. */
  cache: string;
  /**
   * Set for an address named by a request. A configured cache is looked up by its name in the worker's own
   * configuration; a worker that does not have it leaves the queue alone.
   */
  adHocCache: CacheConfig | null;
}
/** Its transfers are taken by the agents of the node, and by nobody else. */
export interface NodeQueue {
  kind: 'node';
  node: string;
}
export type QueueOwner = CacheQueue | NodeQueue;

/** A queue that workers must serve, by BullMQ's name; that is also the key for everything kept about its owner. */
export type QueueEntry = { queue: string } & QueueOwner;

interface WorkTerms {
  id: string;
  principal: string;
  /** Under which NFS calls are made for it; null: that of the cache. */
  identity: Credential | null;
  origin: JobOrigin;
  queue: string;
  /** Date.now() milliseconds. */
  deadlineAt: number;
}

/** The parts of a job that its work needs. The kind of a job is that of its queue. */
export type FlushWork = FlushTarget & WorkTerms;
export type TransferWorkJob = TransferTarget & WorkTerms;
export type WorkJob = FlushWork | TransferWorkJob;

export interface ChunkFile {
  /** Position in the job. */
  index: number;
  /** Text as in model/pathname.ts. */
  path: string;
  /** Of a transfer, in the same form; null for a flush. */
  destination: string | null;
  /** Bytes that it must have; null: nobody said. */
  size: number | null;
}

/**
 * A chunk that was taken up. `run` tells this taking-up from later ones (after a crash or a stall): an older run may
 * still record, because a file's first end counts whoever saw it, but it can no longer release.
 */
export interface ChunkRun<Job extends WorkJob = WorkJob> {
  job: Job;
  chunk: number;
  run: number;
  /** Those of its files that have not ended, now `active`. Empty: nothing to do. */
  files: ChunkFile[];
  /** The cache was held when the chunk was taken up; null: it was not. */
  hold: HoldReason | null;
}

/** Why, and since when, the queue of a cache is held. */
export interface HoldReason {
  code: FileErrorCode;
  /** Date.now(). */
  since: number;
  message: string;
}

/** A file that an expansion found: the path for a flush, all of it for a transfer. */
export type NewFile = Omit<ChunkFile, 'index'>;

export interface RecordReply {
  /** `canceling` or a terminal state: stop, nothing more of this job is wanted. `gone`: the job was deleted. */
  state: JobState | 'gone';
  /** Results that were the first of their file. */
  accepted: number;
}

export interface NamedFile extends ChunkFile {
  /** Nothing is done with it: its destination is free. */
  skipped: boolean;
}

export interface ExpansionRun<Job extends WorkJob = WorkJob> {
  job: Job;
  directory: number;
  run: number;
  request: DirectoryRequest;
  /** What this or an earlier run of this directory has appended: not to be appended again. */
  appended(): AsyncIterable<ChunkFile>;
  /**
   * Files that the job names already, in its list or by directories before this one: those below this directory, and
   * of a transfer those whose destination lies below that of this directory.
   */
  namedBefore(): AsyncIterable<NamedFile>;
}

/** `fenced`: a newer run of this directory has begun. `ended`: the job was canceled, expired or deleted. `full`: the job has as many files as one may have. In each case: stop. */
export type AppendEnd = 'ok' | 'fenced' | 'ended' | 'full';
/** Nothing was added: the quota of the principal has room for so many files now, fewer than there are. Wait. */
export interface AppendRoom {
  room: number;
}

export interface Slots {
  /** Flushes this worker may have outstanding on the cache from now on. May be 0 for a while. */
  slots: number;
  /** The cache is paused: no slots until it is resumed, so chunks in work are better handed back. */
  paused: boolean;
  /** In force now: as configured, or as an operator has changed them. */
  limits: CacheLimits;
  /** The circuit breaker of the cache is not closed: these slots are to find out whether it can be. */
  trial: boolean;
  /** Date.now() after which the lease is void unless renewed: begin nothing then. */
  validUntil: number;
}

export interface Starts {
  /** Flushes that may begin now: between 0 and the number asked for. */
  granted: number;
  /** When to ask again, if fewer were granted than asked. */
  waitMs: number;
}

export interface CacheHold {
  /** Date.now() until which the queue is held. */
  until: number;
  /** How many times in a row it was held without an answer from the cache in between. */
  tries: number;
}

/** All methods wait while Redis is away (ioredis reconnects by itself) and reject after `close`. */
export interface WorkStore {
  /** For BullMQ's `prefix`. */
  readonly bullPrefix: string;
  /** The caller ends it. */
  newConnection(): QueueConnection;

  /** Calls `onChange` with all queues, at once and whenever one is added or removed. Returns what ends that. */
  watchQueues(onChange: (queues: QueueEntry[]) => void): () => void;
  /**
   * Calls `onEnd` when a job must stop early: canceled, expired or gone. May call more than once for a job. Messages
   * can be lost (Redis away), so the replies of `record` count as well.
   */
  watchEndings(onEnd: (jobId: string, why: 'canceled' | 'expired') => void): () => void;

  /** Null: nothing waits in the queue. */
  nextItem(queue: string): Promise<NextItem | null>;
  /** Marks the unfinished files of a chunk active. Null: the job is gone or has ended, there is nothing to do. */
  beginChunk<Job extends WorkJob = WorkJob>(jobId: string, chunk: number): Promise<ChunkRun<Job> | null>;
  /** Counts what ended, exactly once per file however often it is called. At most 512 results, all of this chunk. */
  record(run: ChunkRun, results: readonly FileResult[]): Promise<RecordReply>;
  /** Gives back a chunk that will be run again: its active files become pending. */
  releaseChunk(run: ChunkRun): Promise<void>;
  /** After the last `record` of a chunk: packs its details into one. */
  endChunk(run: ChunkRun): Promise<void>;

  /**
   * Null: the directory is done, or the job is gone or has ended. `later`: a directory before it that overlaps with it
   * is not done; the files of both belong to that one. `no room`: the quota of the principal is used up.
   */
  beginExpansion<Job extends WorkJob = WorkJob>(
    jobId: string,
    directory: number,
  ): Promise<ExpansionRun<Job> | null | 'later' | 'no room'>;
  /** Adds files to the job and queues them, atomically. At most 512 of them; fill them up, each call is a chunk. */
  appendExpanded(run: ExpansionRun, files: readonly (string | NewFile)[]): Promise<AppendEnd | AppendRoom>;
  /**
   * Adds entries that ended already, e.g. a directory that cannot be read, so that the job shows them. A job that is
   * full takes some of these nevertheless.
   */
  appendEnded(run: ExpansionRun, results: readonly FileResult[]): Promise<AppendEnd>;
  /** After the last append. `matched` is how many files the walk found, appended by this or an earlier run. */
  endExpansion(run: ExpansionRun, matched: number): Promise<void>;

  /** What only agents need. */
  readonly transfers: TransferWork;

  /** A sentence for the person who reads the job. Shown once per code; counts add up. */
  warn(jobId: string, code: string, message: string, count: number | null): Promise<void>;
  /** Tells the newest fault of a job that goes on nevertheless: `statusDetail`. Null clears it. */
  setStatusDetail(jobId: string, detail: string | null): Promise<void>;

  /**
   * This worker's share of a cache's `inFlight`, over all workers never more in sum. Call every 2 s while there is
   * work, and when `wanted` or `inUse` fall; 0 and 0 gives the lease back. Leases end after 10 s without renewal.
   * @param configured what applies unless an operator has changed it
   * @param inUse flushes outstanding now: these are never given to another worker
   * @param wanted flushes it could have outstanding
   */
  leaseSlots(
    queue: string,
    workerId: string,
    configured: CacheLimits,
    inUse: number,
    wanted: number,
  ): Promise<Slots>;
  /** Takes from the cache's bucket of flush starts, common to all workers; it holds a quarter of a second's worth. */
  takeStarts(queue: string, filesPerSecond: number, wanted: number): Promise<Starts>;

  /**
   * Tells that a worker or agent serves a queue, or that it leaves. To be called every few seconds: jobs whose queue
   * nobody serves say so.
   * @param server unique among all that ever were
   * @param registered true: nothing is told if the registry does not have the queue, which is that of an address
   */
  serves(queue: string, server: string, present: boolean, registered?: boolean): Promise<void>;

  /**
   * The cache answers: ends a hold, clears the fault. Cheap to call again.
   * @param flushed it has flushed a file: this closes its circuit breaker, too
   */
  cacheUp(queue: string, flushed?: boolean): Promise<void>;
  /**
   * The cache does not answer, for this reason: holds its queue with growing pauses (1 s to 30 s) and tells so in
   * every job of it.
   * The queue's BullMQ rate limit is set too, which BullMQ obeys only in workers with a `limiter` option.
   */
  holdCache(queue: string, code: FileErrorCode, message: string): Promise<CacheHold>;
  /** The same where the cache answers, but the storage behind it fails: opens its circuit breaker. */
  openCircuit(queue: string, code: FileErrorCode, message: string): Promise<CacheHold>;
  /** Null: not held. */
  getHold(queue: string): Promise<CacheHold | null>;
  /** Whether this target of the cache has ever shown the hpc-cache dialect; with other addresses it is another one. */
  isDialectProven(queue: string, target: DialectTarget): Promise<boolean>;
  setDialectProven(queue: string, target: DialectTarget): Promise<void>;

  close(): Promise<void>;
}
