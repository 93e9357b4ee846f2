import { isIP } from 'node:net';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { BrokerError } from '../model/errors.js';
import { LOCAL_PRINCIPAL, type Principal, seesJobsOf } from '../model/principal.js';
import { type Access, hasRole, type PrincipalRole } from '../model/words.js';
import type { JobStore } from '../store/types.js';
import type { RouteContext } from './deps.js';
import { mayFlush, mayTransfer } from './grants.js';

/** Who may call what. It holds for every route: one that does not say whom it is for is not registered. */

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
  }
  interface FastifyRequest {
    /** Who sends it. Not set on public routes. */
    principal: Principal;
  }
}

/** The pages of the documentation come from a plugin, which cannot say whom they are for. */
const PUBLIC_PAGES = /^\/docs(\/|$)/;
const OF_A_QUEUE = /^\/v1\/(caches|nodes)\/:name(\/|$)/;
const OF_A_JOB = /^\/v1\/jobs\/:id(\/|$)/;

/** Before any route is added. */
export function addAccessRules(
  app: FastifyInstance,
  { authenticate, answersAnyHost, store }: RouteContext,
): void {
  app.decorateRequest('principal', null as unknown as Principal);

  app.addHook('onRoute', (route) => {
    if (route.config?.access !== undefined) return;
    if (!PUBLIC_PAGES.test(route.url)) throw new Error(`the route ${route.url} does not say whom it is for`);
    route.config = { ...route.config, access: 'public' };
  });

  app.addHook('onRequest', async (request) => {
    const { access = 'admin' } = request.routeOptions.config;
    if (request.is404 || access === 'public') return;
    if (!authenticate && !answersAnyHost) refuseOtherHosts(request);
    request.principal = authenticate ? await authenticate(request.headers.authorization) : LOCAL_PRINCIPAL;
    await requireQuota(request.principal, store);
    requireRole(request.principal, access);
  });

  // What one may not flush or transfer, and a job of somebody else, is nothing at all: who may not see it learns
  // nothing of it, not even that it is there.
  app.addHook('preHandler', (request, _reply, done) => {
    const [, kind] = OF_A_QUEUE.exec(request.routeOptions.url ?? '') ?? [];
    const { name } = request.params as { name: string };
    if (kind === 'caches' && !seesCache(request.principal, name)) {
      throw new BrokerError('CACHE_NOT_FOUND', `There is no cache ${JSON.stringify(name)}.`);
    }
    if (kind === 'nodes' && !seesNode(request.principal, name)) {
      throw new BrokerError(
        'NODE_NOT_FOUND',
        `No agent of a node ${JSON.stringify(name)} was ever seen, and no job names it.`,
      );
    }
    done();
  });

  app.addHook('preHandler', ({ routeOptions, params, principal }, _reply, done) => {
    if (!OF_A_JOB.test(routeOptions.url ?? '') || hasRole(principal.role, 'operate')) return done();
    const { id } = params as { id: string };
    store.ownerOf(id).then((owner) => {
      if (seesJobsOf(principal, owner)) done();
      else done(new BrokerError('JOB_NOT_FOUND', `There is no job ${id}.`));
    }, done);
  });
}

export function seesCache(principal: Principal, cache: string): boolean {
  return hasRole(principal.role, 'operate') || mayFlush(principal, cache);
}

export function seesNode(principal: Principal, node: string): boolean {
  return hasRole(principal.role, 'operate') || mayTransfer(principal, node);
}

/**
 * A page of another site can have the name of its own host become our address (DNS rebinding), and is then no other site
 * to the browser. Where no credential is asked for that would be enough; but an address cannot be made another one.
 */
function refuseOtherHosts({ hostname }: FastifyRequest): void {
  const name = hostname.replace(/^\[|\]$/g, '').toLowerCase();
  if (isIP(name) !== 0 || name === 'localhost' || name.endsWith('.localhost')) return;
  throw new BrokerError(
    'CROSS_SITE',
    `Without a credential configured the service answers requests to its address or to localhost, not to the name ${JSON.stringify(hostname.slice(0, 255))}.`,
  );
}

/** @throws {BrokerError} RATE_LIMITED */
async function requireQuota({ name, quotas }: Principal, store: JobStore): Promise<void> {
  const { requestsPerMinute } = quotas;
  if (requestsPerMinute === null) return;
  const waitSeconds = Math.ceil((await store.countRequest(name, requestsPerMinute)) / 1000);
  if (waitSeconds === 0) return;
  throw new BrokerError(
    'RATE_LIMITED',
    `The principal ${JSON.stringify(name)} may send ${requestsPerMinute} requests a minute. Try again in ${waitSeconds} s.`,
    { retryAfterSeconds: waitSeconds },
  );
}

/** @throws {BrokerError} ROLE_TOO_LOW */
function requireRole({ name, role }: Principal, needed: PrincipalRole): void {
  if (hasRole(role, needed)) return;
  throw new BrokerError(
    'ROLE_TOO_LOW',
    `This needs the role ${needed}; the principal ${JSON.stringify(name)} has the role ${role}.`,
  );
}
