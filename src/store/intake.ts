import { BrokerError } from '../model/errors.js';
import type { Job } from '../model/job.js';
import { pathText, tidyPathBytes } from '../model/pathname.js';
import type { JobOwner } from '../model/principal.js';
import { CHUNK_FILES, encodePaths } from './chunk-codec.js';
import { type Commands, guarded, storeError } from './commands.js';
import { Duplicates } from './dedup.js';
import { encodeDetails, type FileDetail } from './detail-codec.js';
import { decodeEntry, encodeEntry, type FileEntry, identityOf } from './entry.js';
import { STATE_BYTES } from './file-states.js';
import { fingerprint } from './fingerprint.js';
import { keyInUse, keyReused, notCommitted } from './intake-refusals.js';
import { newJobId } from './job-id.js';
import type { JobMeta } from './job-record.js';
import { queueOf } from './keys.js';
import type { Queues } from './queue.js';
import { registryEntry } from './registry.js';
import {
  DEFAULT_IDEMPOTENCY_LEASE_MS,
  DEFAULT_IDEMPOTENCY_MS,
  DEFAULT_RETENTION_MS,
  type JobStoreOptions,
} from './settings.js';
import type { AcceptedJob, CommitOptions, JobIntake, JobOrigin, NewJob } from './types.js';

/** What is neither committed nor aborted is gone this long after its process. */
const EXPIRES_AFTER_MS = 15 * 60_000;
/** Chunks on their way to Redis before `add` asks its caller to wait. */
const WRITES_UNDER_WAY = 8;
const SAMPLES = 5;

export type IntakeOptions = Pick<JobStoreOptions, 'retentionMs' | 'idempotencyMs' | 'idempotencyLeaseMs'>;

/** Packs the paths into chunks and writes them under keys that expire, until `commit` makes them a job. */
export class Intake implements JobIntake {
  readonly #commands: Commands;
  readonly #queues: Queues;
  readonly #retentionMs: number;
  readonly #idempotencyMs: number;
  readonly #leaseMs: number;
  readonly #owner: JobOwner;
  readonly #origin: JobOrigin;
  readonly #load: (id: string, queue: string) => Promise<Job>;
  readonly #id = newJobId();
  readonly #duplicates = new Duplicates();
  /** Of a transfer: two files cannot become the same one. */
  readonly #destinations = new Duplicates();
  readonly #warnings = new Map<string, { message: string; count: number | null }>();
  readonly #samples: { path: string; message: string }[] = [];
  readonly #writes = new Set<Promise<unknown>>();
  readonly #refresh: NodeJS.Timeout;
  /** The chunk that is being filled. */
  #entries: Buffer[] = [];
  #skipped: FileDetail[] = [];
  #files = 0;
  #chunks = 0;
  #duplicateCount = 0;
  #unsized = 0;
  #bytesKnown = 0;
  #failure: unknown = null;
  #over = false;
  #idempotencyKey = '';
  #lease: NodeJS.Timeout | null = null;
  /** The job that the key was answered with before: nothing is stored then. */
  #answered: { id: string; fingerprint: string } | null = null;

  constructor(
    commands: Commands,
    queues: Queues,
    options: IntakeOptions,
    owner: JobOwner,
    origin: JobOrigin,
    load: (id: string, queue: string) => Promise<Job>,
  ) {
    this.#commands = commands;
    this.#queues = queues;
    this.#retentionMs = options.retentionMs ?? DEFAULT_RETENTION_MS;
    this.#idempotencyMs = options.idempotencyMs ?? DEFAULT_IDEMPOTENCY_MS;
    this.#leaseMs = options.idempotencyLeaseMs ?? DEFAULT_IDEMPOTENCY_LEASE_MS;
    this.#owner = owner;
    this.#origin = origin;
    this.#load = load;
    // A client that sends slowly must not lose its first chunks.
    this.#refresh = setInterval(() => this.#prolong(), EXPIRES_AFTER_MS / 3);
    this.#refresh.unref();
  }

  get filesAdded(): number {
    return this.#files;
  }

