import { z } from 'zod';
import { BrokerError } from './errors.js';
import { DELIVERY_STATES, WEBHOOK_EVENTS, type WebhookEvent } from './words.js';

/**
 * Who is called when something happens to a job, as in Standard Webhooks 1.0.0
 * (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
 */

const SECRET = /^whsec_([A-Za-z0-9+/]+={0,2})$/;
const SECRET_BYTES = { min: 24, max: 64 };
export const ENDPOINT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const secretsField = z
  .array(
    z
      .string()
      .refine(
        (secret) => keyOfSecret(secret) !== null,
        `expected "whsec_" and ${SECRET_BYTES.min} to ${SECRET_BYTES.max} random bytes in base64, e.g. of: openssl rand -base64 32`,
      ),
  )
  .min(1)
  .max(4);

export const webhooksConfigSchema = z.strictObject({
  endpoints: z
    .array(
      z.strictObject({
        name: z
          .string()
          .regex(ENDPOINT_NAME, 'expected a letter or digit, then letters, digits, ".", "_" or "-"')
          .meta({ description: 'What requests call it.' }),
        url: z
          .url({ protocol: /^https?$/ })
          .refine((url) => !hasUserinfo(url), 'a URL with a user or a password would end up in logs')
          .meta({ description: 'Where it is called, https or http. It is shown to nobody.' }),
        secrets: secretsField.meta({
          description:
            'Keys of the signature, `whsec_` and base64. Each signs, so that a new one can be added before the receiver forgets the old one.',
        }),
      }),
    )
    .max(1000)
    .default([])
    .meta({ description: 'Endpoints that a request can name as its `webhook`.' }),
  origins: z
    .array(
      z.strictObject({
        origin: z
          .string()
          .refine(
            isOrigin,
            'expected the origin of URLs, e.g. "https://hooks.example.org" or "https://hooks.example.org:8443"',
          )
          .meta({
            description: 'Scheme, host and port that a URL must have, e.g. `https://hooks.example.org`.',
          }),
        secrets: secretsField.meta({ description: 'Keys of the signature, as for endpoints.' }),
      }),
    )
    .max(1000)
    .default([])
    .meta({ description: 'Origins of the URLs that a request can give as its `webhook`. Empty: none.' }),
  networks: z
    .array(z.union([z.cidrv4(), z.cidrv6()]))
    .max(1000)
    .default([])
    .meta({
      description:
        'Networks (CIDR) that may be called although they are private, loopback, link-local or otherwise not public.',
    }),
  timeoutSeconds: z.number().positive().max(60).default(15).meta({
    description: 'How long one call may take, from the look-up of the name to the end of the answer.',
  }),
  retrySeconds: z
    .array(z.number().positive().max(604_800))
    .max(20)
    .default([5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400])
    .meta({
      description: 'Pauses after the first, second … call that failed; after the last one it is given up.',
    }),
  concurrency: z.int().min(1).max(256).default(16).meta({
    description: 'Calls that one process makes at a time.',
  }),
});
export type WebhooksConfig = z.infer<typeof webhooksConfigSchema>;

/** Whom a job calls: a configured endpoint by its name, or a URL of an allowed origin. */
export interface JobWebhook {
  endpoint: string | null;
  /** May hold a token, so it is shown to nobody. */
  url: string | null;
  events: WebhookEvent[];
}

/** Where a call goes, and what it is signed with. */
export interface WebhookDestination {
  url: URL;
  /** The bytes of the keys. */
  keys: Buffer[];
}

export const jobWebhookSchema = z
  .object({
    to: z.string().meta({ description: 'The name of the endpoint, or the origin of the URL.' }),
    events: z.array(z.enum(WEBHOOK_EVENTS)),
  })
  .meta({ id: 'JobWebhook' });

const time = z.iso.datetime();
const count = z.int().min(0);

export const deliveryAttemptSchema = z
  .object({
    at: time,
    durationMs: z.number().min(0),
    status: count.nullable().meta({ description: 'Of the answer; null if there was none.' }),
    error: z.string().nullable().meta({ description: 'Why it counts as failed; null if it does not.' }),
  })
  .meta({ id: 'DeliveryAttempt' });
export type DeliveryAttempt = z.infer<typeof deliveryAttemptSchema>;

