import type { Job } from '../model/job.js';
import type { DeliveryAttempt, JobWebhook } from '../model/webhook.js';
import type { DeliveryState, WebhookEvent } from '../model/words.js';
import { Commands } from './commands.js';
import { connectForQueue, connectWaiting, disconnect, type QueueConnection } from './connect.js';
import { Subscriptions } from './events.js';
import { jobMeta } from './job-record.js';
import { Jobs } from './jobs.js';
import { Keys } from './keys.js';
import { Queues } from './queue.js';
import type { StoreOptions } from './settings.js';
import type { DeliveryItem } from './work.js';

/** What is to be sent now. */
export interface DueDelivery {
  webhook: JobWebhook;
  body: string;
  /** Attempts since it was sent first, or again by hand. */
  tries: number;
}

/** The store as whoever calls webhooks uses it. */
export interface DeliveryStore {
  /** Prefix of BullMQ's keys. */
  readonly bullPrefix: string;
  /** Its user ends it. */
  newConnection(): QueueConnection;
  /** Puts every delivery into the queue as soon as it is announced. */
  start(): void;
  /**
   * Null: there is nothing to send, e.g. because it has been delivered. A number: it is due then (milliseconds since 1970).
   * @param bodyOf the body of every attempt; kept from the first one on
   */
  begin(item: DeliveryItem, bodyOf: (job: Job) => string): Promise<DueDelivery | number | null>;
  /**
   * @param pauseMs until the next attempt, of one that stays `pending`
   * @returns when that is (milliseconds since 1970), or null
   */
  record(
    item: DeliveryItem,
    attempt: DeliveryAttempt,
    state: DeliveryState,
    pauseMs: number,
  ): Promise<number | null>;
  close(): Promise<void>;
}

/** Early by this much is on time: clocks differ. */
const EARLY_MS = 1000;

export function openDeliveryStore(options: StoreOptions): DeliveryStore {
  const keys = new Keys(options.keyPrefix);
  const commands = new Commands(connectWaiting(options.redis, 'writeback-webhooks'), keys);
  const queues = new Queues(commands);
  const subscriptions = new Subscriptions(options.redis);
  const jobs = new Jobs(commands);

  return {
    bullPrefix: keys.tag,
    newConnection: () => connectForQueue(options.redis, 'writeback-webhook-queue'),
    start() {
      subscriptions.listen(keys.announcements, (message) => {
        const [jobId = '', event = ''] = message.split(' ');
        queues
          .addDelivery({ jobId, event: event as WebhookEvent })
          .catch((error: unknown) => options.onError?.(error, 'queueing a delivery'));
      });
    },
    async begin({ jobId, event }, bodyOf) {
      const row = await commands.redis.hgetall(keys.job(jobId));
      const { webhook } = row.meta ? jobMeta(row) : {};
      if (!webhook) return null;
      const body = bodyOf(await jobs.get(jobId));
      const reply = await commands.onJob('wbBeginDelivery', jobId, row.queue ?? '', event, body);
      if (!Array.isArray(reply)) return null;
      const [state, nextAt, tries, kept] = reply.map((value) => (value === null ? '' : String(value)));
      if (state !== 'pending') return null;
      if (Number(nextAt) > Date.now() + EARLY_MS) return Number(nextAt);
      return { webhook, body: kept ?? body, tries: Number(tries ?? 0) };
    },
    async record({ jobId, event }, attempt, state, pauseMs) {
      const queue = (await commands.redis.hget(keys.job(jobId), 'queue')) ?? '';
      const reply = await commands.onJob(
        'wbRecordAttempt',
        jobId,
        queue,
        event,
        JSON.stringify(attempt),
        state,
        Math.round(pauseMs),
      );
      return Number(reply) > 0 ? Number(reply) : null;
    },
    async close() {
      subscriptions.close();
      await queues.close();
      disconnect(commands.redis);
    },
  };
}
