import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { FastifyRequest, RouteOptions } from 'fastify';
import { matchesEntityTag } from './conditional.js';

/** The dashboard at `/`: a few files that were built beforehand, held in memory. They are the same for everybody. */

/** Only what this origin serves is loaded, run or asked; nothing stands in the page itself, and no text becomes HTML. */
const DASHBOARD_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

export interface DashboardFile {
  url: string;
  type: string;
  body: Buffer;
  gzipped: Buffer;
  etag: string;
  /** Its name changes with its content. */
  immutable: boolean;
}

/** What `npm run build` made: `index.html`, and below `assets` what it loads. @throws {Error} ENOENT: it was not built */
export function readDashboard(folder: string): DashboardFile[] {
  const assets = readdirSync(join(folder, 'assets')).filter((name) => extname(name) in TYPES);
  return [
    dashboardFile('/', join(folder, 'index.html'), false),
    ...assets.map((name) => dashboardFile(`/assets/${name}`, join(folder, 'assets', name), true)),
  ];
}

function dashboardFile(url: string, path: string, immutable: boolean): DashboardFile {
  const body = readFileSync(path);
  const digest = createHash('sha256').update(body).digest('base64url').slice(0, 22);
  return {
    url,
    type: TYPES[extname(path)] as string,
    body,
    gzipped: gzipSync(body, { level: 9 }),
    etag: `W/"${digest}"`,
    immutable,
  };
}

/** GET of one file. Weak tags: it has the same one with and without compression. */
export function serveDashboardFile(file: DashboardFile): RouteOptions {
  const { url, type, body, gzipped, etag, immutable } = file;
  return {
    method: 'GET',
    url,
    schema: { hide: true },
    config: { access: 'public' },
    async handler(request, reply) {
      reply
        .header('etag', etag)
        .header('vary', 'Accept-Encoding')
        .header('cache-control', immutable ? 'public, max-age=31536000, immutable' : 'no-cache')
        .header('content-security-policy', DASHBOARD_POLICY)
        .header('cross-origin-opener-policy', 'same-origin');
      if (matchesEntityTag(request.headers['if-none-match'], etag)) return reply.code(304).send();
      reply.type(type);
      if (!takesGzip(request)) return reply.send(body);
      return reply.header('content-encoding', 'gzip').send(gzipped);
    },
  };
}

function takesGzip(request: FastifyRequest): boolean {
  return /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?(?:,|$|\s))/i.test(String(request.headers['accept-encoding'] ?? ''));
}
