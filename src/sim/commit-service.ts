import {
  NFS3_OK,
  NFS3_WRITEVERFSIZE,
  NFS3ERR_NOT_SYNC,
  NFS3ERR_NOTEMPTY,
  NFS3ERR_STALE,
} from '../nfs/nfs3.js';
import type { XdrReader, XdrWriter } from '../nfs/xdr.js';
import type { FlushScheduler } from './flush-scheduler.js';
import { writeWccData } from './nfs-results.js';
import { demandContent, MAY_READ, MAY_WRITE, type Permissions } from './permissions.js';
import type { Credential, WriteResults } from './rpc-server.js';
import { NfsStatusError } from './status.js';
import type { Located, Volume } from './volume.js';

/**
 * COMMIT, in both of its meanings. With this offset and one of these counts it asks a cache to write the file
 * back to its long-term store; with anything else it is RFC 1813's: the server's own copy to stable storage.
 */
const MAGIC_OFFSET_HIGH = 0x1234abcd;
const MAGIC_OFFSET_LOW = 0xdeaddead;
const INTENT_OF_COUNT: ReadonlyMap<number, CommitIntent> = new Map([
  [0xabadbeef, 'sync'],
  [0xadeadbe6, 'start'],
  [0xadeadbe5, 'status'],
]);

export const COMMIT_INTENTS = ['plain', 'sync', 'start', 'status'] as const;
export type CommitIntent = (typeof COMMIT_INTENTS)[number];

/**
 * `hpc-cache`: the magic COMMIT is understood. `rfc1813`: it is answered OK at once and means nothing, as plain
 * NFS servers do.
 */
export const SIMULATED_DIALECTS = ['hpc-cache', 'rfc1813'] as const;
export type SimulatedDialect = (typeof SIMULATED_DIALECTS)[number];

export interface CommitArgs {
  intent: CommitIntent;
}

export function readCommitArgs(args: XdrReader): CommitArgs {
  const high = args.uint32();
  const low = args.uint32();
  const count = args.uint32();
  const magic = high === MAGIC_OFFSET_HIGH && low === MAGIC_OFFSET_LOW;
  return { intent: (magic && INTENT_OF_COUNT.get(count)) || 'plain' };
}

/** What faults call such a call. */
export function commitNames({ intent }: CommitArgs): readonly string[] {
  return ['COMMIT', `COMMIT:${intent}`, '*'];
}

export interface CommitServiceOptions {
  dialect: SimulatedDialect;
  flushes: FlushScheduler;
  permissions: Permissions;
  /** 8 bytes, others at every start (RFC 1813 §3.3.21). */
  writeVerifier: Buffer;
}

export class CommitService {
  readonly #dialect: SimulatedDialect;
  readonly #flushes: FlushScheduler;
  readonly #permissions: Permissions;
  readonly #writeVerifier: Buffer;

  constructor({ dialect, flushes, permissions, writeVerifier }: CommitServiceOptions) {
    if (writeVerifier.length !== NFS3_WRITEVERFSIZE) throw new RangeError('a write verifier has 8 bytes');
    this.#dialect = dialect;
    this.#flushes = flushes;
    this.#permissions = permissions;
    this.#writeVerifier = writeVerifier;
  }

  /** @param file a regular file */
  commit(
    volume: Volume,
    file: Located,
    { intent }: CommitArgs,
    credential: Credential,
    results: XdrWriter,
  ): undefined | Promise<WriteResults> {
    // Who may read or write the file, or owns it, may ask for it to be made safe.
    demandContent(this.#permissions, file.attributes, credential, MAY_WRITE, MAY_READ);
    if (intent === 'plain') return this.#plain(volume, file);
    if (this.#dialect === 'rfc1813') this.#answer(results, NFS3_OK, file);
    else if (intent === 'start') this.#answer(results, this.#start(volume, file), file);
    else if (intent === 'status') this.#answer(results, this.#status(volume, file), file);
    else return this.#sync(volume, file);
    return undefined;
  }

  #start(volume: Volume, file: Located): number {
    if (!this.#flushes.isFlushing(file)) {
      if (!volume.isDirty(file)) return NFS3_OK;
      this.#flushes.start(volume, file);
    }
    return NFS3ERR_NOT_SYNC;
  }

  #status(volume: Volume, file: Located): number {
    if (this.#flushes.isFlushing(file)) return NFS3ERR_NOT_SYNC;
    if (!volume.isDirty(file)) return NFS3_OK;
    return this.#flushes.failureOf(file) ?? NFS3ERR_NOTEMPTY;
  }

  async #sync(volume: Volume, file: Located): Promise<WriteResults> {
    if (this.#flushes.isFlushing(file)) {
      // It may have read the file before the last write: it does not count for this caller.
      await this.#flushes.ended(file);
    }
    if (volume.isDirty(file)) {
      this.#flushes.start(volume, file);
      await this.#flushes.ended(file);
    }
    const now = volume.find(file.handle);
    if (now === null) throw new NfsStatusError(NFS3ERR_STALE);
    const status = this.#status(volume, now);
    // Somebody else has started the next one already.
    const settled = status === NFS3ERR_NOT_SYNC ? NFS3ERR_NOTEMPTY : status;
    return (results) => this.#answer(results, settled, now);
  }

  async #plain(volume: Volume, file: Located): Promise<WriteResults> {
    await volume.sync(file);
    return (results) => this.#answer(results, NFS3_OK, file);
  }

  #answer(results: XdrWriter, status: number, file: Located): void {
    results.uint32(status);
    writeWccData(results, file.attributes);
    if (status === NFS3_OK) results.raw(this.#writeVerifier);
  }
}
