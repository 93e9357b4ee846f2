import type { TransferLimits } from '../model/job.js';
import { pathBytes, pathText } from '../model/pathname.js';
import { isTerminalJobState, type JobState } from '../model/words.js';
import type { Commands } from './commands.js';
import { decodeEntry } from './entry.js';
import type { Subscriptions } from './events.js';
import { stateOfByte } from './file-states.js';
import type { Files } from './files.js';
import type { JobMeta } from './job-record.js';
import { nodeQueueName } from './keys.js';

/** What an agent has copied of one file: enough to go on with it after a crash, or to remove it. */
export interface Part {
  /**
   * Names its temporary file beside the destination. While a new attempt takes over the file of an earlier one, both
   * are told, the new one first: a crash may come before or after the renaming.
   */
  attempts: string[];
  /** Text as in model/pathname.ts. */
  destination: string;
  /** Bytes of the temporary file that are on storage. */
  durable: number;
  /** What the source looked like; a copy goes on only while it looks the same. No spaces. */
  source: string;
}

export interface StoredPart extends Part {
  jobId: string;
  index: number;
  /** The file has ended, or its job is gone: nobody goes on with it. */
  over: boolean;
}

/** A file of a transfer that stands at its destination. */
export interface CopiedFile {
  index: number;
  /** Text as in model/pathname.ts. */
  destination: string;
}

/** What a job asks of the agents that copy for it. */
export interface TransferOrders {
  /** Not null: stop, nothing more of this job is wanted. */
  ended: 'canceled' | 'expired' | null;
  limits: TransferLimits;
}

/** What an agent needs of the store besides chunks. */
export class TransferWork {
  readonly #commands: Commands;
  readonly #subscriptions: Subscriptions;
  readonly #files: Files;

  constructor(commands: Commands, subscriptions: Subscriptions, files: Files) {
    this.#commands = commands;
    this.#subscriptions = subscriptions;
    this.#files = files;
  }

