import { BrokerError } from '../model/errors.js';
import { NODE_NAME, type Node } from '../model/node.js';
import type { Commands } from './commands.js';
import { nodeOfQueue, nodeQueueName } from './keys.js';
import type { Queues } from './queue.js';
import type { Page } from './types.js';

/** The nodes that have or had an agent, or jobs. */
export class Nodes {
  readonly #commands: Commands;
  readonly #queues: Queues;

  constructor(commands: Commands, queues: Queues) {
    this.#commands = commands;
    this.#queues = queues;
  }

  async list(shows: (name: string) => boolean, cursor: string | null, limit: number): Promise<Page<Node>> {
    const after = cursor === null ? '' : nameOfCursor(cursor);
    const { redis, keys } = this.#commands;
    // Ten thousand names are read in a few milliseconds; what else is known of them is not.
    const names = (await redis.hkeys(keys.queues))
      .map(nodeOfQueue)
      .filter((name): name is string => name !== null && name > after && shows(name))
      .sort();
    const page = names.slice(0, limit);
    const last = page.at(-1);
    return {
      items: await Promise.all(page.map((name) => this.#show(name))),
      nextCursor: last !== undefined && names.length > limit ? cursorOfName(last) : null,
    };
  }

  /** @throws {BrokerError} NODE_NOT_FOUND */
  async get(name: string): Promise<Node> {
    await this.#check(name);
    return this.#show(name);
  }

  /** @throws {BrokerError} NODE_NOT_FOUND */
  async setPaused(name: string, paused: boolean, reason: string): Promise<Node> {
    await this.#check(name);
    const queue = nodeQueueName(name);
    // Our record first: should the second step fail, the sweeper makes BullMQ follow it.
    await this.#commands.onCache('wbPause', queue, [], paused ? '1' : '0', reason);
    await this.#queues.setPaused(queue, paused);
    return this.#show(name);
  }

  async #check(name: string): Promise<void> {
    const { redis, keys } = this.#commands;
    if ((await redis.hexists(keys.queues, nodeQueueName(name))) === 1) return;
    throw new BrokerError(
      'NODE_NOT_FOUND',
      `No agent of a node "${name}" was ever seen, and no job names it.`,
    );
  }

  async #show(name: string): Promise<Node> {
    const { redis, keys } = this.#commands;
    const row = await redis.hgetall(keys.cache(nodeQueueName(name)));
    const paused = row.paused === '1';
    return {
      name,
      connected: row.served === '1',
      seenAt: row.servedAt ? new Date(Number(row.servedAt)).toISOString() : null,
      paused,
      pausedReason: (paused && row.pausedReason) || null,
      jobsActive: Number(row.jobsActive ?? 0),
      filesQueued: Number(row.filesQueued ?? 0),
      filesActive: Number(row.filesActive ?? 0),
      bytesQueued: Math.max(0, Number(row.bytesQueued ?? 0)),
    };
  }
}

function cursorOfName(name: string): string {
  return Buffer.from(name).toString('base64url');
}

function nameOfCursor(cursor: string): string {
  const name = Buffer.from(cursor, 'base64url').toString();
  if (!NODE_NAME.test(name))
    throw new BrokerError('VALIDATION', 'The cursor is not one that this service gave.');
  return name;
}
