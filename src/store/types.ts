import type { CacheConfig, CacheLimits } from '../model/cache.js';
import type { FileErrorCode } from '../model/errors.js';
import type {
  Cache,
  CacheHistory,
  ErrorGroup,
  FlushJobOptions,
  Job,
  JobFile,
  TransferJobOptions,
  TransferLimits,
} from '../model/job.js';
import type { Node } from '../model/node.js';
import type { JobOwner } from '../model/principal.js';
import type { Delivery, JobWebhook } from '../model/webhook.js';
import type { FileState, JobKind, JobState } from '../model/words.js';
import type { FileEntry } from './entry.js';

/** One directory of a request, expanded by a worker. Globs are matched against the path below it. */
export interface DirectoryRequest {
  path: string;
  /** Of a transfer: where its files go. Absent for a flush. */
  destination?: string;
  include: string[];
  exclude: string[];
}

/** Whose work a flush is. */
export interface FlushTarget {
  kind: 'flush';
  /** Configured caches: the name; addresses named by a request: that address. */
  cache: string;
  /** Set only for an address named by a request; a configured cache is looked up by name whenever it is used. */
  adHocCache: CacheConfig | null;
  export: string;
  /**
   * Directories of the export, which is their root: a link that leads out of them is not followed. Absent: they are all
   * that the export has.
   */
  confinedTo?: string[];
  options: FlushJobOptions;
}

/** Whose work a transfer is. */
export interface TransferTarget {
  kind: 'transfer';
  node: string;
  /** False: whoever asks for it may touch only some directories, out of which a link could lead. */
  followsLinks: boolean;
  options: TransferJobOptions;
}

interface JobTerms {
  directories: DirectoryRequest[];
  labels: Record<string, string>;
  /** Absent: nobody is called. */
  webhook?: JobWebhook | undefined;
  parentJobId: string | null;
}

/** What a job is, apart from its files. */
export type NewFlush = FlushTarget & JobTerms;
export type NewTransfer = TransferTarget & JobTerms;
export type NewJob = NewFlush | NewTransfer;

/**
 * The files of a job that is still arriving. Nothing of it is a job before `commit`; what is neither committed nor
 * aborted (a killed process) expires in Redis by itself.
 */
export interface JobIntake {
  /**
   * Takes one path (bytes without NUL), or a file of a transfer. Resolves at once, or when Redis has caught up
   * (back-pressure).
   * @throws BrokerError VALIDATION, if an earlier file of a transfer has the same destination and another source
   */
  add(file: Uint8Array | FileEntry): Promise<void> | void;
  readonly filesAdded: number;
  /**
   * Makes this the request of an idempotency key, before the first `add`. True: it was answered before, so its files
   * are only compared. @throws BrokerError IDEMPOTENCY_KEY_IN_USE
   */
  claim(idempotencyKey: string): Promise<boolean>;
  /** A sentence for the person who reads the job, e.g. that blank lines were ignored. */
  warn(code: string, message: string, count: number | null): void;
  /**
   * Makes it a job that survives kill -9 of this process and of Redis, and hands it to the queue; or finds the job
   * that it is already.
   * @throws BrokerError IDEMPOTENCY_KEY_REUSED, IDEMPOTENCY_KEY_IN_USE, QUEUE_FULL; what `getJob` throws, for a job that is over
   */
  commit(job: NewJob, options?: CommitOptions): Promise<AcceptedJob>;
  /** Removes what was stored so far. Never throws. */
  abort(): Promise<void>;
}

/** Asked about everything that a request names; throws for what is refused. */
export interface FileCheck {
  /** False: every file is granted, and none need be asked about. */
  readonly asks: boolean;
  /** `where` is a pointer, or `line 17`. */
  checkFile(file: Uint8Array | FileEntry, where: string): void;
  checkDirectory(directory: DirectoryRequest, where: string): void;
  /** Of a flush: see FlushTarget. */
  readonly confinedTo?: string[];
}

export interface CommitOptions {
  /** Take part in a job of the same fingerprint that has not ended, if there is one. */
  join?: boolean;
  /** A new job may not bring the files that wait for its cache above this. */
  queuedFilesAtMost?: number;
}

export interface AcceptedJob extends Job {
  /** A new job, the answer that the idempotency key was given before, or an identical job that had not ended. */
  accepted: 'made' | 'replayed' | 'joined';
}

/** Where a job comes from, for logs and traces. */
export interface JobOrigin {
  /** Of the request that made it. */
  requestId: string | null;
  /** W3C Trace Context; null: it is in no trace. */
  traceparent: string | null;
}
export const UNKNOWN_ORIGIN: JobOrigin = { requestId: null, traceparent: null };

export interface JobFilter {
  /** Whose jobs. */
  principal?: string;
  kind?: JobKind;
  states?: JobState[];
  cache?: string;
  node?: string;
  /** Every label given must match. */
  labels?: Record<string, string>;
  createdAfter?: Date;
  createdBefore?: Date;
}

export interface Page<T> {
  items: T[];
  /** Opaque; null on the last page. */
  nextCursor: string | null;
}

export interface Revision {
  /** Changes whenever anything that `getJob` shows changes. */
  revision: string;
  state: JobState;
}