  /**
   * Tells how far copies are, and what the job asks now; without parts it only asks. A part is known to the store
   * before its temporary file is made, so that none is ever forgotten.
   * @param begins whether a pending file becomes active by it
   */
  async report(
    job: { id: string; queue: string },
    parts: ReadonlyMap<number, Part>,
    begins = false,
  ): Promise<TransferOrders> {
    const reply = await this.#commands.onJob(
      'wbProgress',
      job.id,
      job.queue,
      begins ? '1' : '0',
      ...[...parts].flatMap(([index, part]) => [index, part.durable, encodePart(part)]),
    );
    const [ended = '', bytesPerSecond = '', cpuPercent = ''] = (reply as (Buffer | null)[]).map((text) =>
      text === null ? '' : text.toString(),
    );
    return {
      ended: ended === '' ? null : ended === 'expired' ? 'expired' : 'canceled',
      limits: {
        bytesPerSecond: bytesPerSecond === '' ? null : Number(bytesPerSecond),
        cpuPercent: cpuPercent === '' ? null : Number(cpuPercent),
      },
    };
  }

  /** Calls `onChange` with the id of a job whose limits have changed. Messages can be lost; `report` counts as well. */
  watchLimits(onChange: (jobId: string) => void): () => void {
    return this.#subscriptions.listen(this.#commands.keys.limits, onChange);
  }

  /** Adds sizes that were not known to the bytes of the job, once per chunk whoever says so how often. */
  async countSizes(
    job: { id: string; queue: string },
    chunk: number,
    files: number,
    bytes: number,
  ): Promise<void> {
    await this.#commands.onJob('wbSizes', job.id, job.queue, chunk, files, bytes);
  }

  /** Whether the files of a job are those of an SCR transfer file. */
  async drivesScr(jobId: string): Promise<boolean> {
    const meta = await this.#commands.redis.hget(this.#commands.keys.job(jobId), 'meta');
    const known = meta === null ? null : (JSON.parse(meta) as JobMeta);
    return known?.kind === 'transfer' && known.options.scrTransferFile !== null;
  }

  /** What of a job has been copied so far. A job of which nothing has costs a byte per file to read. */
  async *copied(jobId: string): AsyncGenerator<CopiedFile, void, undefined> {
    for await (const { index, entry } of this.#files.succeeded(jobId)) {
      const { destination } = decodeEntry(entry);
      if (destination !== null) yield { index, destination: pathText(destination) };
    }
  }

  /** What earlier runs have copied of these files. */
  async parts(job: { id: string; queue: string }, indices: readonly number[]): Promise<Map<number, Part>> {
    const parts = new Map<number, Part>();
    if (indices.length === 0) return parts;
    const { redis, keys } = this.#commands;
    const fields = indices.map((index) => `${job.id}:${index}`);
    const stored = await redis.hmgetBuffer(keys.parts(job.queue), ...fields);
    stored.forEach((bytes, i) => {
      if (bytes) parts.set(indices[i] as number, decodePart(bytes));
    });
    return parts;
  }

  /** Every part that may lie on storage of this node, but those of some jobs. */
  async allParts(queue: string, except: ReadonlySet<string>): Promise<StoredPart[]> {
    const { redis, keys } = this.#commands;
    const stored = await redis.hgetallBuffer(keys.parts(queue));
    const found = Object.entries(stored).map(([field, bytes]) => {
      const colon = field.lastIndexOf(':');
      return { jobId: field.slice(0, colon), index: Number(field.slice(colon + 1)), bytes };
    });
    return Promise.all(
      found
        .filter(({ jobId }) => !except.has(jobId))
        .map(async ({ jobId, index, bytes }) => {
          const [state, byte] = await Promise.all([
            redis.hget(keys.job(jobId), 'state'),
            redis.getrangeBuffer(keys.states(jobId), index, index),
          ]);
          const fileState = stateOfByte(byte[0] ?? 0);
          const open = fileState === 'pending' || fileState === 'active';
          const over = !state || isTerminalJobState(state as JobState) || !open;
          return { jobId, index, over, ...decodePart(bytes) };
        }),
    );
  }

  /** Temporary files of files that have ended, which could not be removed: for a later clean-up. */
  async keepParts(job: { id: string; queue: string }, parts: ReadonlyMap<number, Part>): Promise<void> {
    const { redis, keys } = this.#commands;
    const fields = [...parts].flatMap(([index, part]) => [
      `${job.id}:${index}`,
      Buffer.concat([Buffer.from('0 '), encodePart(part)]),
    ]);
    await redis.hset(keys.parts(job.queue), ...fields);
  }

  /** After its temporary file was removed. */
  async forgetPart(queue: string, { jobId, index }: { jobId: string; index: number }): Promise<void> {
    await this.#commands.redis.hdel(this.#commands.keys.parts(queue), `${jobId}:${index}`);
  }

  /**
   * Makes the node of an agent known, also before it has a job; to be called every few seconds.
   * @returns whether the node is paused
   */
  async enlist(node: string): Promise<boolean> {
    // As registryEntry of registry.ts has it for a job of the node.
    const owner = JSON.stringify({ kind: 'node', node });
    const { queues } = this.#commands.keys;
    return (await this.#commands.onCache('wbEnlist', nodeQueueName(node), [queues], owner)) === 1;
  }
}

function encodePart({ attempts, source, destination }: Part): Buffer {
  return Buffer.concat([Buffer.from(`${attempts.join(',')} ${source} `), pathBytes(destination)]);
}

/** "durable attempts source destination": only the destination may have spaces. */
function decodePart(bytes: Buffer): Part {
  const ends: number[] = [];
  for (let at = bytes.indexOf(0x20); ends.length < 3 && at >= 0; at = bytes.indexOf(0x20, at + 1))
    ends.push(at);
  const [first = 0, second = 0, third = 0] = ends;
  return {
    durable: Number(bytes.toString('latin1', 0, first)),
    attempts: bytes.toString('latin1', first + 1, second).split(','),
    source: bytes.toString('latin1', second + 1, third),
    destination: pathText(bytes.subarray(third + 1)),
  };
}
