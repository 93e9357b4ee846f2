import { createServer, type Server, type ServerResponse } from 'node:http';

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

/** Nobody has reason to keep more open. */
const MAX_CONNECTIONS = 64;
const REQUEST_TIMEOUT_MS = 10_000;

/**
 * What a worker or an agent, which has no API, answers: `/healthz` as long as the process lives, and `/metrics`.
 * @throws the error of listen(2), e.g. EADDRINUSE
 */
export async function listenForScrapes(options: ListenerOptions): Promise<Server> {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, reply) => {
    answer(request.method ?? '', request.url ?? '', reply, options).catch(() => {
      if (!reply.headersSent)
        send(reply, 500, 'text/plain; charset=utf-8', 'The metrics could not be made.\n');
      else reply.destroy();
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, () => {
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
  { version, metrics }: ListenerOptions,
): Promise<void> {
  const path = url.split('?', 1)[0];
  if (path !== '/healthz' && path !== '/metrics') {
    return send(reply, 404, 'text/plain; charset=utf-8', 'There are /healthz and /metrics.\n');
  }
  if (method !== 'GET' && method !== 'HEAD') {
    reply.setHeader('allow', 'GET, HEAD');
    return send(reply, 405, 'text/plain; charset=utf-8', 'Only GET and HEAD.\n');
  }
  if (path === '/metrics') return send(reply, 200, metrics.contentType, await metrics.text());
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
