import { LRUCache } from 'lru-cache';
import { BrokerError } from '../model/errors.js';
import type { Job, TransferLimits } from '../model/job.js';
import { LOCAL_PRINCIPAL } from '../model/principal.js';
import { isTerminalJobState, type JobState } from '../model/words.js';
import { CHUNK_FILES } from './chunk-codec.js';
import type { Commands } from './commands.js';
import { firstIdAt, isJobId } from './job-id.js';
import {
  CACHE_SHOWN_FIELDS,
  type CacheShown,
  cacheShown,
  type JobMeta,
  type JobRow,
  jobFromRow,
  jobMeta,
  jobState,
} from './job-record.js';
import type { ChangedJobs, JobFilter, Page, Revision } from './types.js';

/** Jobs looked at per call of `list`, after which a cursor is returned though the page is not full. */
const MAX_JOBS_SCANNED = 2000;
const JOBS_PER_READ = 100;
/** An id is made when the list begins to arrive, by the clock of that process; the job's time is that of its end, by Redis. */
const LONGEST_INTAKE_MS = 3600_000;
const CLOCKS_DIFFER_MS = 60_000;
/** Of the jobs that were asked for last. */
const REMEMBERED_JOBS = 10_000;
/** Files settled per script: some milliseconds of Redis. */
const SETTLE_FILES = CHUNK_FILES * 128;

/** The records of jobs: shows, lists, cancels and settles them. */
export class Jobs {
  readonly #commands: Commands;
  /** Job → its queue, and who sent it: these never change. */
  readonly #queues = new LRUCache<string, string>({ max: REMEMBERED_JOBS });
  readonly #owners = new LRUCache<string, string>({ max: REMEMBERED_JOBS });

  constructor(commands: Commands) {
    this.#commands = commands;
  }

  /** @throws BrokerError JOB_NOT_FOUND, JOB_GONE */
  async row(id: string): Promise<JobRow> {
    if (isJobId(id)) {
      const row: JobRow = await this.#commands.redis.hgetall(this.#commands.keys.job(id));
      if (row.id) return row;
    }
    throw await this.missing(id);
  }

