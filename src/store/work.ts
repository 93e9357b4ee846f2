import type { CacheConfig, CacheLimits, Credential } from '../model/cache.js';
import type { FileErrorCode } from '../model/errors.js';
import type { JobState, WebhookEvent } from '../model/words.js';
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
