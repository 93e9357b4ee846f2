import { BrokerError } from '../model/errors.js';
import { type Delivery, type DeliveryAttempt, deliveryId, shownWebhook } from '../model/webhook.js';
import { type DeliveryState, WEBHOOK_EVENTS, type WebhookEvent } from '../model/words.js';
import type { Commands } from './commands.js';
import { jobMeta } from './job-record.js';
import type { Jobs } from './jobs.js';
import type { Queues } from './queue.js';

/** What the webhook of a job was told or is to be told, for whoever asks. */
export class Deliveries {
  readonly #commands: Commands;
  readonly #queues: Queues;
  readonly #jobs: Jobs;

  constructor(commands: Commands, queues: Queues, jobs: Jobs) {
    this.#commands = commands;
    this.#queues = queues;
    this.#jobs = jobs;
  }

  /** @throws BrokerError JOB_NOT_FOUND, JOB_GONE */
  async list(id: string): Promise<Delivery[]> {
    const { webhook } = jobMeta(await this.#jobs.row(id));
    if (!webhook) return [];
    const row = await this.#commands.hash(this.#commands.keys.deliveries(id));
    const { to } = shownWebhook(webhook);
    return WEBHOOK_EVENTS.filter((event) => row.has(`${event}:at`)).map((event) => shown(id, event, to, row));
  }

  /** @throws BrokerError JOB_NOT_FOUND, JOB_GONE, DELIVERY_NOT_FOUND */
  async resend(id: string, wanted: string): Promise<Delivery> {
    const delivery = (await this.list(id)).find((one) => one.id === wanted);
    if (!delivery) {
      throw new BrokerError(
        'DELIVERY_NOT_FOUND',
        `Job ${id} has no delivery ${JSON.stringify(wanted.slice(0, 80))}. Its deliveries: /v1/jobs/${id}/deliveries`,
      );
    }
    const { event } = delivery;
    const { queue = '' } = await this.#jobs.row(id);
    await this.#commands.onJob('wbResend', id, queue, event);
    // From here on the sweeper would send it; one that waits for its pause is taken out of it.
    await this.#queues.addDelivery({ jobId: id, event }, true).catch(() => {});
    return (await this.list(id)).find((one) => one.id === wanted) ?? delivery;
  }
}

function shown(id: string, event: WebhookEvent, to: string, row: ReadonlyMap<string, string>): Delivery {
  const field = (name: string): string | undefined => row.get(`${event}:${name}`);
  const time = (name: string): string | null => {
    const at = field(name);
    return at ? new Date(Number(at)).toISOString() : null;
  };
  const log = [...row]
    .filter(([name]) => name.startsWith(`${event}:log:`))
    .map(([, json]) => JSON.parse(json) as DeliveryAttempt)
    .sort((a, b) => (a.at < b.at ? -1 : 1));
  return {
    id: deliveryId(id, event),
    event,
    to,
    state: field('state') as DeliveryState,
    createdAt: time('at') ?? '',
    deliveredAt: time('deliveredAt'),
    attempts: Number(field('attempts') ?? 0),
    nextAttemptAt: time('nextAt'),
    lastStatus: log.at(-1)?.status ?? null,
    lastError: log.at(-1)?.error ?? null,
    log,
  };
}
