import { BrokerError } from '../model/errors.js';
import type { Connection } from './connect.js';
import type { Keys } from './keys.js';
import { CACHE_SCRIPTS } from './scripts/cache.js';
import { CHUNK_SCRIPTS } from './scripts/chunk.js';
import { DELIVERY_SCRIPTS } from './scripts/delivery.js';
import { ENDING_SCRIPTS } from './scripts/ending.js';
import { EXPANSION_SCRIPTS } from './scripts/expansion.js';
import { INTAKE_SCRIPTS } from './scripts/intake.js';
import { SMALL_SCRIPTS } from './scripts/small.js';
import { TELLING_SCRIPTS } from './scripts/telling.js';
import { TRANSFER_SCRIPTS } from './scripts/transfer.js';

const JOB_SCRIPTS = {
  ...INTAKE_SCRIPTS,
  ...CHUNK_SCRIPTS,
  ...EXPANSION_SCRIPTS,
  ...ENDING_SCRIPTS,
  ...TELLING_SCRIPTS,
  ...TRANSFER_SCRIPTS,
  ...DELIVERY_SCRIPTS,
};

export type ScriptName = keyof typeof JOB_SCRIPTS | keyof typeof CACHE_SCRIPTS | keyof typeof SMALL_SCRIPTS;
export type ScriptArgument = string | number | Buffer;
/** Lua's numbers, strings (as bytes), tables and false. */
export type ScriptReply = number | Buffer | null | ScriptReply[];

type ScriptMethods = Record<
  `${ScriptName}Buffer`,
  (...args: (string | number | Buffer)[]) => Promise<ScriptReply>
>;

/** A connection with our scripts, and the names of our keys: what every part of the store works with. */
export class Commands {
  readonly redis: Connection;
  readonly keys: Keys;
  readonly #methods: ScriptMethods;

  constructor(redis: Connection, keys: Keys) {
    this.redis = redis;
    this.keys = keys;
    for (const [name, script] of Object.entries({
      ...JOB_SCRIPTS,
      ...CACHE_SCRIPTS,
      ...SMALL_SCRIPTS,
    })) {
      redis.defineCommand(name, script);
    }
    this.#methods = redis as unknown as ScriptMethods;
  }

  /** Runs a script on one job. `queue` is the job's queue. */
  onJob(
    name: Exclude<keyof typeof JOB_SCRIPTS, keyof typeof INTAKE_SCRIPTS>,
    id: string,
    queue: string,
    ...args: ScriptArgument[]
  ): Promise<ScriptReply> {
    const keys = this.keys.ofJob(id, queue);
    if (name === 'wbPurge') keys.push(this.keys.gone(id));
    return this.#methods[`${name}Buffer`](...keys, this.keys.tag, id, ...args);
  }

  /** Runs a script on what is to become a job. `idempotencyKey` is '' for none. */
  onIntake(
    name: keyof typeof INTAKE_SCRIPTS,
    id: string,
    queue: string,
    idempotencyKey: string,
    ...args: ScriptArgument[]
  ): Promise<ScriptReply> {
    const keys = [...this.keys.ofJob(id, queue), this.keys.asked(idempotencyKey)];
    return this.#methods[`${name}Buffer`](...keys, this.keys.tag, id, ...args);
  }

  /** Runs a script on one cache; `more` are the keys it takes besides the cache's. */
  onCache(
    name: keyof typeof CACHE_SCRIPTS,
    queue: string,
    more: readonly string[],
    ...args: ScriptArgument[]
  ): Promise<ScriptReply> {
    return this.#methods[`${name}Buffer`](this.keys.cache(queue), ...more, this.keys.tag, queue, ...args);
  }

  /** Runs a script on the keys that it names. */
  onKeys(
    name: keyof typeof SMALL_SCRIPTS,
    keys: readonly string[],
    ...args: ScriptArgument[]
  ): Promise<ScriptReply> {
    return this.#methods[`${name}Buffer`](...keys, ...args);
  }

  /** The whole of a small hash. */
  async hash(key: string): Promise<Map<string, string>> {
    return new Map(Object.entries(await this.redis.hgetall(key)));
  }
}

/** Redis answered, but will not do it now: full, loading, failing over. */
const REFUSALS =
  /^(OOM|LOADING|READONLY|MISCONF|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|BUSY|TRYAGAIN|NOAUTH|WRONGPASS|NOPERM)\b/;

/** What the caller of the API may read instead of a Redis error; the error itself becomes the cause. */
export function storeError(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  const reply = error instanceof Error && error.name === 'ReplyError' ? refusalOf(error) : null;
  if (reply !== null && !REFUSALS.test(reply))
    return new BrokerError('INTERNAL', 'The job store could not do this.', { cause: error });
  const full = reply?.startsWith('OOM') ?? false;
  return new BrokerError(
    'STORE_UNAVAILABLE',
    full
      ? 'The job store is full. Try again when jobs have ended, or give Redis more memory.'
      : 'The job store does not answer. Try again in a moment.',
    { retryAfterSeconds: full ? 30 : 2, cause: error },
  );
}

/** The reason why a transaction was discarded stands with the command that was refused. */
function refusalOf(error: Error & { previousErrors?: Error[] }): string {
  return error.previousErrors?.[0]?.message ?? error.message;
}

/** True if Redis does not answer, and the same may succeed later. */
export function isUnavailable(error: unknown): boolean {
  return storeError(error).code === 'STORE_UNAVAILABLE';
}

/** Runs `work`; whatever it throws becomes a BrokerError. */
export async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw storeError(error);
  }
}
