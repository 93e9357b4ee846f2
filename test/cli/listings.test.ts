import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { JobFile } from '../../src/model/job.js';
import { runCli } from '../support/cli.js';
import { jobOf, problemOf, type Reply, ScriptedService } from '../support/scripted-service.js';

const closing: ScriptedService[] = [];
afterEach(async () => {
  for (const service of closing.splice(0)) await service.close();
});

async function scripted(...args: Parameters<typeof ScriptedService.start>): Promise<ScriptedService> {
  const service = await ScriptedService.start(...args);
  closing.push(service);
  return service;
}

function file(index: number, path: string, failed = false): JobFile {
  const error = { code: 'ENOSPC', nfsStatus: 28, phase: 'flush', message: 'COMMIT: no space' } as const;
  return {
    index,
    path,
    destination: null,
    state: failed ? 'failed' : 'succeeded',
    outcome: failed ? null : 'flushed',
    evidence: failed ? null : 'written-back',
    attempts: failed ? 3 : 1,
    size: failed ? null : 1536,
    mtime: null,
    durationMs: 320,
    firstError: failed ? error : null,
    lastError: failed ? error : null,
  };
}

const FILES = [file(0, '/a'), file(1, '/odd\n\udcff'), file(2, '/c', true)];

/** One file per page, and an empty page in between. */
function pages(request: { url: string }): Reply {
  const cursor = new URL(request.url, 'http://service').searchParams.get('cursor');
  if (cursor === 'c1') return { json: { items: [], nextCursor: 'c 2' } };
  const at = cursor === null ? 0 : cursor === 'c 2' ? 1 : 2;
  return { json: { items: [FILES[at]], nextCursor: [`c1`, 'c3', null][at] } };
}

describe('files', () => {
  test('come from all pages, one line each', async () => {
    const service = await scripted(pages);
    const run = await runCli(['files', 'f1'], { url: service.url });
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(run.stdout.toString().split('\n'), [
      'succeeded  /a  (flushed, written-back, 1.5 KiB, 0.3 s)',
      'succeeded  /odd\\n\\xff  (flushed, written-back, 1.5 KiB, 0.3 s)',
      'failed     /c  ENOSPC: COMMIT: no space  (0.3 s, 3 attempts)',
      '',
    ]);
  });

  test('as JSON are what the API shows, one per line', async () => {
    const service = await scripted(pages);
    const run = await runCli(['files', 'f1', '--json'], { url: service.url });
    const lines = run.stdout.toString().trimEnd().split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)),
      FILES,
    );
  });

  test('as paths are the bytes that were submitted', async () => {
    const service = await scripted(pages);
    const run = await runCli(['files', 'f1', '--paths', '-0'], { url: service.url });
    assert.equal(run.stdout.toString('latin1'), '/a\0/odd\n\xff\0/c\0');
  });

  test('are filtered by the service', async () => {
    const service = await scripted(() => ({ json: { items: [], nextCursor: null } }));
    const options = ['--state', 'failed', '--state', 'expired', '--code', 'ENOSPC'];
    await runCli(['files', 'f/1', ...options], { url: service.url });
    assert.equal(
      service.requests[0]?.url,
      '/v1/jobs/f%2F1/files?state=failed&state=expired&code=ENOSPC&limit=1000',
    );
    for (const wrong of [['--state', 'odd'], ['--code', 'EODD'], ['-0']]) {
      assert.equal((await runCli(['files', 'f1', ...wrong], { url: service.url })).code, 2);
    }
    assert.equal(service.requests.length, 1);
  });
});

