import { Counter, Gauge, type Registry } from 'prom-client';
import { JOB_STATES } from '../model/words.js';
import { FILE_ENDINGS, type FileEnding } from '../store/counters.js';
import type { NodeGauges } from '../store/node-gauges.js';
import { nodeLabel } from './names.js';

type Single = Exclude<keyof NodeGauges, 'node' | 'jobs' | 'files' | 'bytesDone'>;

const GAUGES: Record<Single, [name: string, help: string]> = {
  filesPending: ['files_pending', 'Files of accepted transfers that no agent has taken.'],
  filesActive: ['files_active', 'Files in the hands of the agent.'],
  bytesPending: [
    'bytes_pending',
    'Bytes that open transfers are known to hold and that are not durable yet.',
  ],
  jobsActive: ['jobs_active', 'Transfers that have not ended.'],
  nextJobAgeMs: ['queue_age_seconds', 'Age of the job whose chunk is next in the queue; 0: nothing waits.'],
  connected: ['agent_connected', '1 while an agent of the node is connected.'],
  paused: ['paused', '1 while the node is paused by an operator.'],
};

/** Names that a reader of transfers expects. */
const OUTCOMES: Record<FileEnding, string> = {
  flushed: 'copied',
  already_clean: 'identical',
  failed: 'failed',
  canceled: 'canceled',
  expired: 'expired',
};

/** What the store knows of each node, over all processes. Shown by the API role, so that nobody scrapes every node. */
export class NodeMetrics {
  readonly #gauges: Record<Single, Gauge<'node'>>;
  readonly #jobs: Counter<'node' | 'state'>;
  readonly #files: Counter<'node' | 'outcome'>;
  readonly #bytes: Counter<'node'>;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#gauges = Object.fromEntries(
      Object.entries(GAUGES).map(([key, [name, help]]) => [
        key,
        new Gauge({ name: `writeback_node_${name}`, help, labelNames: ['node'] as const, registers }),
      ]),
    ) as Record<Single, Gauge<'node'>>;
    this.#jobs = new Counter({
      name: 'writeback_node_jobs_total',
      help: 'Transfers that came into a state, over all processes and their restarts.',
      labelNames: ['node', 'state'],
      registers,
    });
    this.#files = new Counter({
      name: 'writeback_node_files_total',
      help: 'Files of transfers that ended, each once, over all processes and their restarts.',
      labelNames: ['node', 'outcome'],
      registers,
    });
    this.#bytes = new Counter({
      name: 'writeback_node_bytes_total',
      help: 'Bytes of the files of transfers that succeeded.',
      labelNames: ['node'],
      registers,
    });
  }

  /** Null: they could not be read; then there are none, which is not the same as zero. */
  show(nodes: readonly NodeGauges[] | null): void {
    for (const metric of [...Object.values(this.#gauges), this.#jobs, this.#files, this.#bytes])
      metric.reset();
    for (const gauges of nodes ?? []) {
      const node = nodeLabel(gauges.node);
      for (const key of Object.keys(GAUGES) as Single[]) {
        const value = Number(gauges[key]);
        this.#gauges[key].set({ node }, key === 'nextJobAgeMs' ? value / 1000 : value);
      }
      // What nobody ever saw comes and goes: its counters would fall.
      if (gauges.node === null) continue;
      for (const state of JOB_STATES) this.#jobs.inc({ node, state }, gauges.jobs[state]);
      for (const ending of FILE_ENDINGS)
        this.#files.inc({ node, outcome: OUTCOMES[ending] }, gauges.files[ending]);
      this.#bytes.inc({ node }, gauges.bytesDone);
    }
  }
}
