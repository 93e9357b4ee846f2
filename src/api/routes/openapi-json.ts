import { z } from 'zod';
import { operation } from '../deps.js';

/** GET /openapi.json */
export function openapiJson(document: () => unknown) {
  return operation({
    method: 'GET',
    url: '/openapi.json',
    access: 'public',
    schema: {
      operationId: 'openapi',
      tags: ['service'],
      summary: 'This document',
      description: 'The OpenAPI 3.1 description of this service, with its limits as configured.',
      response: { 200: z.record(z.string(), z.unknown()) },
      'x-docs': {
        responses: { 200: { description: 'The document.', example: { openapi: '3.1.0' } } },
        errors: [],
      },
    },
    async handler() {
      return document();
    },
  });
}
