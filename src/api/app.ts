import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import fastifySwagger from '@fastify/swagger';
import fastifySwaggerUi from '@fastify/swagger-ui';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyInstance,
  type FastifyRequest,
  LogController,
} from 'fastify';
import { validatorCompiler } from 'fastify-type-provider-zod';
import { addAccessRules } from './access-rules.js';
import { Admissions } from './admissions.js';
import { type BodyLimits, readJson } from './body.js';
import { Connections } from './connections.js';
import { serveDashboardFile } from './dashboard.js';
import type { ApiDeps, RouteContext } from './deps.js';
import { JobEvents } from './job-events.js';
import { JobFeed } from './job-feed.js';
import { openApiOptions } from './openapi.js';
import { refuseConnection, sendProblem } from './problem.js';
import { addRequestRules, refuseOtherMethods, setHeaders } from './request-rules.js';
import { addRequestSpans } from './request-spans.js';
import { cancelJob } from './routes/cancel-job.js';
import { listDeliveries, resendDelivery } from './routes/deliveries.js';
import { listenToJobs } from './routes/events.js';
import { getCache } from './routes/get-cache.js';
import { getCacheHistory } from './routes/get-cache-history.js';
import { getJob } from './routes/get-job.js';
import { getNode } from './routes/get-node.js';
import { healthz } from './routes/healthz.js';
import { listenToJob } from './routes/job-events.js';
import { reportJob } from './routes/job-report.js';
import { listCaches } from './routes/list-caches.js';
import { listErrors } from './routes/list-errors.js';
import { listFiles } from './routes/list-files.js';
import { listJobs } from './routes/list-jobs.js';
import { listNodes } from './routes/list-nodes.js';
import { showMe } from './routes/me.js';
import { showMetrics } from './routes/metrics.js';
import { openapiJson } from './routes/openapi-json.js';
import { patchCache } from './routes/patch-cache.js';
import { patchJob } from './routes/patch-job.js';
import { pauseCache } from './routes/pause-cache.js';
import { pauseNode } from './routes/pause-node.js';
import { postFlushes } from './routes/post-flushes.js';
import { postTransfers } from './routes/post-transfers.js';
import { readyz } from './routes/readyz.js';
import { resumeCache } from './routes/resume-cache.js';
import { resumeNode } from './routes/resume-node.js';
import { retryJob } from './routes/retry-job.js';
import { writeOnce } from './serializer.js';
import { Waiters } from './waiters.js';

/** JSON bodies of everything but POST /v1/flushes and /v1/transfers. */
const SMALL_BODY_BYTES = 64 * 1024;
const REQUEST_ID = /^[A-Za-z0-9._~:+/=@-]{1,128}$/;
/** Parameters that may be given more than once; they are always lists. */
const REPEATABLE = new Set(['label', 'state', 'webhookEvents']);

/** "Try it out" calls this origin and nothing else; the page loads nothing from elsewhere. */
const DOCS_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** The HTTP API as a fastify app that does not listen yet. Closing it releases long-polls; the store is not closed. */
export function buildApp(deps: ApiDeps): FastifyInstance {
  const { limits } = deps;
  const context: RouteContext = {
    ...deps,
    waiters: new Waiters(limits.waiters),
    admissions: new Admissions(deps.authenticate, deps.log),
    feed: new JobFeed(deps.store, deps.log),
    jobEvents: new JobEvents(deps.store),
  };
  const options: FastifyHttpOptions<Server> = {
    loggerInstance: deps.log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: requestId,
    // Node ends what is slower than our own clocks allow, e.g. a request whose header never ends.
    requestTimeout: (limits.uploadSeconds + 60) * 1000,
    return503OnClosing: false,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 255, querystringParser: parseQuery },
    frameworkErrors: (error, request, reply) => {
      setHeaders(request, reply);
      return sendProblem(error, request, reply);
    },
    clientErrorHandler: (error, socket) => refuseConnection(error, socket, randomUUID()),
  };
  // Over TLS the app is the same: its server has another class, which nothing here looks at.
  const app = (
    deps.tls ? Fastify({ ...options, https: deps.tls } as typeof options) : Fastify(options)
  ) as FastifyInstance;

  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(writeOnce);
  app.setErrorHandler(sendProblem);
  readBodies(app, {
    maxBytes: SMALL_BODY_BYTES,
    tooLargeHint: 'Nothing here needs more.',
    idleMs: limits.uploadIdleSeconds * 1000,
    totalMs: limits.uploadSeconds * 1000,
  });
  addRequestSpans(app, deps.traced === true);
  addRequestRules(app, context);
  addAccessRules(app, context);

  app.register(fastifySwagger, openApiOptions(deps.version));
  app.register(fastifySwaggerUi, {
    routePrefix: '/docs',
    staticCSP: DOCS_POLICY,
    uiConfig: {
      tryItOutEnabled: true,
      displayRequestDuration: true,
      deepLinking: true,
      persistAuthorization: false,
    },
    theme: { title: 'writeback-broker' },
  });
  app.register((routes, _options, done) => {
    refuseOtherMethods(routes);
    routes.route(postFlushes(context));
    routes.route(postTransfers(context));
    routes.route(listJobs(context));
    routes.route(getJob(context));
    routes.route(patchJob(context));
    routes.route(listFiles(context));
    routes.route(listErrors(context));
    routes.route(listenToJob(context));
    routes.route(listenToJobs(context));
    routes.route(reportJob(context));
    routes.route(listDeliveries(context));
    routes.route(resendDelivery(context));
    routes.route(cancelJob(context));
    routes.route(retryJob(context));
    routes.route(listCaches(context));
    routes.route(getCache(context));
    routes.route(getCacheHistory(context));
    routes.route(patchCache(context));
    routes.route(pauseCache(context));
    routes.route(resumeCache(context));
    routes.route(listNodes(context));
    routes.route(getNode(context));
    routes.route(pauseNode(context));
    routes.route(resumeNode(context));
    routes.route(showMe());
    routes.route(healthz(context));
    routes.route(readyz(context));
    routes.route(openapiJson(() => app.swagger()));
    if (deps.metrics)
      routes.route(showMetrics(deps.metrics, deps.publicMetrics === true ? 'public' : 'submit'));
    for (const file of deps.dashboard ?? []) routes.route(serveDashboardFile(file));
    done();
  });

  const connections = new Connections(app.server);
  app.addHook('preClose', async () => {
    context.waiters.releaseAll();
    connections.endWhenIdle();
  });
  return app;
}

function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

function parseQuery(text: string): Record<string, string | string[]> {
  const query: Record<string, string | string[]> = Object.create(null);
  const parameters = new URLSearchParams(text);
  for (const name of new Set(parameters.keys())) {
    const values = parameters.getAll(name);
    query[name] = values.length > 1 || REPEATABLE.has(name) ? values : (values[0] as string);
  }
  return query;
}

/** Bodies are read by our own clocks and limits; a route that streams gets its body unread. */
function readBodies(app: FastifyInstance, limits: BodyLimits): void {
  app.removeAllContentTypeParsers();
  const unread = async () => undefined;
  app.addContentTypeParser('application/json', async (request: FastifyRequest) => {
    return isUnread(request) ? undefined : readJson(request.raw, limits);
  });
  app.addContentTypeParser(['text/plain', 'application/x-ndjson'], unread);
}

function isUnread(request: FastifyRequest): boolean {
  return request.is404 || request.routeOptions.config.streamsBody === true;
}
