import type { CacheConfig } from '../model/cache.js';
import type { FileErrorCode } from '../model/errors.js';
import type { Cache, ErrorGroup, Job, JobFile, JobOptions } from '../model/job.js';
import type { FileState, JobKind, JobState } from '../model/words.js';

/** One directory of a flush request, expanded by a worker. Globs are matched against the path below it. */
export interface DirectoryRequest {
  path: string;
  include: string[];
  exclude: string[];
}

/** What a job is, apart from its files. */
export interface NewJob {
  kind: JobKind;
  /** Configured caches: the name; addresses named by a request: that address. */
  cache: string;
  /** Set only for an address named by a request; a configured cache is looked up by name whenever it is used. */
  adHocCache: CacheConfig | null;
  export: string;
  directories: DirectoryRequest[];
  labels: Record<string, string>;
  options: JobOptions;
  parentJobId: string | null;
}

/**
 * The files of a job that is still arriving. Nothing of it is a job before `commit`; what is neither committed nor
 * aborted (a killed process) expires in Redis by itself.
 */
export interface JobIntake {
  /** Takes one path (bytes without NUL at either end). Resolves at once, or when Redis has caught up (back-pressure). */
  add(path: Uint8Array): Promise<void> | void;
  readonly filesAdded: number;
  /** A sentence for the person who reads the job, e.g. that blank lines were ignored. */
  warn(code: string, message: string, count: number | null): void;
  /** Makes it a job that survives kill -9 of this process and of Redis, and hands it to the queue. */
  commit(job: NewJob): Promise<Job>;
  /** Removes what was stored so far. Never throws. */
  abort(): Promise<void>;
}

export interface JobFilter {
  kind?: JobKind;
  states?: JobState[];
  cache?: string;
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

export interface StoreHealth {
  ok: boolean;
  /** Sentences on what is wrong or weaker than it should be (fsync policy, maxmemory-policy, version). */
  warnings: string[];
}

/** Everything the API needs of the store. All methods throw BrokerError; STORE_UNAVAILABLE when Redis does not answer in time. */
export interface JobStore {
  openIntake(): JobIntake;
  /** @throws BrokerError JOB_NOT_FOUND, JOB_GONE */
  getJob(id: string): Promise<Job & Revision>;
  getRevision(id: string): Promise<Revision>;
  /** Resolves when the job's revision differs from `since` (or it is terminal, if `untilTerminal`), or at the abort. */
  waitForChange(id: string, since: string, untilTerminal: boolean, signal: AbortSignal): Promise<void>;
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
  /** Idempotent; a terminal job is returned as it is. */
  cancel(id: string): Promise<Job & Revision>;
  /** A new job of the failed, expired and canceled files. @throws BrokerError JOB_NOT_FINISHED, NOTHING_TO_RETRY */
  retry(id: string): Promise<Job & Revision>;
  listCaches(): Promise<Cache[]>;
  getCache(name: string): Promise<Cache>;
  pauseCache(name: string, reason: string): Promise<Cache>;
  resumeCache(name: string): Promise<Cache>;
  health(): Promise<StoreHealth>;
  close(): Promise<void>;
}
