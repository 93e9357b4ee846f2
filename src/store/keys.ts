import { createHash } from 'node:crypto';
import type { WebhookEvent } from '../model/words.js';
import type { FlushTarget, TransferTarget } from './types.js';

/**
 * Names of everything we keep in Redis. One hash tag for all of it, so that on Redis Cluster a script may touch a
 * job, the indexes and the cache together.
 *
 *   {p}:job:<id>           hash    the job's record and its counters
 *   {p}:job:<id>:states    string  one byte per file
 *   {p}:job:<id>:chunks    hash    chunk → paths (chunk-codec)
 *   {p}:job:<id>:details   hash    <chunk> → packed details; until then <chunk>.1 … <chunk>.n, and n in <chunk>:n
 *   {p}:job:<id>:errors    hash    n:<code> → count; s:<code>:<i> → sample
 *   {p}:job:<id>:runs      hash    <chunk> → run; d<directory> → run, :seq and :done; c<chunk> → its directory
 *   {p}:job:<id>:deliveries hash   <event>:at, :state … of what its webhook is told (scripts/delivery.ts)
 *   {p}:cache:<queue>      hash    health, pause, hold, counters, last hour of a cache; of a node, its agent and counters
 *   {p}:parts:<queue>      hash    <job>:<file> → what an agent has copied of it so far (transfers.ts)
 *   {p}:leases:<queue>     hash    worker → slots it has and wants
 *   {p}:servers:<queue>    zset    workers or agents that serve it, by when they last said so
 *   {p}:bucket:<queue>     hash    flush starts that may be taken
 *   {p}:queues             hash    queue → who it serves
 *   {p}:jobs, {p}:open     zset    all job ids, those that have not ended; by id, which sorts by time
 *   {p}:last-changes       zset    all job ids by the place of their last change in the order of all changes
 *   {p}:jobs-of:<principal> zset  its jobs among those
 *   {p}:usage:<principal>  hash    its files that wait (filesQueued), its jobs that have not begun (jobsQueued) or not ended (jobsActive)
 *   {p}:requests:<principal> string  requests in the minute that its expiry ends
 *   {p}:deadlines          zset    open jobs by deadline
 *   {p}:announced          zset    "<job> <event>" that its webhook has not been told, by when to look
 *   {p}:undelivered        zset    the same, by when that began to be so
 *   {p}:webhooks           hash    result → calls of webhooks that had it
 *   {p}:outbox             zset    jobs with something not yet handed to BullMQ, by when to look
 *   {p}:retention          zset    ended jobs by the end of their retention
 *   {p}:ending             set     jobs whose files are being canceled or expired
 *   {p}:joinable           hash    fingerprint of a request → the newest job of it that has not ended
 *   {p}:asked:<digest>     hash    an Idempotency-Key: the intake that holds it, or the job and its fingerprint
 *   {p}:gone:<id>          string  whose job it was that was deleted after its retention
 *   {p}:sweeper            string  who sweeps
 */
export class Keys {
  /** Also BullMQ's prefix: its keys are {p}:<queue>:… */
  readonly tag: string;

