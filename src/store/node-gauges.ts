import type { Commands } from './commands.js';
import { addCounters, type Counters, noCounters } from './counters.js';
import { timeOfId } from './job-id.js';
import { readRegistry } from './registry.js';

/** What can be measured about one node, or about all that no agent was ever seen of together. */
export interface NodeGauges extends Counters {
  /** Null: all nodes that only requests have named, together. */
  node: string | null;
  filesPending: number;
  filesActive: number;
  /** What open jobs are known to hold and is not durable yet. */
  bytesPending: number;
  jobsActive: number;
  /** How long ago the job was made whose chunk is next in the queue; 0: nothing waits. */
  nextJobAgeMs: number;
  connected: boolean;
  paused: boolean;
  /** Bytes of the files that ever succeeded. */
  bytesDone: number;
}

/** Nodes read in one round trip. */
const NODES_PER_READ = 200;

/** One small read per node. Requests may name nodes at will: what nobody ever saw is measured as one. */
export async function readNodeGauges({ redis, keys }: Commands, now: number): Promise<NodeGauges[]> {
  const owners = (await readRegistry({ redis, keys })).flatMap((owner) =>
    owner.kind === 'node' ? [owner] : [],
  );
  const gauges: NodeGauges[] = [];
  const unseen = noGauges(null);
  for (let i = 0; i < owners.length; i += NODES_PER_READ) {
    const group = owners.slice(i, i + NODES_PER_READ);
    const pipeline = redis.pipeline();
    for (const { queue } of group) {
      pipeline.hgetall(keys.cache(queue)).zrange(keys.bullPrioritized(queue), '0', '0');
    }
    const replies = ((await pipeline.exec()) ?? []).map(([error, reply]) => {
      if (error) throw error;
      return reply;
    });
    group.forEach(({ node }, at) => {
      const row = replies[2 * at] as Record<string, string>;
      const own = row.servedAt === undefined ? unseen : noGauges(node);
      add(own, row, replies[2 * at + 1] as string[], now);
      if (own !== unseen) gauges.push(own);
    });
  }
  return [...gauges, unseen];
}

function add(gauges: NodeGauges, row: Record<string, string>, next: readonly string[], now: number): void {
  gauges.filesPending += Number(row.filesQueued ?? 0);
  gauges.filesActive += Number(row.filesActive ?? 0);
  gauges.bytesPending += Math.max(0, Number(row.bytesQueued ?? 0));
  gauges.jobsActive += Number(row.jobsActive ?? 0);
  const madeAt = timeOfId(next[0] ?? '');
  if (madeAt !== null) gauges.nextJobAgeMs = Math.max(gauges.nextJobAgeMs, now - madeAt);
  gauges.connected ||= row.served === '1';
  gauges.paused ||= row.paused === '1';
  gauges.bytesDone += Number(row.bytesDone ?? 0);
  addCounters(gauges, row);
}

function noGauges(node: string | null): NodeGauges {
  return {
    node,
    filesPending: 0,
    filesActive: 0,
    bytesPending: 0,
    jobsActive: 0,
    nextJobAgeMs: 0,
    connected: false,
    paused: false,
    bytesDone: 0,
    ...noCounters(),
  };
}
