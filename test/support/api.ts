import type { AddressInfo } from 'node:net';
import type { FastifyInstance, InjectOptions } from 'fastify';
import { pino } from 'pino';
import type { Authenticate } from '../../src/api/admissions.js';
import { buildApp } from '../../src/api/app.js';
import type { DashboardFile } from '../../src/api/dashboard.js';
import type { Problem } from '../../src/api/problem.js';
import { type Lookup, Targets } from '../../src/api/target.js';
import { type CacheConfig, cacheConfigSchema } from '../../src/model/cache.js';
import { type ApiErrorCode, BrokerError } from '../../src/model/errors.js';
import { adHocSchema, apiLimitsSchema } from '../../src/model/limits.js';
import type { Principal } from '../../src/model/principal.js';
import { webhooksConfigSchema } from '../../src/model/webhook.js';
import type { JobStore } from '../../src/store/types.js';
import { MemoryStore } from './memory-store.js';

export interface ApiTestOptions {
  store?: JobStore;
  limits?: Record<string, unknown>;
  caches?: readonly CacheConfig[];
  adHoc?: Record<string, unknown>;
  webhooks?: Record<string, unknown>;
  lookup?: Lookup;
  dashboard?: readonly DashboardFile[];
  authenticate?: Authenticate;
  /** By token: with these every request needs one. */
  principals?: Record<string, Principal>;
}

export interface ApiTest {
  app: FastifyInstance;
  /** Use when no other store was given. */
  memory: MemoryStore;
  /** Lines of the log, parsed. */
  log: Record<string, unknown>[];
  shutDown(): void;
  /** Listens on a free port of loopback: `http://127.0.0.1:port`. */
  listen(): Promise<string>;
  json(options: InjectOptions): Promise<{ status: number; headers: Record<string, unknown>; body: never }>;
  /** The request must be refused with this code; returns the problem. */
  refused(code: ApiErrorCode, options: InjectOptions): Promise<Problem>;
  close(): Promise<void>;
}

export const PROJECTS = cacheConfigSchema.parse({
  name: 'projects',
  addresses: ['10.1.0.11', '10.1.0.12'],
  dialect: 'hpc-cache',
  exports: ['/exp1', '/exp2/'],
  clientMount: '/mnt/projects',
});
export const SCRATCH = cacheConfigSchema.parse({
  name: 'scratch',
  addresses: ['10.2.0.1'],
  dialect: 'rfc1813',
});

function authenticateBy(principals: Record<string, Principal>): Authenticate {
  return async (authorization) => {
    const principal = principals[authorization?.replace(/^Bearer /, '') ?? ''];
    if (principal) return principal;
    throw new BrokerError('UNAUTHENTICATED', 'Who is that?');
  };
}

/** The app of the API, not listening, over a store in memory unless another is given. */
export function startApi(options: ApiTestOptions = {}): ApiTest {
  const memory = new MemoryStore();
  const log: Record<string, unknown>[] = [];
  let shuttingDown = false;
  const app = buildApp({
    store: options.store ?? memory,
    limits: apiLimitsSchema.parse(options.limits ?? {}),
    targets: new Targets(
      options.caches ?? [PROJECTS, SCRATCH],
      adHocSchema.parse(options.adHoc ?? {}),
      options.lookup,
    ),
    webhooks: () => webhooksConfigSchema.parse(options.webhooks ?? {}),
    log: pino({ level: 'info' }, { write: (line: string) => void log.push(JSON.parse(line)) }),
    version: '1.2.3',
    shuttingDown: () => shuttingDown,
    ...(options.principals && { authenticate: authenticateBy(options.principals) }),
    ...(options.dashboard && { dashboard: options.dashboard }),
    ...(options.authenticate && { authenticate: options.authenticate }),
  });

  async function json(request: InjectOptions) {
    const response = await app.inject(request);
    const body = response.body === '' ? null : JSON.parse(response.body);
    return { status: response.statusCode, headers: response.headers, body: body as never };
  }

  return {
    app,
    memory,
    log,
    json,
    shutDown: () => {
      shuttingDown = true;
    },
    async listen() {
      await app.listen({ host: '127.0.0.1', port: 0 });
      return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
    },
    async refused(code, request) {
      const { status, headers, body } = await json(request);
      const problem = body as Problem;
      if (problem?.code !== code) {
        throw new Error(`expected ${code}, got ${status} ${JSON.stringify(body)}`);
      }
      if (headers['content-type'] !== 'application/problem+json' || problem.status !== status) {
        throw new Error(
          `not a problem of status ${status}: ${headers['content-type']} ${JSON.stringify(body)}`,
        );
      }
      if (problem.requestId !== headers['x-request-id']) throw new Error('the request ids differ');
      return problem;
    },
    close: () => app.close(),
  };
}
