import { rm } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { connect, type ListenOptions } from 'node:net';

export interface MetricsSource {
  readonly contentType: string;
  text(): Promise<string>;
}

export interface ListenerOptions {
  host: string;
  port: number;
  version: string;
  metrics: MetricsSource;
}

export interface HealthOptions {
  /** Absolute path of a unix socket. */
  path: string;
  version: string;
}

/** Nobody has reason to keep more open. */
const MAX_CONNECTIONS = 64;
const REQUEST_TIMEOUT_MS = 10_000;

/**
 * What a worker or an agent, which has no API, answers: `/healthz` as long as the process lives, and `/metrics`.
 * @throws the error of listen(2), e.g. EADDRINUSE
 */
export function listenForScrapes({ host, port, version, metrics }: ListenerOptions): Promise<Server> {
  return listen({ host, port }, version, metrics);
}

/**
 * `/healthz` on a unix socket, in every role: who checks the health of a process from its own host or container, and as
 * its own user, needs to know neither its port nor the certificates and credentials that others are asked for. A socket
 * that a killed process left is taken over.
 * @throws the error of listen(2); EADDRINUSE: somebody listens there
 */
export async function listenForHealth({ path, version }: HealthOptions): Promise<Server> {
  try {
    return await listen({ path }, version, null);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || !(await isLeftOver(path))) throw error;
    await rm(path);
    return listen({ path }, version, null);
  }
}

/** Nobody listens: the connection is refused. Anything else may be in use. */
async function isLeftOver(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
}

async function listen(at: ListenOptions, version: string, metrics: MetricsSource | null): Promise<Server> {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, reply) => {
    answer(request.method ?? '', request.url ?? '', reply, version, metrics).catch(() => {
      if (!reply.headersSent)
        send(reply, 500, 'text/plain; charset=utf-8', 'The metrics could not be made.\n');
      else reply.destroy();
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(at, () => {
      server.off('error', reject);
      resolve();
    });
  });
  return server;
}

async function answer(
  method: string,
  url: string,
  reply: ServerResponse,
  version: string,
  metrics: MetricsSource | null,
): Promise<void> {
  const path = url.split('?', 1)[0];
  const isMetrics = metrics !== null && path === '/metrics';
  if (path !== '/healthz' && !isMetrics) {
    const what = metrics === null ? 'There is /healthz.\n' : 'There are /healthz and /metrics.\n';
    return send(reply, 404, 'text/plain; charset=utf-8', what);
  }
  if (method !== 'GET' && method !== 'HEAD') {
    reply.setHeader('allow', 'GET, HEAD');
    return send(reply, 405, 'text/plain; charset=utf-8', 'Only GET and HEAD.\n');
  }
  if (isMetrics) return send(reply, 200, metrics.contentType, await metrics.text());
  const health = { status: 'ok', version, uptimeSeconds: process.uptime() };
  return send(reply, 200, 'application/json; charset=utf-8', JSON.stringify(health));
}

function send(reply: ServerResponse, status: number, type: string, body: string): void {
  reply
    .writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    })
    .end(body);
}