describe('jobs', () => {
  test('are a table, or a line of JSON each', async () => {
    const jobs = [
      { ...jobOf('f2', 'running', { filesTotal: 1000, filesSucceeded: 10 }), labels: { run: '42' } },
      jobOf('f1', 'partial', { filesSucceeded: 1, filesFailed: 1 }),
    ];
    const service = await scripted(() => ({ json: { items: jobs, nextCursor: null } }));
    const run = await runCli(['jobs', '-s', 'running', '-l', 'run=42', '--since', '2026-01-31T12:00:00Z'], {
      url: service.url,
    });
    assert.equal(run.code, 0, run.stderr);
    const [header, first, second] = run.stdout.toString().split('\n');
    assert.match(header ?? '', /^JOB {2}STATE {4}ON {8}EXPORT {2}FILES {2}DONE {2}FAILED {2}AGE +LABELS$/);
    assert.match(first ?? '', /^f2 {3}running {2}projects {2}\/exp1 {3}1,000 {4}10 {7}0 {2}.* {2}run=42$/);
    assert.match(second ?? '', /^f1 {3}partial/);
    assert.equal(
      service.requests[0]?.url,
      '/v1/jobs?state=running&label=run%3D42&createdAfter=2026-01-31T12%3A00%3A00.000Z&limit=50',
    );
    const json = await runCli(['jobs', '--json'], { url: service.url });
    assert.deepEqual(
      json.stdout
        .toString()
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
      jobs,
    );
  });

  test('are no more than asked for, over as many pages as it takes', async () => {
    const service = await scripted((_, nth) => ({
      json: {
        items: [jobOf(`f${2 * nth}`, 'queued'), jobOf(`f${2 * nth + 1}`, 'queued')],
        nextCursor: `c${nth}`,
      },
    }));
    const run = await runCli(['jobs', '--limit', '5', '--json'], { url: service.url });
    assert.equal(run.stdout.toString().trimEnd().split('\n').length, 5);
    assert.equal(service.requests.length, 3);
    assert.equal((await runCli(['jobs', '--limit', 'all'], { url: service.url })).code, 2);
  });
});

