import { z } from 'zod';
import { accessConfigSchema } from '../model/access.js';
import { cacheConfigSchema } from '../model/cache.js';
import { adHocSchema, apiLimitsSchema } from '../model/limits.js';
import { agentConfigSchema } from '../model/node.js';
import { webhooksConfigSchema } from '../model/webhook.js';

/**
 * The configuration of the service: a YAML file (optional), overridden by environment variables. One schema checks
 * the result; keys it does not know are refused. Every default is one a single machine can run with.
 */

const port = z.int().min(0).max(65535);
const file = z.string().startsWith('/', 'expected an absolute path');
const seconds = z
  .number()
  .positive()
  .max(10 * 366 * 86_400);

const httpSchema = z.strictObject({
  host: z.string().min(1).default('127.0.0.1').meta({
    description:
      'Address to listen on, "0.0.0.0" or "::" for all interfaces. Without a credential configured (access) only one of loopback.',
  }),
  port: port.default(8080).meta({ description: 'TCP port to listen on; 0 takes a free one.' }),
  tls: z
    .strictObject({
      certFile: file.meta({ description: 'PEM file of the certificate, with its chain.' }),
      keyFile: file.meta({ description: 'PEM file of its private key.' }),
      clientCaFile: file.nullable().default(null).meta({
        description:
          'PEM file of authorities: only clients with a certificate of one of them get as far as their credential.',
      }),
    })
    .nullable()
    .default(null)
    .meta({
      description:
        'HTTPS, TLS 1.2 or later. The files are read again within seconds when they change; connections stay.',
    }),
});

