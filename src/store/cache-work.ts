import type { CacheLimits } from '../model/cache.js';
import type { FileErrorCode } from '../model/errors.js';
import type { Commands } from './commands.js';
import { type DialectTarget, proofField } from './dialect-proof.js';
import { filesPerSecondOf } from './limits.js';
import type { Queues } from './queue.js';
import { tellServer } from './serving.js';
import type { CacheHold, Slots, Starts } from './work.js';

const LEASE_MS = 10_000;
/** A worker must have stopped before Redis gives its slots away. */
const LEASE_MARGIN_MS = 1000;
const SHORTEST_HOLD_MS = 1000;
const LONGEST_HOLD_MS = 30_000;
/** Enough for the files of some jobs, so that the bad ones of a single job do not keep the circuit open. */
const TRIAL_SLOTS = 4;

/** A cache as its workers share it: slots and starts, whether it answers, what it has shown. */
export class CacheWork {
  readonly #commands: Commands;
  readonly #queues: Queues;

  constructor(commands: Commands, queues: Queues) {
    this.#commands = commands;
    this.#queues = queues;
  }

  /**
   * This worker's share of a cache's `inFlight`, over all workers never more in sum. Call every 2 s while there is
   * work, and when `wanted` or `inUse` fall; 0 and 0 gives the lease back. Leases end after 10 s without renewal.
   * @param configured what applies unless an operator has changed it
   * @param inUse flushes outstanding now: these are never given to another worker
   * @param wanted flushes it could have outstanding
   */
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

  /** Takes from the cache's bucket of flush starts, common to all workers; it holds a quarter of a second's worth. */
  async takeStarts(queue: string, filesPerSecond: number, wanted: number): Promise<Starts> {
    const bucket = this.#commands.keys.bucket(queue);
    const reply = await this.#commands.onCache('wbStarts', queue, [bucket], filesPerSecond, wanted);
    const [granted, waitMs] = reply as [number, number];
    return { granted, waitMs };
  }

  /**
   * Tells that a worker or agent serves a queue, or that it leaves. To be called every few seconds: jobs whose queue
   * nobody serves say so.
   * @param server unique among all that ever were
   * @param registered true: nothing is told if the registry does not have the queue, which is that of an address
   */
  async serves(queue: string, server: string, present: boolean, registered = false): Promise<void> {
    await tellServer(this.#commands, queue, server, present, registered);
  }

  /**
   * The cache answers: ends a hold, clears the fault. Cheap to call again.
   * @param flushed it has flushed a file: this closes its circuit breaker, too
   */
  async up(queue: string, flushed = false): Promise<void> {
    const ended = await this.#commands.onCache('wbUp', queue, [], flushed ? '1' : '0');
    // Otherwise BullMQ would keep to the pause although the hold has ended.
    if (ended === 1) await this.#queues.release(queue);
  }

  /**
   * The cache does not answer, for this reason: holds its queue with growing pauses (1 s to 30 s) and tells so in
   * every job of it.
   * The queue's BullMQ rate limit is set too, which BullMQ obeys only in workers with a `limiter` option.
   */
  hold(queue: string, code: FileErrorCode, message: string): Promise<CacheHold> {
    return this.#hold(queue, code, message, false);
  }

  /** The same where the cache answers, but the storage behind it fails: opens its circuit breaker. */
  openCircuit(queue: string, code: FileErrorCode, message: string): Promise<CacheHold> {
    return this.#hold(queue, code, message, true);
  }

  /** Null: not held. */
  async getHold(queue: string): Promise<CacheHold | null> {
    const key = this.#commands.keys.cache(queue);
    const [until, tries] = await this.#commands.redis.hmget(key, 'holdUntil', 'holdTries');
    return until && tries ? { until: Number(until), tries: Number(tries) } : null;
  }

  /** Whether this target of the cache has ever shown the hpc-cache dialect; with other addresses it is another one. */
  async isDialectProven(queue: string, target: DialectTarget): Promise<boolean> {
    return (await this.#commands.redis.hexists(this.#commands.keys.cache(queue), proofField(target))) === 1;
  }

  async setDialectProven(queue: string, target: DialectTarget): Promise<void> {
    await this.#commands.redis.hset(this.#commands.keys.cache(queue), proofField(target), '1');
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
}
