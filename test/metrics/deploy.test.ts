import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse, stringify } from 'yaml';
import { ServiceMetrics } from '../../src/metrics/service-metrics.js';
import { JOB_STATES } from '../../src/model/words.js';
import { FILE_ENDINGS } from '../../src/store/counters.js';
import type { CacheGauges } from '../../src/store/gauges.js';
import type { NodeGauges } from '../../src/store/node-gauges.js';
import { type Family, parseExposition } from '../support/exposition.js';

const root = new URL('../../../', import.meta.url);

/** Everything that any role exports, with every label a metric can have. */
async function exportedText(): Promise<string> {
  const count = <K extends string>(keys: readonly K[]) =>
    Object.fromEntries(keys.map((key) => [key, 1])) as Record<K, number>;
  const gauges: CacheGauges = {
    cache: 'scratch',
    filesPending: 1,
    filesActive: 1,
    jobsActive: 1,
    nextJobAgeMs: 1,
    slotsLeased: 1,
    slotsLimit: 1,
    workers: 1,
    up: true,
    held: false,
    paused: false,
    dialectProven: true,
    jobs: count(JOB_STATES),
    files: count(FILE_ENDINGS),
  };
  const node: NodeGauges = {
    node: 'n1',
    filesPending: 1,
    filesActive: 1,
    bytesPending: 1,
    jobsActive: 1,
    nextJobAgeMs: 1,
    connected: true,
    paused: false,
    bytesDone: 1,
    jobs: count(JOB_STATES),
    files: count(FILE_ENDINGS),
  };
  const metrics = new ServiceMetrics({
    version: '1',
    role: 'all',
    reader: {
      store: async () => ({ ok: true, roundTripMs: 1, warnings: 0 }),
      caches: async () => [gauges],
      nodes: async () => [node],
      webhooks: async () => ({
        results: { delivered: 1, retried: 1, failed: 1 },
        pending: 1,
        oldestAgeMs: 1,
      }),
      reconfigure() {},
      close() {},
    },
    caches: true,
    work: true,
    process: true,
  });
  const { work } = metrics;
  assert.ok(work);
  work.loads = () => [
    { cache: 'scratch', itemsInHand: 1, sessions: 1, connections: 1, outstanding: 1, waiting: 1 },
  ];
  const file = { index: 0, path: '/a', attempts: 1, firstError: null, size: 1, mtimeMs: 1, durationMs: 5 };
  const error = { code: 'EIO', nfsStatus: 5, phase: 'flush', message: 'm' } as const;
  for (const evidence of ['accepted', 'stable', 'written-back'] as const) {
    work.fileEnded('scratch', { ...file, state: 'succeeded', outcome: 'flushed', evidence, lastError: null });
  }
  work.fileEnded('scratch', { ...file, state: 'failed', outcome: null, evidence: null, lastError: error });
  for (const end of ['done', 'returned', 'held', 'failed'] as const) work.itemLeft('scratch', end);
  work.replied('scratch', 'NFS3 COMMIT', 1);
  work.retried('scratch', 'EIO');
  metrics.requestAnswered('GET', '/v1/jobs', 200, 1);
  return metrics.text();
}

async function exported(): Promise<Map<string, Family>> {
  return parseExposition(await exportedText());
}

function dashboardQueries(): string[] {
  const text = readFileSync(new URL('deploy/grafana-dashboard.json', root), 'utf8');
  const { panels, templating } = JSON.parse(text) as {
    panels: { id: number; targets?: { expr: string }[] }[];
    templating: { list: { query: string | { query: string } }[] };
  };
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const variables = templating.list.flatMap(({ query }) => (typeof query === 'string' ? [] : [query.query]));
  return [...panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)), ...variables];
}

interface Rule {
  alert: string;
  expr: string;
  for: string;
  labels: { severity: string };
  annotations: { summary: string; description: string };
}

function alertRules(): Rule[] {
  const text = readFileSync(new URL('deploy/prometheus-alerts.yml', root), 'utf8');
  return (parse(text) as { groups: { rules: Rule[] }[] }).groups.flatMap(({ rules }) => rules);
}