  async claim(idempotencyKey: string): Promise<boolean> {
    this.#idempotencyKey = idempotencyKey;
    const [state = '', job = '', known = ''] = await guarded(() => this.#claim());
    if (state === 'arriving') throw keyInUse();
    if (state === 'answered') {
      this.#answered = { id: job, fingerprint: known };
      return true;
    }
    // Should the lease be lost all the same, the commit finds out.
    this.#lease = setInterval(() => void this.#claim().catch(() => {}), this.#leaseMs / 3);
    this.#lease.unref();
    return false;
  }

  add(file: Uint8Array | FileEntry): Promise<void> | void {
    if (this.#failure) return Promise.reject(storeError(this.#failure));
    if (this.#over) return Promise.reject(new BrokerError('INTERNAL', 'The intake is closed.'));
    const bytes = file instanceof Uint8Array ? Buffer.from(file) : encodeEntry(file);
    const entry = decodeEntry(bytes);
    const first = this.#firstOf(entry);
    if (first >= 0) this.#skip(entry.path, first);
    else if (entry.size === null) this.#unsized += 1;
    else this.#bytesKnown += entry.size;
    this.#entries.push(bytes);
    this.#files += 1;
    if (this.#entries.length < CHUNK_FILES) return;
    this.#writeChunk();
    if (this.#writes.size >= WRITES_UNDER_WAY) return this.#waitForOne();
  }

  warn(code: string, message: string, count: number | null): void {
    const known = this.#warnings.get(code);
    if (!known) this.#warnings.set(code, { message, count });
    else if (count !== null) known.count = (known.count ?? 0) + count;
  }

  async commit(job: NewJob, options: CommitOptions = {}): Promise<AcceptedJob> {
    if (this.#files === 0 && job.directories.length === 0) {
      throw new BrokerError('EMPTY_LIST', 'The list names no file and no directory.');
    }
    const queue = queueOf(job);
    let answer: Pick<AcceptedJob, 'id' | 'accepted'>;
    try {
      answer = await guarded(() => this.#commit(job, queue, options));
    } finally {
      this.#end();
    }
    // From here on it is a job, whatever happens: what cannot be handed over now is handed over by the sweeper.
    const [loaded] = await Promise.all([
      this.#load(answer.id, queue),
      answer.accepted === 'made' ? this.#queues.handOver(this.#id, queue).catch(() => {}) : this.abort(),
    ]);
    return { ...loaded, accepted: answer.accepted };
  }

  async abort(): Promise<void> {
    this.#end();
    await Promise.allSettled(this.#writes);
    if (this.#chunks === 0 && this.#idempotencyKey === '') return;
    // The script leaves a job alone: the commit whose reply was lost may have made it one. What cannot be removed now expires.
    await this.#commands.onIntake('wbAbort', this.#id, '-', this.#askedKey).catch(() => {});
  }

  async #commit(
    job: NewJob,
    queue: string,
    options: CommitOptions,
  ): Promise<Pick<AcceptedJob, 'id' | 'accepted'>> {
    if (this.#entries.length > 0) this.#writeChunk();
    if (this.#duplicateCount > 0 && !this.#answered) this.#writeDuplicates();
    const own = await fingerprint(
      { ...job, ...this.#ownership },
      { files: this.#files, unsized: this.#unsized, bytesKnown: this.#bytesKnown },
      this.#duplicates,
    );
    if (this.#answered) {
      if (this.#answered.fingerprint !== own) throw keyReused();
      return { id: this.#answered.id, accepted: 'replayed' };
    }
    await Promise.all(this.#writes);
    if (this.#failure) throw this.#failure;
    const reply = await this.#commands.onIntake(
      'wbCommit',
      this.#id,
      queue,
      this.#askedKey,
      ...this.#commitArguments(job, queue, own, options),
    );
    const [result = '', id = ''] = (reply as Buffer[]).map(String);
    if (result === 'made' || result === 'replayed' || result === 'joined') return { id, accepted: result };
    throw notCommitted(result, this.#owner, this.#files - this.#duplicateCount);
  }

  /** What the job has of its owner for good. */
  get #ownership(): Pick<JobMeta, 'principal' | 'identity'> {
    return { principal: this.#owner.name, identity: this.#owner.identity };
  }

  /** Keys are each principal's own. No name of a principal has a space in it. */
  get #askedKey(): string {
    return this.#idempotencyKey === '' ? '' : `${this.#owner.name} ${this.#idempotencyKey}`;
  }

  /** The reply of the script: what the key is, and of an answered one the job and its fingerprint. */
  async #claim(): Promise<string[]> {
    const reply = await this.#commands.onIntake('wbClaim', this.#id, '-', this.#askedKey, this.#leaseMs);
    return (reply as Buffer[]).map(String);
  }

  #end(): void {
    this.#over = true;
    clearInterval(this.#refresh);
    if (this.#lease) clearInterval(this.#lease);
    this.#entries = [];
  }

  /** The index of the first entry that is the same, or -1. @throws {BrokerError} VALIDATION, for a destination taken twice */
  #firstOf({ path, destination }: FileEntry): number {
    const index = this.#files;
    const first = this.#duplicates.add(identityOf({ path, destination }), index);
    if (destination === null) return first;
    const taken = this.#destinations.add(tidyPathBytes(destination), index);
    if (taken >= 0 && first < 0) {
      throw new BrokerError(
        'VALIDATION',
        `Entry ${index} has the same destination as entry ${taken}, and another source: ${pathText(destination)}.`,
        { pointer: `/files/${index}/destination` },
      );
    }
    return first;
  }

  #skip(path: Uint8Array, first: number): void {
    const error = {
      code: 'DUPLICATE_PATH',
      nfsStatus: null,
      phase: 'intake',
      message: `The same ${this.#destinations.size > 0 ? 'source and destination are' : 'path is'} entry ${first} of this list already; its result is there.`,
    } as const;
    this.#skipped.push({
      offset: this.#entries.length,
      stateByte: STATE_BYTES.skipped.charCodeAt(0),
      outcome: null,
      evidence: null,
      attempts: 0,
      size: null,
      mtimeMs: null,
      durationMs: null,
      firstError: error,
      lastError: error,
    });
    if (this.#duplicateCount < SAMPLES) this.#samples.push({ path: pathText(path), message: error.message });
    this.#duplicateCount += 1;
  }

  #writeChunk(): void {
    if (this.#answered) {
      this.#entries = [];
      this.#skipped = [];
      return;
    }
    const { keys } = this.#commands;
    const id = this.#id;
    const chunk = this.#chunks;
    const entries = this.#entries;
    const states = Buffer.alloc(entries.length, STATE_BYTES.pending);
    for (const { offset } of this.#skipped) states.write(STATE_BYTES.skipped, offset);
    const details =
      this.#skipped.length === 0
        ? ''
        : encodeDetails(this.#skipped, (offset) => pathText(decodeEntry(entries[offset] as Buffer).path));
    const written = this.#commands.onKeys(
      'wbAddChunk',
      [keys.chunks(id), keys.states(id), keys.details(id)],
      EXPIRES_AFTER_MS,
      chunk,
      encodePaths(entries),
      chunk * CHUNK_FILES,
      states,
      details,
    );
    this.#entries = [];
    this.#skipped = [];
    this.#chunks += 1;
    this.#track(written);
  }

  #writeDuplicates(): void {
    const key = this.#commands.keys.errors(this.#id);
    const fields: (string | number)[] = ['n:DUPLICATE_PATH', this.#duplicateCount];
    this.#samples.forEach((sample, i) => {
      fields.push(`s:DUPLICATE_PATH:${i + 1}`, JSON.stringify(sample));
    });
    this.#track(
      this.#commands.redis
        .multi()
        .hset(key, ...fields)
        .pexpire(key, EXPIRES_AFTER_MS)
        .exec()
        .then((replies) => {
          if (!replies) throw new Error('the transaction was discarded');
          for (const [error] of replies) if (error) throw error;
        }),
    );
  }

  #track(written: Promise<unknown>): void {
    const write: Promise<unknown> = written
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#writes.delete(write));
    this.#writes.add(write);
  }

  async #waitForOne(): Promise<void> {
    await Promise.race(this.#writes);
    if (this.#failure) throw storeError(this.#failure);
  }

  #prolong(): void {
    const { redis, keys } = this.#commands;
    const all = [keys.chunks(this.#id), keys.states(this.#id), keys.details(this.#id)];
    for (const key of all) redis.pexpire(key, EXPIRES_AFTER_MS).catch(() => {});
  }

  #commitArguments(
    job: NewJob,
    queue: string,
    own: string,
    { join = false, queuedFilesAtMost }: CommitOptions,
  ): (string | number)[] {
    const { directories, ...meta } = job;
    const limits = job.kind === 'transfer' ? job.options.limits : null;
    return [
      JSON.stringify({ ...meta, ...this.#ownership, origin: this.#origin } satisfies JobMeta),
      queue,
      JSON.stringify(registryEntry(job)),
      this.#files,
      this.#duplicateCount,
      this.#chunks,
      directories.length > 0 ? JSON.stringify(directories) : '',
      directories.length,
      Math.round(job.options.deadlineSeconds * 1000),
      this.#retentionMs,
      this.#unsized,
      this.#bytesKnown,
      limits?.bytesPerSecond ?? '',
      limits?.cpuPercent ?? '',
      own,
      join ? '1' : '0',
      queuedFilesAtMost ?? '',
      this.#idempotencyKey === '' ? '' : this.#idempotencyMs,
      this.#owner.name,
      this.#owner.quotas.queuedFiles ?? '',
      this.#owner.quotas.runningJobs ?? '',
      ...[...this.#warnings].flatMap(([code, { message, count }]) => [code, message, count ?? '']),
    ];
  }
}