  constructor(prefix: string) {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(prefix))
      throw new TypeError('the key prefix is 1 to 64 letters, digits, "_", "." or "-"');
    this.tag = `{${prefix}}`;
  }

  job(id: string): string {
    return `${this.tag}:job:${id}`;
  }
  states(id: string): string {
    return `${this.job(id)}:states`;
  }
  chunks(id: string): string {
    return `${this.job(id)}:chunks`;
  }
  details(id: string): string {
    return `${this.job(id)}:details`;
  }
  errors(id: string): string {
    return `${this.job(id)}:errors`;
  }
  runs(id: string): string {
    return `${this.job(id)}:runs`;
  }
  deliveries(id: string): string {
    return `${this.job(id)}:deliveries`;
  }
  gone(id: string): string {
    return `${this.tag}:gone:${id}`;
  }
  cache(queue: string): string {
    return `${this.tag}:cache:${queue}`;
  }
  /** No queue has this name: those of addresses begin with `address-`. */
  get goneAddresses(): string {
    return this.cache('gone-addresses');
  }
  leases(queue: string): string {
    return `${this.tag}:leases:${queue}`;
  }
  servers(queue: string): string {
    return `${this.tag}:servers:${queue}`;
  }
  parts(queue: string): string {
    return `${this.tag}:parts:${queue}`;
  }
  bucket(queue: string): string {
    return `${this.tag}:bucket:${queue}`;
  }
  get queues(): string {
    return `${this.tag}:queues`;
  }
  get jobs(): string {
    return `${this.tag}:jobs`;
  }
  /** Made by scripts too, which know the principal of a job from the job alone. */
  jobsOf(principal: string): string {
    return `${this.tag}:jobs-of:${principal}`;
  }
  requests(principal: string): string {
    return `${this.tag}:requests:${principal}`;
  }
  get open(): string {
    return `${this.tag}:open`;
  }
  get lastChanges(): string {
    return `${this.tag}:last-changes`;
  }
  get deadlines(): string {
    return `${this.tag}:deadlines`;
  }
  get announced(): string {
    return `${this.tag}:announced`;
  }
  get undelivered(): string {
    return `${this.tag}:undelivered`;
  }
  get webhooks(): string {
    return `${this.tag}:webhooks`;
  }
  get outbox(): string {
    return `${this.tag}:outbox`;
  }
  get retention(): string {
    return `${this.tag}:retention`;
  }
  get ending(): string {
    return `${this.tag}:ending`;
  }
  get joinable(): string {
    return `${this.tag}:joinable`;
  }
  /** A key may have any length and any content before it is a digest. */
  asked(idempotencyKey: string): string {
    return `${this.tag}:asked:${createHash('sha256').update(idempotencyKey).digest('base64url')}`;
  }
  get sweeper(): string {
    return `${this.tag}:sweeper`;
  }
  /** Pub/sub: `job <id> <state>` and `cache <queue>` when what a job shows has changed. */
  get changes(): string {
    return `${this.tag}:changes`;
  }
  /** Pub/sub: `<id> canceled|expired`, for workers. */
  get endings(): string {
    return `${this.tag}:endings`;
  }
  /** Pub/sub: `<job> <event>` that its webhook is to be told. */
  get announcements(): string {
    return `${this.tag}:announcements`;
  }
  /** Pub/sub: `<id>` of a transfer whose limits have changed. */
  get limits(): string {
    return `${this.tag}:limits`;
  }
  /** Pub/sub: the registry of queues has changed. */
  get registry(): string {
    return `${this.tag}:registry`;
  }
  /** What waits, the next first; its members are ids of BullMQ jobs. */
  bullPrioritized(queue: string): string {
    return `${this.tag}:${queue}:prioritized`;
  }
  /** BullMQ's own keys of one of its jobs. */
  bullJob(queue: string, bullId: string): string {
    return `${this.tag}:${queue}:${bullId}`;
  }
  bullLock(queue: string, bullId: string): string {
    return `${this.tag}:${queue}:${bullId}:lock`;
  }

  /** KEYS of every script that works on one job, in the order of scripts/job-prelude.ts. */
  ofJob(id: string, queue: string): string[] {
    return [
      this.job(id),
      this.states(id),
      this.chunks(id),
      this.details(id),
      this.errors(id),
      this.runs(id),
      this.cache(queue),
      this.jobs,
      this.open,
      this.deadlines,
      this.outbox,
      this.retention,
      this.ending,
      this.queues,
      this.parts(queue),
      this.joinable,
      this.lastChanges,
      this.deliveries(id),
      this.announced,
    ];
  }
}

/**
 * BullMQ's name for the queue of a cache. Names of queues have no colon and become part of keys, so an address named
 * by a request goes in as a digest behind a readable part.
 */
export function queueName(cache: string, adHoc: boolean): string {
  if (!adHoc) return `cache-${cache}`;
  const digest = createHash('sha256').update(cache).digest('hex').slice(0, 16);
  return `address-${cache.replaceAll(/[^A-Za-z0-9.-]+/g, '_').slice(0, 40)}-${digest}`;
}

const NODE_QUEUE = 'node-';

/** BullMQ's name for the queue of a node: its transfers. */
export function nodeQueueName(node: string): string {
  return `${NODE_QUEUE}${node}`;
}

/** The node of a queue; null: it is that of a cache. */
export function nodeOfQueue(queue: string): string | null {
  return queue.startsWith(NODE_QUEUE) ? queue.slice(NODE_QUEUE.length) : null;
}

/** The queue that the items of a job go to. */
export function queueOf(target: Pick<FlushTarget, 'kind' | 'cache' | 'adHocCache'> | TransferTarget): string {
  return target.kind === 'transfer'
    ? nodeQueueName(target.node)
    : queueName(target.cache, target.adHocCache !== null);
}

/** BullMQ's name for the queue of calls of webhooks. */
export const WEBHOOK_QUEUE = 'webhooks';

/** Ids of items say what they are for: one that is given to BullMQ twice is there once. */
export function chunkItemId(jobId: string, chunk: number): string {
  return `${jobId}-${chunk}`;
}

export function deliveryItemId(jobId: string, event: WebhookEvent): string {
  return `${jobId}-${event}`;
}

export function directoryItemId(jobId: string, directory: number): string {
  return `${jobId}-d${directory}`;
}