export const deliverySchema = z
  .object({
    id: z
      .string()
      .meta({ description: 'The `webhook-id` that the receiver sees, the same in every attempt.' }),
    event: z.enum(WEBHOOK_EVENTS),
    to: z.string().meta({ description: 'The name of the endpoint, or the origin of the URL.' }),
    state: z.enum(DELIVERY_STATES).meta({
      description: '`pending`: it will be tried (again). `delivered`: answered with 2xx. `failed`: given up.',
    }),
    createdAt: time.meta({ description: 'When it happened.' }),
    deliveredAt: time.nullable(),
    attempts: count,
    nextAttemptAt: time.nullable().meta({ description: 'Of a pending one.' }),
    lastStatus: count.nullable(),
    lastError: z.string().nullable(),
    log: z
      .array(deliveryAttemptSchema)
      .meta({ description: 'The newest attempts, oldest first, at most 20.' }),
  })
  .meta({ id: 'Delivery' });
export type Delivery = z.infer<typeof deliverySchema>;

/** The id of what is told of a job: fixed, so that whoever hears of it twice can tell. No "." may be in it. */
export function deliveryId(jobId: string, event: WebhookEvent): string {
  return `${jobId.replace(/^job_/, 'msg_')}_${event.replace('job.', '')}`;
}

/** As a job shows it. */
export function shownWebhook({ endpoint, url, events }: JobWebhook): z.infer<typeof jobWebhookSchema> {
  return { to: endpoint ?? new URL(url as string).origin, events };
}

/** What a request says of its webhook. */
export interface WebhookWish {
  webhook?: string | undefined;
  webhookEvents?: WebhookEvent[] | undefined;
}

/**
 * What `webhook` and `webhookEvents` of a request mean.
 * @throws {BrokerError} WEBHOOK_NOT_ALLOWED, VALIDATION
 */
export function chosenWebhook(
  { endpoints, origins }: WebhooksConfig,
  { webhook, webhookEvents }: WebhookWish,
): JobWebhook | undefined {
  if (webhook === undefined) {
    if (webhookEvents === undefined) return undefined;
    throw new BrokerError('VALIDATION', 'webhookEvents is of no use without webhook.', {
      pointer: '/webhookEvents',
    });
  }
  const events = WEBHOOK_EVENTS.filter((event) => (webhookEvents ?? ['job.ended']).includes(event));
  if (endpoints.some(({ name }) => name === webhook)) return { endpoint: webhook, url: null, events };
  if (!/^https?:\/\//i.test(webhook) || !URL.canParse(webhook)) {
    // What is no name may be a URL that was mistyped, with a token in it: it would stand in the log.
    const named = ENDPOINT_NAME.test(webhook) ? JSON.stringify(webhook) : 'of this name, and this is no URL';
    throw refused(
      `There is no webhook endpoint ${named}; the service has ${listed(endpoints.map(({ name }) => name))}.`,
    );
  }
  const { href, origin, hash } = new URL(webhook);
  if (hash !== '' || hasUserinfo(href)) {
    throw new BrokerError('VALIDATION', 'The URL of a webhook has no fragment, user or password in it.', {
      pointer: '/webhook',
    });
  }
  if (!origins.some((allowed) => allowed.origin === origin)) {
    throw refused(
      `${origin} is none of the origins that a webhook may call (${listed(origins.map((allowed) => allowed.origin))}). The setting "webhooks.origins" of the service allows more.`,
    );
  }
  return { endpoint: null, url: href, events };
}

/** Where a webhook goes by the configuration of now; null: it does not know the endpoint or the origin (any more). */
export function destinationOf(
  { endpoints, origins }: WebhooksConfig,
  { endpoint, url }: JobWebhook,
): WebhookDestination | null {
  const target = new URL(url ?? endpoints.find(({ name }) => name === endpoint)?.url ?? 'about:blank');
  const secrets =
    url === null
      ? endpoints.find(({ name }) => name === endpoint)?.secrets
      : origins.find(({ origin }) => origin === target.origin)?.secrets;
  if (!secrets) return null;
  return { url: target, keys: secrets.flatMap((secret) => keyOfSecret(secret) ?? []) };
}

function keyOfSecret(secret: string): Buffer | null {
  const key = Buffer.from(SECRET.exec(secret)?.[1] ?? '', 'base64');
  return key.length >= SECRET_BYTES.min && key.length <= SECRET_BYTES.max ? key : null;
}

function isOrigin(text: string): boolean {
  return /^https?:/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

function hasUserinfo(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { username, password } = new URL(text);
  return username !== '' || password !== '';
}

function refused(detail: string): BrokerError {
  return new BrokerError('WEBHOOK_NOT_ALLOWED', detail, { pointer: '/webhook' });
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.map((name) => JSON.stringify(name)).join(', ');
}