test('the dashboard and the alert rules use only metrics, labels and label values that exist', async () => {
  const families = await exported();
  const queries = [...dashboardQueries(), ...alertRules().map(({ expr }) => expr)];
  assert.ok(queries.length > 25);
  const samples = [...families.values()].flatMap((family) => family.samples);
  // What Prometheus itself adds.
  const added = ['instance', 'job'];
  for (const query of queries) {
    const used = [...query.matchAll(/\b((?:writeback|nodejs|process)_[a-z0-9_]+)(\{[^}]*\})?/g)];
    assert.ok(used.length > 0, query);
    const labelsUsed = new Set<string>();
    for (const [, name = '', matchers = ''] of used) {
      const own = samples.filter((sample) => sample.name === name);
      assert.ok(own.length > 0, `${name} does not exist: ${query}`);
      for (const sample of own) for (const label of Object.keys(sample.labels)) labelsUsed.add(label);
      for (const [, label = '', operator, value = ''] of matchers.matchAll(/([a-z]+)(=~|=)"([^"]*)"/g)) {
        if (added.includes(label) || value.startsWith('$')) continue;
        for (const one of operator === '=~' ? value.split('|') : [value]) {
          const known =
            name === 'writeback_build_info'
              ? ['api', 'worker', 'all']
              : own.map(({ labels }) => labels[label]);
          assert.ok(known.includes(one), `${name} has no ${label}="${one}": ${query}`);
        }
      }
    }
    for (const [, by = ''] of query.matchAll(/\bby \(([^)]*)\)/g)) {
      for (const label of by.split(',').map((part) => part.trim())) {
        assert.ok(labelsUsed.has(label) || added.includes(label), `nothing has a label ${label}: ${query}`);
      }
    }
  }
});

test('every alert says how bad it is, for how long it waits, and what to do', () => {
  const rules = alertRules();
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
  for (const { alert, for: wait, labels, annotations } of rules) {
    assert.match(wait, /^\d+[mh]$/, alert);
    assert.match(labels.severity, /^(critical|warning)$/, alert);
    assert.ok(annotations.summary.length > 10 && annotations.description.length > 30, alert);
  }
});

test('docs/OPERATIONS.md names every metric of our own', async () => {
  const page = readFileSync(new URL('docs/OPERATIONS.md', root), 'utf8');
  for (const name of (await exported()).keys()) {
    if (!name.startsWith('writeback_')) continue;
    const rest = /^writeback_(?:cache|node|worker)(_.*)$/.exec(name)?.[1];
    assert.ok(page.includes(`\`${name}\``) || (rest !== undefined && page.includes(`\`${rest}\``)), name);
  }
});

/** Prometheus' own tool, with its own parsers. */
describe('promtool', {
  skip: spawnSync('promtool', ['--version']).error ? 'promtool is not installed' : false,
}, () => {
  const folder = mkdtempSync(join(tmpdir(), 'writeback-promtool-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  function promtool(args: readonly string[], input = ''): { status: number | null; said: string } {
    const { status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' });
    return { status, said: `${stdout}${stderr}` };
  }

  test('reads what is exported, and has nothing against our own names', async () => {
    const { status, said } = promtool(['check', 'metrics'], await exportedText());
    // 3: read well, but there are names that it would not have given. Those are of the process.
    assert.ok(status === 0 || status === 3, said);
    for (const line of said.trim().split('\n')) assert.match(line, /^(nodejs_|process_|$)/);
  });

  test('takes the alert rules, and the queries of the dashboard', () => {
    const rules = promtool(['check', 'rules', fileURLToPath(new URL('deploy/prometheus-alerts.yml', root))]);
    assert.equal(rules.status, 0, rules.said);
    const queries = dashboardQueries().filter((query) => !query.startsWith('label_values('));
    const recorded = queries.map((query, i) => ({
      record: `query${i}`,
      expr: query.replaceAll('$__rate_interval', '5m'),
    }));
    const file = join(folder, 'queries.yml');
    writeFileSync(file, stringify({ groups: [{ name: 'dashboard', rules: recorded }] }));
    const dashboard = promtool(['check', 'rules', file]);
    assert.equal(dashboard.status, 0, dashboard.said);
  });

  test('finds that the alerts fire when they should, and only then', () => {
    const { status, said } = promtool([
      'test',
      'rules',
      fileURLToPath(new URL('test/fixtures/alerts.yaml', root)),
    ]);
    assert.equal(status, 0, said);
  });
});