describe('a change', () => {
  const CACHE = {
    name: 'projects',
    configured: true,
    dialect: 'hpc-cache',
    addresses: ['10.1.0.11'],
    exports: null,
    health: 'down',
    healthDetail: 'no route',
    dialectProven: false,
    circuit: { state: 'closed', code: null, reason: null, since: null, retryAt: null, tries: 0 },
    paused: true,
    pausedReason: 'upgrade',
    limits: { inFlight: 256, filesPerSecond: null },
    slotsLeased: 0,
    limitsConfigured: { inFlight: 256, filesPerSecond: null },
    workers: 1,
    filesQueued: 10,
    filesActive: 0,
    jobsActive: 1,
  };

  test('caches are listed, paused with a reason and resumed', async () => {
    const service = await scripted((request): Reply => {
      if (request.url === '/v1/caches') return { json: { items: [CACHE] } };
      const paused = request.url.endsWith('/pause');
      return {
        json: { ...CACHE, paused, pausedReason: paused ? JSON.parse(`${request.body}`).reason : null },
      };
    });
    const listed = await runCli(['caches'], { url: service.url });
    assert.match(listed.stdout.toString(), /projects {2}down.* {2}is paused: upgrade; no route\n$/);
    const paused = await runCli(['caches', 'pause', 'projects', '--reason', 'why not'], { url: service.url });
    assert.equal(paused.stdout.toString(), 'projects is paused: why not\n');
    const limited = await runCli(
      ['caches', 'limit', 'projects', '--in-flight', '32', '--files-per-second', 'any'],
      { url: service.url },
    );
    assert.match(
      limited.stdout.toString(),
      /^projects may have 256 flushes in flight, and any number begun per second\n$/,
    );
    const resumed = await runCli(['caches', 'resume', 'projects', '--url', service.url, '--json']);
    assert.deepEqual(JSON.parse(resumed.stdout.toString()), { ...CACHE, paused: false, pausedReason: null });
    assert.deepEqual(
      service.requests.map(({ method, url }) => `${method} ${url}`),
      [
        'GET /v1/caches',
        'POST /v1/caches/projects/pause',
        'PATCH /v1/caches/projects',
        'POST /v1/caches/projects/resume',
      ],
    );
    assert.equal((await runCli(['caches', 'pause', 'projects'], { url: service.url })).code, 2);
    for (const wrong of [[], ['--in-flight', '0'], ['--configured', '--in-flight', '3']]) {
      const { code } = await runCli(['caches', 'limit', 'projects', ...wrong], { url: service.url });
      assert.equal(code, 2);
    }
    assert.equal((await runCli(['caches', 'stop', 'projects'], { url: service.url })).code, 2);
  });

  test('nodes are listed, paused with a reason and resumed', async () => {
    const node = {
      name: 'n042',
      connected: false,
      seenAt: '2026-01-31T12:01:02.345Z',
      paused: true,
      pausedReason: 'upgrade',
      jobsActive: 2,
      filesQueued: 3,
      filesActive: 0,
      bytesQueued: 3 * 1024 ** 3,
    };
    const service = await scripted((request): Reply => {
      if (request.url === '/v1/nodes?limit=1000') return { json: { items: [node], nextCursor: 'x' } };
      if (request.url === '/v1/nodes?limit=1000&cursor=x')
        return { json: { items: [{ ...node, name: 'n1', seenAt: null }], nextCursor: null } };
      const paused = request.url.endsWith('/pause');
      return {
        json: { ...node, paused, pausedReason: paused ? JSON.parse(`${request.body}`).reason : null },
      };
    });
    const listed = await runCli(['nodes'], { url: service.url });
    const [, first = '', second = ''] = listed.stdout.toString().split('\n');
    assert.match(first, /^n042 +gone since 2026-01-31T12:01:02Z +2 +3 +0 +3\.0 GiB +is paused: upgrade$/);
    assert.match(second, /^n1 +never seen/);
    const paused = await runCli(['nodes', 'pause', 'n042', '-r', 'why not'], { url: service.url });
    assert.equal(paused.stdout.toString(), 'n042 is paused: why not\n');
    const resumed = await runCli(['nodes', 'resume', 'n042'], { url: service.url });
    assert.equal(resumed.stdout.toString(), 'n042 is not paused\n');
    assert.deepEqual(
      service.requests.map(({ method, url }) => `${method} ${url}`),
      [
        'GET /v1/nodes?limit=1000',
        'GET /v1/nodes?limit=1000&cursor=x',
        'POST /v1/nodes/n042/pause',
        'POST /v1/nodes/n042/resume',
      ],
    );
    assert.equal((await runCli(['nodes', 'pause', 'n042'], { url: service.url })).code, 2);
  });

  test('cancel takes several jobs', async () => {
    const service = await scripted((request) => ({
      json: jobOf(request.url.split('/')[3] ?? '', 'canceling'),
      status: 202,
    }));
    const run = await runCli(['cancel', 'f1', 'f2'], { url: service.url });
    assert.equal(run.stdout.toString(), 'f1 canceling\nf2 canceling\n');
    assert.equal(run.code, 0);
  });

  test('retry waits for the new job, unless it is told not to', async () => {
    const service = await scripted((request) =>
      request.method === 'POST'
        ? { status: 202, json: jobOf('f2', 'queued') }
        : { json: jobOf('f2', 'succeeded', { filesSucceeded: 2 }) },
    );
    const waited = await runCli(['retry', 'f1'], { url: service.url });
    assert.match(waited.stdout.toString(), /^f2 succeeded/);
    assert.match(waited.stderr, /^Job f2: 2 files of f1 again\n/);
    const run = await runCli(['retry', 'f1', '--no-wait'], { url: service.url });
    assert.equal(run.stdout.toString(), 'f2\n');
  });

  test('that is refused says why', async () => {
    const service = await scripted(() => problemOf(409, 'NOTHING_TO_RETRY', 'No file failed.'));
    const run = await runCli(['retry', 'f1'], { url: service.url });
    assert.deepEqual(
      [run.code, run.stderr],
      [1, 'writeback: No file failed. (NOTHING_TO_RETRY, request r-1)\n'],
    );
  });
});

describe('the program', () => {
  test('shows help with examples and exit statuses', async () => {
    const run = await runCli(['submit', '--help']);
    assert.equal(run.code, 0);
    assert.match(run.stdout.toString(), /Examples:\n {2}writeback submit/);
    assert.match(run.stdout.toString(), /124 wait timed out/);
  });

  test('ends with 2 for what it does not know', async () => {
    for (const args of [['frobnicate'], ['wait'], ['jobs', '--nope'], ['retry', 'a', 'b'], []]) {
      const run = await runCli(args);
      assert.equal(run.code, 2, args.join(' '));
      assert.notEqual(run.stderr, '');
    }
  });

  test('prints its version', async () => {
    assert.equal((await runCli(['--version'])).stdout.toString(), '0.0.0-test\n');
  });
});
