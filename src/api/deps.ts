import type { TlsOptions } from 'node:tls';
import type { FastifyReply, FastifyRequest, HTTPMethods, RouteOptions } from 'fastify';
import type { Logger } from 'pino';
import type { z } from 'zod';
import type { ApiLimits } from '../model/limits.js';
import type { WebhooksConfig } from '../model/webhook.js';
import type { Access } from '../model/words.js';
import type { JobStore } from '../store/types.js';
import type { Admissions, Authenticate } from './admissions.js';
import type { DashboardFile } from './dashboard.js';
import type { JobEvents } from './job-events.js';
import type { JobFeed } from './job-feed.js';
import type { OperationDocs } from './openapi.js';
import type { Targets } from './target.js';
import type { Waiters } from './waiters.js';

export interface ApiDeps {
  store: JobStore;
  limits: ApiLimits;
  /** The caches that requests may name. */
  targets: Targets;
  /** As configured now. */
  webhooks: () => WebhooksConfig;
  log: Logger;
  /** Of the product; shown by /healthz and in the OpenAPI document. */
  version: string;
  /** From the moment it says true, new work is refused; long-polls are released when the app is closed. */
  shuttingDown: () => boolean;
  /** Served at `/`; absent: there is none. */
  dashboard?: readonly DashboardFile[];
  /** Shown at /metrics; absent: there is none. */
  metrics?: ApiMetrics;
  /** True: /metrics wants no credential. */
  publicMetrics?: boolean;
  /** True: a collector takes spans. */
  traced?: boolean;
  /** Absent: plain HTTP. */
  tls?: TlsOptions;
  /** True: also without a credential configured it is all the same by what name the service was called. */
  answersAnyHost?: boolean;
  /** Absent: no credential is configured, and every caller is the local principal. */
  authenticate?: Authenticate;
}

export interface ApiMetrics {
  /** Of the text. */
  readonly contentType: string;
  text(): Promise<string>;
  /** `route` is the pattern of the path; what has none is ''. */
  requestAnswered(method: string, route: string, status: number, durationMs: number): void;
}

/** What routes are made from. */
export interface RouteContext extends ApiDeps {
  waiters: Waiters;
  admissions: Admissions;
  feed: JobFeed;
  jobEvents: JobEvents;
  targets: Targets;
}

/** An operation: method, url, what goes in and out, its documentation, and the code. */
interface Operation<Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType> {
  method: HTTPMethods;
  url: string;
  /** Whom it is for. Below `/v1/jobs/:id` only those who see that job get as far as the handler. */
  access: Access;
  schema: {
    operationId: string;
    tags: string[];
    summary: string;
    description: string;
    params?: Params;
    querystring?: Query;
    body?: Body;
    response: Record<number, z.ZodType>;
    'x-docs': OperationDocs;
  };
  /** The handler reads the body itself, as it arrives. */
  streamsBody?: boolean;
  /** False: no HEAD beside GET, because the whole answer would have to be made for it. */
  exposeHeadRoute?: boolean;
  handler(
    request: FastifyRequest<{ Params: z.output<Params>; Querystring: z.output<Query>; Body: z.output<Body> }>,
    reply: FastifyReply,
  ): unknown;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    streamsBody?: boolean;
  }
}

/** Gives the handler of an operation the types of its schemas. */
export function operation<
  Params extends z.ZodType = z.ZodType<unknown>,
  Query extends z.ZodType = z.ZodType<unknown>,
  Body extends z.ZodType = z.ZodType<unknown>,
>({ streamsBody = false, access, ...route }: Operation<Params, Query, Body>): RouteOptions {
  // The cast is what the type provider would do: fastify validates by the very schemas the types come from.
  const schema = { ...route.schema, 'x-access': access };
  return { ...route, schema, config: { streamsBody, access } } as unknown as RouteOptions;
}
