import { type Job as BullJob, DelayedError, type Worker } from 'bullmq';
import type { Logger } from 'pino';
import { deliveryId, destinationOf, type WebhooksConfig } from '../model/webhook.js';
import type { DeliveryState } from '../model/words.js';
import type { QueueConnection } from '../store/connect.js';
import type { DeliveryStore, DueDelivery } from '../store/delivery-store.js';
import { WEBHOOK_QUEUE } from '../store/keys.js';
import { startQueueWorker } from '../store/queue-worker.js';
import type { DeliveryItem } from '../store/work.js';
import { type CallResult, callWebhook } from './call.js';
import { message } from './message.js';
import { type Lookup, PublicAddresses } from './public-addresses.js';

export interface DelivererOptions {
  store: DeliveryStore;
  webhooks: WebhooksConfig;
  /** A process that was killed or frozen for longer loses the calls it had in hand to another. */
  lockMs: number;
  stalledCheckMs: number;
  version: string;
  log: Logger;
  /** Default: the system's resolver. */
  lookup?: Lookup;
}

const POLL_MS = 1000;
/** How long handing calls back may take; with Redis away it takes for ever. */
const HAND_BACK_MS = 2000;
/** So that what failed together is not tried again together. */
const JITTER = 0.1;

/** Calls the webhooks of jobs; any number of processes may. Each attempt stands in the record of its job. */
export class Deliverer {
  readonly #options: DelivererOptions;
  #webhooks: WebhooksConfig;
  #addresses: PublicAddresses;
  readonly #connection: QueueConnection;
  readonly #bull: Worker<DeliveryItem>;
  readonly #end = new AbortController();

  constructor(options: DelivererOptions) {
    this.#options = options;
    this.#webhooks = options.webhooks;
    const { store, webhooks, lockMs, stalledCheckMs, log, lookup } = options;
    this.#addresses = new PublicAddresses(webhooks.networks, lookup);
    this.#connection = store.newConnection();
    this.#bull = startQueueWorker<DeliveryItem>(
      {
        connection: this.#connection.redis,
        bullPrefix: store.bullPrefix,
        queue: WEBHOOK_QUEUE,
        concurrency: webhooks.concurrency,
        lockMs,
        stalledCheckMs,
        idlePollMs: POLL_MS,
        canBeHeld: false,
      },
      (job, token) => this.#process(job, token),
    );
    this.#bull.on('error', (error) => log.warn({ err: error }, 'queue of webhooks'));
    store.start();
  }

  /** Calls from now on are made by this configuration. */
  reconfigure(webhooks: WebhooksConfig): void {
    this.#webhooks = webhooks;
    this.#addresses = new PublicAddresses(webhooks.networks, this.#options.lookup);
    this.#bull.concurrency = webhooks.concurrency;
  }

  /**
   * Calls under way end within `graceMs`, or go back to the queue and count as not made. Waits for Redis, until the
   * store is closed too.
   */
  async close(graceMs: number): Promise<void> {
    const timers = [
      setTimeout(() => this.#end.abort(), graceMs),
      setTimeout(() => this.#connection.end(), graceMs + HAND_BACK_MS),
    ];
    await this.#bull.close();
    for (const timer of timers) clearTimeout(timer);
    this.#connection.end();
  }

  async #process(job: BullJob<DeliveryItem>, token: string | undefined): Promise<void> {
    const { store } = this.#options;
    const item = job.data;
    const due = await store.begin(item, (shown) => message(item.event, shown, Date.now()));
    if (due === null) return;
    const nextAt = typeof due === 'number' ? due : await this.#attempt(item, due);
    if (nextAt === null) return;
    await job.moveToDelayed(nextAt, token);
    throw new DelayedError();
  }

  /** @returns when the next one is due, or null */
  async #attempt(item: DeliveryItem, due: DueDelivery): Promise<number | null> {
    const { store, version, log } = this.#options;
    const begin = Date.now();
    const destination = destinationOf(this.#webhooks, due.webhook);
    const result = destination
      ? await callWebhook(destination, deliveryId(item.jobId, item.event), due.body, {
          addresses: this.#addresses,
          timeoutMs: this.#webhooks.timeoutSeconds * 1000,
          userAgent: `writeback-broker/${version}`,
          signal: this.#end.signal,
        })
      : UNKNOWN;
    if (result.error !== null && this.#end.signal.aborted) return Date.now();
    const { state, pauseMs } = this.#next(result, due.tries);
    const { status, error } = result;
    const durationMs = Date.now() - begin;
    const told = { job: item.jobId, event: item.event, status, durationMs, attempt: due.tries + 1 };
    if (state === 'delivered') log.info(told, 'webhook called');
    else log.warn({ ...told, error, state }, 'webhook not delivered');
    return store.record(
      item,
      { at: new Date(begin).toISOString(), durationMs, status, error },
      state,
      pauseMs,
    );
  }

  #next({ error, gone, retryAfterMs }: CallResult, tries: number): { state: DeliveryState; pauseMs: number } {
    const pauseSeconds = this.#webhooks.retrySeconds[tries];
    if (error === null) return { state: 'delivered', pauseMs: 0 };
    if (gone || pauseSeconds === undefined) return { state: 'failed', pauseMs: 0 };
    const pauseMs = pauseSeconds * 1000 * (1 + Math.random() * JITTER);
    return { state: 'pending', pauseMs: Math.max(pauseMs, retryAfterMs ?? 0) };
  }
}

/** Its name or origin was taken out of the configuration, perhaps only of this process and not for good. */
const UNKNOWN: CallResult = {
  status: null,
  error: 'The configuration of the service does not know this endpoint or origin any more.',
  retryAfterMs: null,
  gone: false,
};