  /** Why there is no such job. */
  async missing(id: string): Promise<BrokerError> {
    const gone = isJobId(id) && (await this.#commands.redis.exists(this.#commands.keys.gone(id))) === 1;
    return gone
      ? new BrokerError('JOB_GONE', `Job ${id} has ended and its retention is over.`)
      : new BrokerError('JOB_NOT_FOUND', `There is no job ${id}.`);
  }

  async ownerOf(id: string): Promise<string> {
    const remembered = this.#owners.get(id);
    if (remembered !== undefined) return remembered;
    if (isJobId(id)) {
      const { redis, keys } = this.#commands;
      const [known, principal] = await redis.hmget(keys.job(id), 'id', 'principal');
      if (known) {
        // A job of a version that knew no principals has none.
        const owner = principal || LOCAL_PRINCIPAL.name;
        this.#owners.set(id, owner);
        return owner;
      }
      const gone = await redis.get(keys.gone(id));
      if (gone) return gone;
    }
    throw await this.missing(id);
  }

  /** @param queue the job's, if the caller knows it */
  async get(id: string, queue: string | undefined = this.#queues.get(id)): Promise<Job & Revision> {
    if (queue !== undefined) {
      // Whoever polls waits for Redis once: each of its answers may have to wait for a script or an fsync of others.
      const [row, shown] = await this.#show(id, queue);
      if (row.id) {
        this.#queues.set(id, queue);
        return jobFromRow(row, cacheShown(isTerminalJobState(jobState(row)) ? [] : shown));
      }
      this.#queues.delete(id);
    }
    const row = await this.row(id);
    this.#queues.set(id, row.queue ?? '');
    return jobFromRow(row, await this.#cacheOf(row));
  }

  async list(filter: JobFilter, cursor: string | null, limit: number): Promise<Page<Job & Revision>> {
    const { redis, keys } = this.#commands;
    const onlyOpen = filter.states?.every((state) => !isTerminalJobState(state)) ?? false;
    // A job of a version that knew no principals is the local one's, and in no index of its own.
    const ofOne = filter.principal !== undefined && filter.principal !== LOCAL_PRINCIPAL.name;
    const index = ofOne ? keys.jobsOf(filter.principal as string) : onlyOpen ? keys.open : keys.jobs;
    let from = '+';
    if (cursor !== null) from = `(${idOfCursor(cursor)}`;
    else if (filter.createdBefore) from = `(${firstIdAt(filter.createdBefore.getTime() + CLOCKS_DIFFER_MS)}`;
    const to = filter.createdAfter ? `(${firstIdAt(filter.createdAfter.getTime() - LONGEST_INTAKE_MS)}` : '-';

    const items: (Job & Revision)[] = [];
    for (let scanned = 0; scanned < MAX_JOBS_SCANNED; ) {
      const ids = await redis.zrevrangebylex(index, from, to, 'LIMIT', 0, JOBS_PER_READ);
      const rows = await this.#rows(ids);
      const caches = await this.#cachesOf(rows);
      for (const row of rows) {
        if (!matches(row, jobMeta(row), filter)) continue;
        if (items.length === limit) return { items, nextCursor: cursorOfId(items.at(-1)?.id ?? '') };
        items.push(jobFromRow(row, caches.get(row.queue ?? '') ?? cacheShown([])));
      }
      const last = ids.at(-1);
      if (last === undefined || ids.length < JOBS_PER_READ) return { items, nextCursor: null };
      from = `(${last}`;
      scanned += ids.length;
    }
    return { items, nextCursor: cursorOfId(from.slice(1)) };
  }

  /** Jobs whose last change lies behind `place`, in the order of these changes. */
  async changedSince(place: number, limit: number): Promise<ChangedJobs> {
    const { redis, keys } = this.#commands;
    const found = await redis.zrangebyscore(
      keys.lastChanges,
      `(${place}`,
      '+inf',
      'WITHSCORES',
      'LIMIT',
      0,
      limit,
    );
    const placeOf = new Map<string, number>();
    for (let i = 0; i < found.length; i += 2) placeOf.set(found[i] as string, Number(found[i + 1]));
    const rows = await this.#rows([...placeOf.keys()]);
    const caches = await this.#cachesOf(rows);
    return {
      jobs: rows.map((row) => ({
        job: jobFromRow(row, caches.get(row.queue ?? '') ?? cacheShown([])),
        place: placeOf.get(row.id ?? '') ?? place,
      })),
      place: Number(found.at(-1) ?? place),
    };
  }

  /** The place of the last change of all. */
  async lastPlace(): Promise<number> {
    const { redis, keys } = this.#commands;
    return Number((await redis.zrevrange(keys.lastChanges, 0, 0, 'WITHSCORES'))[1] ?? 0);
  }

  /**
   * From the moment this returns no file is begun; what workers hold ends within moments. Settling a million pending
   * files takes many small scripts; should this process die in between, the sweeper goes on.
   */
  async cancel(id: string): Promise<void> {
    const row = await this.row(id);
    const state = await this.#commands.onJob('wbCancel', id, row.queue ?? '');
    if (state === null) throw await this.missing(id);
    await this.settle(id, row.queue ?? '');
  }

  async setLimits(id: string, limits: Partial<TransferLimits>): Promise<void> {
    const row = await this.row(id);
    if (jobMeta(row).kind !== 'transfer') {
      throw new BrokerError(
        'NOT_A_TRANSFER',
        `Job ${id} is a flush: what a cache may be asked at a time is set in its configuration.`,
      );
    }
    const fields = [
      ...(limits.bytesPerSecond === undefined ? [] : ['limitBps', limits.bytesPerSecond ?? '']),
      ...(limits.cpuPercent === undefined ? [] : ['limitCpu', limits.cpuPercent ?? '']),
    ];
    const state = await this.#commands.onJob('wbSetLimits', id, row.queue ?? '', ...fields);
    if (state === null) throw await this.missing(id);
    if (isTerminalJobState(String(state) as JobState)) {
      throw new BrokerError('JOB_ENDED', `Job ${id} has ended (${state}); it moves nothing any more.`);
    }
  }

  /** Ends the pending files of a job that is ending. */
  async settle(id: string, queue: string): Promise<void> {
    for (let next = 0; next >= 0; ) {
      next = Number(await this.#commands.onJob('wbSettle', id, queue, next, SETTLE_FILES, '0'));
    }
  }

  async #rows(ids: readonly string[]): Promise<JobRow[]> {
    // Commands of one turn of the event loop travel together; a deleted job gives an empty row.
    const rows: JobRow[] = await Promise.all(
      ids.map((id) => this.#commands.redis.hgetall(this.#commands.keys.job(id))),
    );
    return rows.filter((row) => row.id);
  }

  /** A job, of which nothing is there if it is gone, and the `CACHE_SHOWN_FIELDS` of its queue. */
  async #show(id: string, queue: string): Promise<[JobRow, (string | null)[]]> {
    const { keys } = this.#commands;
    const reply = await this.#commands.onKeys(
      'wbShow',
      [keys.job(id), keys.cache(queue)],
      ...CACHE_SHOWN_FIELDS,
    );
    const [fields, shown] = reply as [Buffer[], (Buffer | null)[]];
    const row: JobRow = {};
    for (let i = 0; i < fields.length; i += 2) row[String(fields[i])] = String(fields[i + 1]);
    return [row, shown.map((value) => value && String(value))];
  }

  async #cacheOf(row: JobRow): Promise<CacheShown> {
    if (isTerminalJobState(jobState(row))) return cacheShown([]);
    const { redis, keys } = this.#commands;
    return cacheShown(await redis.hmget(keys.cache(row.queue ?? ''), ...CACHE_SHOWN_FIELDS));
  }