/** Jobs that have changed, each once and as it is now, in the order of their last changes. */
export interface ChangedJobs {
  /** With the place of its last change in the order of all changes. */
  jobs: { job: Job & Revision; place: number }[];
  /** Where to go on. */
  place: number;
}

export interface StoreHealth {
  ok: boolean;
  /** Sentences on what is wrong or weaker than it should be (fsync policy, maxmemory-policy, version). */
  warnings: string[];
}

/** Everything the API needs of the store. All methods throw BrokerError; STORE_UNAVAILABLE when Redis does not answer in time. */
export interface JobStore {
  /** Whatever it becomes is the owner's: the job, its idempotency key, and what counts for quotas. */
  openIntake(owner: JobOwner, origin?: JobOrigin): JobIntake;
  /** The principal whose job it is. @throws BrokerError JOB_NOT_FOUND; JOB_GONE if nobody knows any more */
  ownerOf(id: string): Promise<string>;
  /** The job as it is now. @throws BrokerError JOB_NOT_FOUND, JOB_GONE */
  getJob(id: string): Promise<Job & Revision>;
  /**
   * For those who poll: a job that is asked for more than some five times a second is told as it was at most 250 ms
   * ago; a change of its state is told at once. @throws BrokerError JOB_NOT_FOUND, JOB_GONE
   */
  pollJob(id: string): Promise<Job & Revision>;
  getRevision(id: string): Promise<Revision>;
  /** Resolves when the job's revision differs from `since` (or it is terminal, if `untilTerminal`), or at the abort. */
  waitForChange(id: string, since: string, untilTerminal: boolean, signal: AbortSignal): Promise<void>;
  /** The place of the newest change in the order of all changes of all jobs. */
  lastPlace(): Promise<number>;
  /** What changed behind that place, at most `limit` jobs; with none the place stays as it is. */
  changedSince(place: number, limit: number): Promise<ChangedJobs>;
  /** Calls `onChange` when any job has changed, or may have. Calls can be lost. @returns what ends it */
  watchChanges(onChange: () => void): () => void;
  /** Newest first. */
  listJobs(filter: JobFilter, cursor: string | null, limit: number): Promise<Page<Job>>;
  /** In the order of submission. */
  listFiles(
    id: string,
    filter: { states?: FileState[]; code?: FileErrorCode },
    cursor: string | null,
    limit: number,
  ): Promise<Page<JobFile>>;
  errorGroups(id: string): Promise<ErrorGroup[]>;
  /** What the job has told, or is to tell, its webhook; in the order of the events. */
  listDeliveries(id: string): Promise<Delivery[]>;
  /** Tries it now, from the first pause on, whatever became of it. @throws BrokerError DELIVERY_NOT_FOUND */
  resend(id: string, deliveryId: string): Promise<Delivery>;
  /** Idempotent; a terminal job is returned as it is. */
  cancel(id: string): Promise<Job & Revision>;
  /**
   * Changes the limits of a transfer; its agent hears of it within a second. What is not named stays as it is.
   * @throws BrokerError JOB_NOT_FOUND, JOB_GONE, NOT_A_TRANSFER, JOB_ENDED
   */
  setLimits(id: string, limits: Partial<TransferLimits>): Promise<Job & Revision>;
  /** A new job of the failed, expired and canceled files. Null: it belongs to whom the old one belongs. @throws BrokerError JOB_NOT_FINISHED, NOTHING_TO_RETRY */
  retry(id: string, owner: JobOwner | null, origin?: JobOrigin, check?: FileCheck): Promise<Job & Revision>;
  /** Files that wait for the agent of a node. */
  filesQueuedOn(node: string): Promise<number>;
  /**
   * Counts a request against the quota of its principal, over all processes: at most so many in the minute that begins
   * with the first. @returns milliseconds to the end of that minute if there were enough already, else 0
   */
  countRequest(principal: string, perMinute: number): Promise<number>;
  listCaches(): Promise<Cache[]>;
  getCache(name: string): Promise<Cache>;
  /** The last hour, minute by minute. */
  cacheHistory(name: string): Promise<CacheHistory>;
  pauseCache(name: string, reason: string): Promise<Cache>;
  /** The configured caches from now on. */
  reconfigure(caches: readonly CacheConfig[]): void;
  /**
   * Limits in place of the configured ones, for every worker, within seconds.
   * @param change what is not in it stays as it is; null: back to the configuration
   */
  limitCache(name: string, change: Partial<CacheLimits> | null): Promise<Cache>;
  resumeCache(name: string): Promise<Cache>;
  /**
   * Those that have or had an agent or jobs, by name; a node that is gone for long is forgotten.
   * @param shows whether one of this name is to be listed
   */
  listNodes(shows: (name: string) => boolean, cursor: string | null, limit: number): Promise<Page<Node>>;
  /** @throws BrokerError NODE_NOT_FOUND, as for the two below */
  getNode(name: string): Promise<Node>;
  pauseNode(name: string, reason: string): Promise<Node>;
  resumeNode(name: string): Promise<Node>;
  health(): Promise<StoreHealth>;
  close(): Promise<void>;
}
