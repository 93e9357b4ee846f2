import { pino } from 'pino';
import { type ApiLimits, adHocSchema, apiLimitsSchema } from '../model/limits.js';
import { webhooksConfigSchema } from '../model/webhook.js';
import type { JobStore } from '../store/types.js';
import { buildApp } from './app.js';
import { Targets } from './target.js';

export interface OpenApiDocument {
  document: Record<string, unknown>;
  yaml: string;
}

/**
 * The OpenAPI document of a service of this version, without one running. Limits appear in it, so it is the
 * document of these limits; default: those of an empty configuration.
 */
export async function openApiDocument(options: {
  version: string;
  limits?: ApiLimits;
}): Promise<OpenApiDocument> {
  const app = buildApp({
    // Routes are only described here; none is ever called.
    store: {} as JobStore,
    limits: options.limits ?? apiLimitsSchema.parse({}),
    targets: new Targets([], adHocSchema.parse({})),
    webhooks: () => webhooksConfigSchema.parse({}),
    log: pino({ level: 'silent' }),
    version: options.version,
    shuttingDown: () => false,
  });
  try {
    await app.ready();
    const document = app.swagger() as unknown as Record<string, unknown>;
    return { document, yaml: app.swagger({ yaml: true }) };
  } finally {
    await app.close();
  }
}