const redisSchema = z.strictObject({
  url: z
    .string()
    .regex(/^(redis|rediss|unix):\/\//, 'expected redis://…, rediss://… or unix:///path/to/socket')
    .nullable()
    .default(null)
    .meta({
      description:
        'redis://, rediss:// (TLS) or unix:// URL of the Redis to use, with user and password where it wants them. A certificate of an authority of your own is trusted if NODE_EXTRA_CA_CERTS names its file. Null: a private one is started with its data in dataDir.',
    }),
  cluster: z
    .boolean()
    .default(false)
    .meta({ description: 'True if the URL names a node of a Redis Cluster.' }),
  keyPrefix: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected 1 to 64 letters, digits, "_" or "-"')
    .default('writeback')
    .meta({ description: 'All keys begin with it, so that several services can share one Redis.' }),
  fsync: z.enum(['always', 'everysec']).default('always').meta({
    description:
      'For the private Redis. "always": an acknowledged job survives a power cut. "everysec": about a second of them may be lost, for a little more speed.',
  }),
  serverPath: z.string().startsWith('/', 'expected an absolute path').nullable().default(null).meta({
    description: 'Program of the private Redis. Null: redis-server, else valkey-server, found in PATH.',
  }),
  startTimeoutSeconds: seconds.default(30).meta({
    description: 'How long a start waits for Redis to answer before it gives up.',
  }),
});

const workerSchema = z.strictObject({
  chunksPerCache: z.int().min(1).max(64).default(4).meta({
    description:
      'Chunks of up to 512 files that one process works on at a time, per cache. The load on a cache is set by its limits.inFlight, not by this.',
  }),
  shutdownGraceSeconds: z.number().min(0).max(3600).default(20).meta({
    description: 'After SIGTERM, how long flushes under way may end before their files go back to the queue.',
  }),
  lockSeconds: z.number().min(1).max(600).default(10).meta({
    description: 'A worker that was killed or frozen for longer than this loses its chunks to another one.',
  }),
  stalledCheckSeconds: z
    .number()
    .min(0.5)
    .max(600)
    .default(5)
    .meta({ description: 'How often the chunks of dead workers are looked for.' }),
  maxStalls: z.int().min(1).max(1000).default(5).meta({
    description: 'A chunk whose worker died this many times is given up: its files fail.',
  }),
  holdAfterSeconds: seconds.max(3600).default(10).meta({
    description:
      'A cache that does not answer for this long is held: its queue waits until the cache answers again, which is asked every second.',
  }),
  idleSessionSeconds: seconds.default(60).meta({
    description: 'An export without work is kept mounted for this long.',
  }),
  metricsHost: z.string().min(1).default('127.0.0.1').meta({
    description: 'Address on which a process with --role worker or agent answers /metrics and /healthz.',
  }),
  metricsPort: port.nullable().default(null).meta({
    description:
      'TCP port for that; 0 takes a free one. Null: none. The other roles answer both on the port of the API.',
  }),
});

const tracingSchema = z.strictObject({
  endpoint: z
    .url({ protocol: /^https?$/, error: 'expected http://… or https://…' })
    .nullable()
    .default(null)
    .meta({
      description:
        'Base URL of an OpenTelemetry collector that takes OTLP over HTTP, e.g. http://127.0.0.1:4318. Null: nothing is traced.',
    }),
  sampleRatio: z.number().min(0).max(1).default(1).meta({
    description:
      'Share of the requests that are traced, 0 to 1; one that brings a trace of its own decides by itself.',
  }),
});

const retentionSchema = z.strictObject({
  jobSeconds: seconds.default(7 * 86_400).meta({
    description: 'How long a job that has ended can be looked at; afterwards it answers 410.',
  }),
  goneSeconds: seconds.default(30 * 86_400).meta({
    description: 'How long it answers 410 after that; afterwards 404.',
  }),
  idempotencySeconds: seconds.default(86_400).meta({
    description: 'How long an Idempotency-Key is remembered after its request was accepted.',
  }),
});

export const configSchema = z
  .strictObject({
    http: httpSchema.prefault({}),
    access: accessConfigSchema.prefault({}),
    redis: redisSchema.prefault({}),
    dataDir: z.string().startsWith('/', 'expected an absolute path').meta({
      description:
        'Folder of the private Redis. Default: $STATE_DIRECTORY, else $XDG_DATA_HOME/writeback, else ~/.local/share/writeback, else /var/lib/writeback.',
    }),
    healthSocket: file.nullable().default(null).meta({
      description:
        'Path of a unix socket on which a process of any role answers /healthz, for `writeback health`. Null: none.',
    }),
    log: z
      .strictObject({
        level: z
          .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
          .default('info')
          .meta({ description: 'Least severe level that is logged.' }),
      })
      .prefault({}),
    tracing: tracingSchema.prefault({}),
    worker: workerSchema.prefault({}),
    agent: agentConfigSchema.prefault({}),
    limits: apiLimitsSchema.prefault({}),
    retention: retentionSchema.prefault({}),
    adHoc: adHocSchema.prefault({}),
    webhooks: webhooksConfigSchema.prefault({}),
    caches: z.array(cacheConfigSchema).max(10_000).default([]).meta({
      description: 'The caches that requests name.',
    }),
  })
  .superRefine((config, ctx) => {
    const once = (path: string[], key: string, names: readonly string[]): void => {
      names.forEach((name, i) => {
        const earlier = names.indexOf(name);
        if (earlier === i) return;
        const message = `"${name}" is the ${key} of ${path.join('.')}[${earlier}] already; each has its own`;
        ctx.addIssue({ code: 'custom', path: [...path, i, key], message });
      });
    };
    const { caches, webhooks } = config;
    once(
      ['caches'],
      'name',
      caches.map(({ name }) => name),
    );
    once(
      ['webhooks', 'endpoints'],
      'name',
      webhooks.endpoints.map(({ name }) => name),
    );
    once(
      ['webhooks', 'origins'],
      'origin',
      webhooks.origins.map(({ origin }) => origin),
    );
    for (const key of ['fileTimeoutSeconds', 'deadlineSeconds'] as const) {
      const limit = config.limits[key];
      if (limit.default <= limit.max) continue;
      const message = `${limit.default} is more than limits.${key}.max (${limit.max})`;
      ctx.addIssue({ code: 'custom', path: ['limits', key, 'default'], message });
    }
  });
export type Config = z.infer<typeof configSchema>;

export type VariableKind = 'text' | 'number' | 'boolean' | 'list';

/** Environment variables that override the file. A variable that is set but empty counts as not set. */
export const ENVIRONMENT = {
  WRITEBACK_HTTP_HOST: { key: 'http.host', kind: 'text' },
  WRITEBACK_HTTP_PORT: { key: 'http.port', kind: 'number' },
  WRITEBACK_TOKENS_FILE: { key: 'access.tokensFile', kind: 'text' },
  WRITEBACK_REDIS_URL: { key: 'redis.url', kind: 'text' },
  WRITEBACK_REDIS_CLUSTER: { key: 'redis.cluster', kind: 'boolean' },
  WRITEBACK_REDIS_KEY_PREFIX: { key: 'redis.keyPrefix', kind: 'text' },
  WRITEBACK_REDIS_FSYNC: { key: 'redis.fsync', kind: 'text' },
  WRITEBACK_REDIS_START_TIMEOUT_SECONDS: { key: 'redis.startTimeoutSeconds', kind: 'number' },
  WRITEBACK_DATA_DIR: { key: 'dataDir', kind: 'text' },
  WRITEBACK_HEALTH_SOCKET: { key: 'healthSocket', kind: 'text' },
  WRITEBACK_LOG_LEVEL: { key: 'log.level', kind: 'text' },
  WRITEBACK_TRACING_ENDPOINT: { key: 'tracing.endpoint', kind: 'text' },
  WRITEBACK_TRACING_SAMPLE_RATIO: { key: 'tracing.sampleRatio', kind: 'number' },
  WRITEBACK_WORKER_CHUNKS_PER_CACHE: { key: 'worker.chunksPerCache', kind: 'number' },
  WRITEBACK_WORKER_SHUTDOWN_GRACE_SECONDS: { key: 'worker.shutdownGraceSeconds', kind: 'number' },
  WRITEBACK_WORKER_LOCK_SECONDS: { key: 'worker.lockSeconds', kind: 'number' },
  WRITEBACK_WORKER_STALLED_CHECK_SECONDS: { key: 'worker.stalledCheckSeconds', kind: 'number' },
  WRITEBACK_WORKER_HOLD_AFTER_SECONDS: { key: 'worker.holdAfterSeconds', kind: 'number' },
  WRITEBACK_AGENT_NODE: { key: 'agent.node', kind: 'text' },
  WRITEBACK_AGENT_SOURCE_ROOTS: { key: 'agent.sourceRoots', kind: 'list' },
  WRITEBACK_AGENT_DESTINATION_ROOTS: { key: 'agent.destinationRoots', kind: 'list' },
  WRITEBACK_AGENT_CONCURRENCY: { key: 'agent.concurrency', kind: 'number' },
  WRITEBACK_WORKER_METRICS_HOST: { key: 'worker.metricsHost', kind: 'text' },
  WRITEBACK_WORKER_METRICS_PORT: { key: 'worker.metricsPort', kind: 'number' },
  WRITEBACK_RETENTION_JOB_SECONDS: { key: 'retention.jobSeconds', kind: 'number' },
  WRITEBACK_ADHOC_NETWORKS: { key: 'adHoc.networks', kind: 'list' },
} as const satisfies Record<string, { key: string; kind: VariableKind }>;

/** Options of `serve` that override both. */
export const OPTIONS = {
  host: 'http.host',
  port: 'http.port',
  'data-dir': 'dataDir',
  'redis-url': 'redis.url',
  node: 'agent.node',
} as const;

/** Variables of the same family that are no keys of the file: its place, and what the client commands read. */
export const OTHER_VARIABLES = [
  'WRITEBACK_CONFIG',
  'WRITEBACK_URL',
  'WRITEBACK_TOKEN',
  'WRITEBACK_TOKEN_FILE',
  'WRITEBACK_CA_FILE',
  'WRITEBACK_CERT_FILE',
  'WRITEBACK_KEY_FILE',
];
