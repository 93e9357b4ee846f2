import { Counter, Gauge, type Registry } from 'prom-client';
import { DELIVERY_RESULTS, type WebhookGauges } from '../store/webhook-gauges.js';

/** What the store knows of webhooks, over all processes. Without a label for the receiver: URLs come from requests. */
export class WebhookMetrics {
  readonly #results: Counter<'result'>;
  readonly #pending: Gauge;
  readonly #age: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#results = new Counter({
      name: 'writeback_webhook_deliveries_total',
      help: 'Calls of webhooks: delivered, to be retried, or given up (failed), over all processes and their restarts.',
      labelNames: ['result'],
      registers,
    });
    this.#pending = new Gauge({
      name: 'writeback_webhook_deliveries_pending',
      help: 'Deliveries that wait for their first or next call.',
      registers,
    });
    this.#age = new Gauge({
      name: 'writeback_webhook_pending_age_seconds',
      help: 'Age of the oldest delivery that waits; 0: none waits.',
      registers,
    });
  }

  /** Null: they could not be read; then there are none, which is not the same as zero. */
  show(webhooks: WebhookGauges | null): void {
    this.#results.reset();
    if (webhooks === null) {
      this.#pending.remove();
      this.#age.remove();
      return;
    }
    for (const result of DELIVERY_RESULTS) this.#results.inc({ result }, webhooks.results[result]);
    this.#pending.set(webhooks.pending);
    this.#age.set(webhooks.oldestAgeMs / 1000);
  }
}
