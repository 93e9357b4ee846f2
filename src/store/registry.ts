import type { Commands } from './commands.js';
import type { NewJob } from './types.js';
import type { QueueEntry, QueueOwner } from './work.js';

/** What the registry of queues keeps of the one that a job goes into. */
export function registryEntry(job: NewJob): QueueOwner {
  if (job.kind === 'transfer') return { kind: 'node', node: job.node };
  return { kind: 'cache', cache: job.cache, adHocCache: job.adHocCache };
}

/** The registry of queues: every cache and node that has or had jobs, by the name of the queue. */
export async function readRegistry(commands: Pick<Commands, 'redis' | 'keys'>): Promise<QueueEntry[]> {
  const stored = await commands.redis.hgetall(commands.keys.queues);
  return Object.entries(stored)
    .map(([queue, json]) => ({ queue, ...(JSON.parse(json) as QueueOwner) }))
    .sort((a, b) => (a.queue < b.queue ? -1 : 1));
}
