import type { z } from 'zod';
import type { ApiErrorCode } from '../model/errors.js';
import { cacheSchema } from '../model/job.js';
import { nodeSchema } from '../model/node.js';
import { cacheParamsSchema, nodeParamsSchema, pauseRequestSchema } from '../model/target-requests.js';
import { operation } from './deps.js';
import { CACHE_EXAMPLE, NODE_EXAMPLE } from './examples.js';
import { JSON_BODY_ERRORS } from './problem.js';

/** What can be paused, and how it is told of. */
interface Pausable {
  readonly noun: string;
  readonly params: z.ZodType<{ name: string }>;
  readonly shown: z.ZodType;
  readonly example: object;
  readonly notFound: ApiErrorCode;
}

export const CACHE: Pausable = {
  noun: 'cache',
  params: cacheParamsSchema,
  shown: cacheSchema,
  example: CACHE_EXAMPLE,
  notFound: 'CACHE_NOT_FOUND',
};

export const NODE: Pausable = {
  noun: 'node',
  params: nodeParamsSchema,
  shown: nodeSchema,
  example: NODE_EXAMPLE,
  notFound: 'NODE_NOT_FOUND',
};

/** POST …/{name}/pause. `reason` is an example of one. */
export function pauseOperation(
  { noun, params, shown, example, notFound }: Pausable,
  given: { description: string; reason: string; pause: (name: string, reason: string) => Promise<unknown> },
) {
  const { description, reason, pause } = given;
  return operation({
    method: 'POST',
    url: `/v1/${noun}s/:name/pause`,
    access: 'operate',
    schema: {
      operationId: `pause${capitalized(noun)}`,
      tags: [`${noun}s`],
      summary: `Pause a ${noun}`,
      description: `${description} Jobs are still accepted and show the reason. Deadlines of jobs go on. Pausing a paused ${noun} changes the reason.`,
      params,
      body: pauseRequestSchema,
      response: { 200: shown },
      'x-docs': {
        requestBody: {
          required: true,
          description: 'Why.',
          content: {
            'application/json': {
              schema: pauseRequestSchema,
              examples: { upgrade: { summary: 'A planned interruption', value: { reason } } },
            },
          },
        },
        responses: {
          200: {
            description: `The ${noun}, paused.`,
            example: { ...example, paused: true, pausedReason: reason },
          },
        },
        errors: [...JSON_BODY_ERRORS, notFound, 'STORE_UNAVAILABLE'],
      },
    },
    handler: ({ params: { name }, body }) => pause(name, body.reason),
  });
}

/** POST …/{name}/resume */
export function resumeOperation(
  { noun, params, shown, example, notFound }: Pausable,
  resume: (name: string) => Promise<unknown>,
) {
  return operation({
    method: 'POST',
    url: `/v1/${noun}s/:name/resume`,
    access: 'operate',
    schema: {
      operationId: `resume${capitalized(noun)}`,
      tags: [`${noun}s`],
      summary: `Resume a ${noun}`,
      description: 'Ends the pause. Idempotent.',
      params,
      response: { 200: shown },
      'x-docs': {
        responses: { 200: { description: `The ${noun}, not paused.`, example } },
        errors: ['MALFORMED', 'CROSS_SITE', 'VALIDATION', notFound, 'STORE_UNAVAILABLE'],
      },
    },
    handler: ({ params: { name } }) => resume(name),
  });
}

function capitalized(noun: string): string {
  return noun.charAt(0).toUpperCase() + noun.slice(1);
}
