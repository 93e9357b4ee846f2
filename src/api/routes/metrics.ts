import type { RouteOptions } from 'fastify';
import type { Access } from '../../model/words.js';
import type { ApiMetrics } from '../deps.js';

/** GET /metrics: what Prometheus scrapes, in its text format. No part of the API: the OpenAPI document leaves it out. */
export function showMetrics(metrics: ApiMetrics, access: Access): RouteOptions {
  return {
    method: 'GET',
    url: '/metrics',
    schema: { hide: true },
    config: { access },
    handler: async (_request, reply) =>
      reply
        .header('content-type', metrics.contentType)
        .header('cache-control', 'no-store')
        .send(await metrics.text()),
  };
}
