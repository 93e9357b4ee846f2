import { parseDocument } from 'yaml';
import { z } from 'zod';
import { accessConfigSchema } from './model/access.js';
import { cacheConfigSchema } from './model/cache.js';
import { adHocSchema, apiLimitsSchema } from './model/limits.js';
import { agentConfigSchema } from './model/node.js';
import { webhooksConfigSchema } from './model/webhook.js';

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

type Kind = 'text' | 'number' | 'boolean' | 'list';

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
} as const satisfies Record<string, { key: string; kind: Kind }>;

/** Options of `serve` that override both. */
export const OPTIONS = {
  host: 'http.host',
  port: 'http.port',
  'data-dir': 'dataDir',
  'redis-url': 'redis.url',
  node: 'agent.node',
} as const;

/** Variables of the same family that are no keys of the file: its place, and what the client commands read. */
const OTHER_VARIABLES = [
  'WRITEBACK_CONFIG',
  'WRITEBACK_URL',
  'WRITEBACK_TOKEN',
  'WRITEBACK_TOKEN_FILE',
  'WRITEBACK_CA_FILE',
];

/** Says, one fault a line, which keys or variables are wrong and what they should be. */
export class ConfigError extends Error {
  constructor(problems: readonly string[]) {
    super(`the configuration is not valid:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
  }
}

export interface ConfigSource {
  /** Content of the configuration file; absent or empty: defaults. */
  yamlText?: string | undefined;
  env: Readonly<Record<string, string | undefined>>;
  /** Options of the command line that were given, e.g. `{ port: 0 }`: these win over everything. */
  options?: Readonly<Partial<Record<keyof typeof OPTIONS, unknown>>>;
}

/** @throws {ConfigError} */
export function loadConfig({ yamlText, env, options = {} }: ConfigSource): Config {
  const tree = parseYaml(yamlText ?? '');
  const origin = new Map<string, string>();
  const problems: string[] = [];
  for (const [name, { key, kind }] of Object.entries(ENVIRONMENT)) {
    const text = env[name];
    if (text === undefined || text === '') continue;
    const value = parseVariable(text, kind);
    if (value === undefined) problems.push(`${name}: expected a ${kind}, got "${shown(text)}"`);
    else setKey(tree, key, value);
    origin.set(key, name);
  }
  for (const [name, key] of Object.entries(OPTIONS)) {
    const value = options[name as keyof typeof OPTIONS];
    if (value === undefined) continue;
    setKey(tree, key, value);
    origin.set(key, `option --${name}`);
  }
  if (tree.dataDir === undefined) tree.dataDir = defaultDataDir(env);

  const result = configSchema.safeParse(tree);
  if (!result.success) problems.push(...result.error.issues.flatMap((issue) => describeIssue(issue, origin)));
  if (problems.length > 0 || !result.success) throw new ConfigError(problems);
  return result.data;
}

/** A sentence for each WRITEBACK_ variable that means nothing, most probably a misspelt one. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = [...Object.keys(ENVIRONMENT), ...OTHER_VARIABLES];
  return Object.keys(env)
    .filter((name) => name.startsWith('WRITEBACK_') && !known.includes(name))
    .map((name) => `The environment variable ${name} is not known and ignored.${suggestion(name, known)}`);
}

function parseYaml(text: string): Record<string, unknown> {
  const document = parseDocument(text, { uniqueKeys: true });
  if (document.errors.length > 0)
    throw new ConfigError(document.errors.map(({ message }) => message.trimEnd()));
  const value: unknown = document.toJS({ maxAliasCount: 100 }) ?? {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(['the file must hold keys with values, e.g. "caches:"']);
  }
  return value as Record<string, unknown>;
}

function parseVariable(text: string, kind: Kind): unknown {
  switch (kind) {
    case 'text':
      return text;
    case 'number': {
      const value = Number(text);
      return Number.isFinite(value) ? value : undefined;
    }
    case 'boolean':
      return { true: true, '1': true, yes: true, false: false, '0': false, no: false }[text.toLowerCase()];
    case 'list':
      return text.split(/[,\s]+/).filter((item) => item !== '');
  }
}

function setKey(tree: Record<string, unknown>, key: string, value: unknown): void {
  const names = key.split('.');
  const last = names.pop() as string;
  let at = tree;
  for (const name of names) {
    // A section that is no object is left for the schema to complain about.
    if (at[name] === undefined || at[name] === null) at[name] = {};
    if (typeof at[name] !== 'object') return;
    at = at[name] as Record<string, unknown>;
  }
  at[last] = value;
}

function defaultDataDir(env: ConfigSource['env']): string {
  // systemd gives several folders separated by ":" when a unit asks for several.
  if (env.STATE_DIRECTORY) return env.STATE_DIRECTORY.split(':')[0] as string;
  if (env.XDG_DATA_HOME?.startsWith('/')) return `${env.XDG_DATA_HOME}/writeback`;
  if (env.HOME?.startsWith('/')) return `${env.HOME}/.local/share/writeback`;
  return '/var/lib/writeback';
}

function describeIssue(issue: z.core.$ZodIssue, origin: ReadonlyMap<string, string>): string[] {
  const key = keyText(issue.path);
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(configSchema, issue.path);
    return issue.keys.map(
      (name) => `${key === '' ? name : `${key}.${name}`}: there is no such key.${suggestion(name, known)}`,
    );
  }
  const source = origin.get(key);
  const where = source === undefined ? key : `${source} (${key})`;
  const message = issue.message.replace(/^Invalid (input|option): /, '').replace(/^Too (small|big): /, '');
  return [`${where}: ${message.charAt(0).toLowerCase()}${message.slice(1)}`];
}

function keyText(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
}

/** The keys that the schema has at a path: its way through defaults and arrays is the one zod itself took. */
function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  let at: z.core.$ZodType = schema;
  for (const part of path) {
    at = unwrap(at);
    if (at instanceof z.ZodObject) at = at.shape[String(part)] as z.core.$ZodType;
    else if (at instanceof z.ZodArray) at = at.element;
  }
  at = unwrap(at);
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  let at = schema;
  while (at instanceof z.ZodDefault || at instanceof z.ZodPrefault || at instanceof z.ZodNullable) {
    at = at.unwrap();
  }
  return at;
}

function suggestion(name: string, known: readonly string[]): string {
  const nearest = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  if (nearest === undefined) return '';
  if (nearest.distance <= Math.max(2, Math.floor(name.length / 3)))
    return ` Did you mean "${nearest.candidate}"?`;
  return ` Known: ${known.join(', ')}.`;
}

/** Levenshtein: insertions, deletions and replacements that make one word of the other. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

function shown(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
