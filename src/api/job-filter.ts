import { BrokerError } from '../model/errors.js';
import type { Job } from '../model/job.js';
import type { EventsQuery } from '../model/job-queries.js';
import type { Principal } from '../model/principal.js';
import { hasRole } from '../model/words.js';
import type { JobFilter } from '../store/types.js';
import type { Wish } from './job-feed.js';

/** Which jobs a request means, as far as that never changes for a job. */

/**
 * Without the role `operate` only one's own jobs are meant.
 * @throws {BrokerError} ROLE_TOO_LOW, for those of another principal
 */
export function jobFilter(caller: Principal, query: EventsQuery): JobFilter {
  const { kind, cache, node, label } = query;
  const principal = visibleTo(caller, query.principal);
  return {
    ...(principal !== undefined && { principal }),
    ...(kind && { kind }),
    ...(cache !== undefined && { cache }),
    ...(node !== undefined && { node }),
    ...(label && { labels: Object.fromEntries(label.map(keyAndValue)) }),
  };
}

/** To hear of the jobs of a filter. */
export function wishOf({ principal, kind, cache, node, labels = {} }: JobFilter): Wish {
  const wanted = Object.entries(labels);
  return {
    key: JSON.stringify([principal, kind, cache, node, wanted.sort()]),
    wants: (job: Job) =>
      (principal === undefined || job.principal === principal) &&
      (kind === undefined || job.kind === kind) &&
      (cache === undefined || job.cache === cache) &&
      (node === undefined || job.node === node) &&
      wanted.every(([name, value]) => Object.hasOwn(job.labels, name) && job.labels[name] === value),
  };
}

/** Whose jobs the caller may see of those it asks for. Undefined: everybody's. */
function visibleTo(caller: Principal, asked: string | undefined): string | undefined {
  if (hasRole(caller.role, 'operate')) return asked;
  if (asked === undefined || asked === caller.name) return caller.name;
  throw new BrokerError(
    'ROLE_TOO_LOW',
    `Jobs of other principals are for the role operate; the principal ${JSON.stringify(caller.name)} has the role ${caller.role}.`,
  );
}

function keyAndValue(label: string): [string, string] {
  const equals = label.indexOf('=');
  return [label.slice(0, equals), label.slice(equals + 1)];
}
