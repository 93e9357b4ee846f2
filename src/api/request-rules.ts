import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { BrokerError } from '../model/errors.js';
import type { Principal } from '../model/principal.js';
import { whenAnswered } from './answers.js';
import type { RouteContext } from './deps.js';
import { loggedUrl } from './logged-url.js';
import { endRequestSpan } from './request-spans.js';

/** What holds for every request, whatever its route. Hooks that wait for nothing are not async: they are all run each time. */

const PROBES = new Set(['/healthz', '/readyz', '/metrics']);
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);
const API_HEADERS = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'x-frame-options': 'DENY',
};
/** Answers of the API are data; a browser that shows one as a page must not run anything in it. */
const DATA_POLICY = "default-src 'none'; frame-ancestors 'none'";

export function addRequestRules(app: FastifyInstance, { shuttingDown, metrics }: RouteContext): void {
  app.addHook('onRequest', (request, reply, done) => {
    setHeaders(request, reply);
    if (shuttingDown()) reply.header('connection', 'close');
    if (!SAFE_METHODS.has(request.method)) refuseOtherSites(request);
    done();
  });
  app.addHook('onSend', (_request, reply, _payload, done) => {
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-cache');
    done();
  });
  whenAnswered(app, (request, reply, status, whole) => {
    endRequestSpan(request, status);
    const { method, url } = request;
    const durationMs = Math.round(reply.elapsedTime);
    metrics?.requestAnswered(method, request.routeOptions.url ?? '', status, reply.elapsedTime);
    // What asks every few seconds for ever would bury everything else.
    const level = PROBES.has(url) && status < 500 ? 'debug' : 'info';
    // Not set where nobody is asked who it is.
    const principal = (request.principal as Principal | null)?.name;
    const shown = { method, url: loggedUrl(url), status, durationMs, principal };
    request.log[level](shown, whole ? 'request answered' : 'answer broken off');
  });

  app.setNotFoundHandler((request) => {
    const path = request.url.split('?', 1)[0];
    throw new BrokerError('NOT_FOUND', `There is nothing at ${path}. The API is described at /docs.`);
  });
}

/** For every answer; a request that never gets as far as the hooks needs them as well. */
export function setHeaders(request: FastifyRequest, reply: FastifyReply): void {
  reply
    .header('x-request-id', request.id)
    .headers(API_HEADERS)
    .header('content-security-policy', DATA_POLICY);
}

/** At the paths of the routes that are added after this, every other method answers 405 with `Allow`. */
export function refuseOtherMethods(app: FastifyInstance): void {
  const methodsOf = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    const methods = methodsOf.get(url) ?? new Set();
    for (const one of [method].flat()) methods.add(one);
    methodsOf.set(url, methods);
  });
  void app.after(() => {
    for (const [url, methods] of [...methodsOf]) {
      const allowed = [...methods].sort().join(', ');
      app.route({
        url,
        method: app.supportedMethods.filter((method) => !methods.has(method)),
        schema: { hide: true },
        config: { access: 'public' },
        // Before the body is looked at: its type does not matter.
        onRequest: async (request, reply) => {
          reply.header('allow', allowed);
          const path = request.url.split('?', 1)[0];
          throw new BrokerError(
            'METHOD_NOT_ALLOWED',
            `${request.method} is not allowed at ${path}. Allowed: ${allowed}.`,
          );
        },
        handler: async () => undefined,
      });
    }
  });
}

/** For what would make new work. @throws {BrokerError} SHUTTING_DOWN */
export function refuseWhileShuttingDown({ shuttingDown }: RouteContext): void {
  if (!shuttingDown()) return;
  throw new BrokerError('SHUTTING_DOWN', 'The service is shutting down and takes no new work. Try again.', {
    retryAfterSeconds: 5,
  });
}

/**
 * A page of another site can make a browser send a form to this service, which has no login that would stop it.
 * Browsers say where a request comes from (Fetch Metadata); over plain HTTP to another host only by `Origin`.
 */
function refuseOtherSites(request: FastifyRequest): void {
  const site = request.headers['sec-fetch-site'];
  const { origin, host } = request.headers;
  const ours =
    site === undefined
      ? origin === undefined || (URL.canParse(origin) && new URL(origin).host === host)
      : site === 'same-origin' || site === 'none';
  if (!ours) {
    throw new BrokerError(
      'CROSS_SITE',
      'A page of another site sent this request. Use a program, or the page at /docs of this service.',
    );
  }
}