  async #cachesOf(rows: readonly JobRow[]): Promise<Map<string, CacheShown>> {
    const byQueue = new Map(
      rows.filter((row) => !isTerminalJobState(jobState(row))).map((row) => [row.queue ?? '', row]),
    );
    const shown = await Promise.all([...byQueue.values()].map((row) => this.#cacheOf(row)));
    return new Map([...byQueue.keys()].map((queue, i) => [queue, shown[i] as CacheShown]));
  }
}

function matches(row: JobRow, meta: JobMeta, filter: JobFilter): boolean {
  if (filter.principal !== undefined && meta.principal !== filter.principal) return false;
  if (filter.kind && meta.kind !== filter.kind) return false;
  if (filter.cache !== undefined && (meta.kind !== 'flush' || meta.cache !== filter.cache)) return false;
  if (filter.node !== undefined && (meta.kind !== 'transfer' || meta.node !== filter.node)) return false;
  if (filter.states && !filter.states.includes(jobState(row))) return false;
  const createdAt = Number(row.createdAt);
  if (filter.createdAfter && createdAt <= filter.createdAfter.getTime()) return false;
  if (filter.createdBefore && createdAt >= filter.createdBefore.getTime()) return false;
  return Object.entries(filter.labels ?? {}).every(
    ([name, value]) => Object.hasOwn(meta.labels, name) && meta.labels[name] === value,
  );
}

function cursorOfId(id: string): string {
  return Buffer.from(id).toString('base64url');
}

function idOfCursor(cursor: string): string {
  const id = Buffer.from(cursor, 'base64url').toString();
  if (!isJobId(id)) throw new BrokerError('VALIDATION', 'The cursor is not one that this service gave.');
  return id;
}
