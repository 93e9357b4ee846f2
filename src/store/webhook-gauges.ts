import type { Commands } from './commands.js';

/** What became of calls: it arrived, it is made again, or it was given up. */
export const DELIVERY_RESULTS = ['delivered', 'retried', 'failed'] as const;
export type DeliveryResult = (typeof DELIVERY_RESULTS)[number];

/** What can be measured about the webhooks of all jobs together. */
export interface WebhookGauges {
  /** Calls, over all processes and their restarts. */
  results: Record<DeliveryResult, number>;
  /** Deliveries that wait for their first or next call. */
  pending: number;
  /** How long the oldest of them has waited since its event, or since it was sent again by hand; 0: none waits. */
  oldestAgeMs: number;
}

/** One small read. @param now milliseconds since 1970 */
export async function readWebhookGauges({ redis, keys }: Commands, now: number): Promise<WebhookGauges> {
  const [counts, pending, [, oldestAt]] = await Promise.all([
    redis.hgetall(keys.webhooks),
    redis.zcard(keys.undelivered),
    redis.zrange(keys.undelivered, '0', '0', 'WITHSCORES'),
  ]);
  const count = (result: DeliveryResult) => Number(counts[result] ?? 0);
  return {
    results: { delivered: count('delivered'), retried: count('retried'), failed: count('failed') },
    pending,
    oldestAgeMs: oldestAt === undefined ? 0 : Math.max(0, now - Number(oldestAt)),
  };
}
