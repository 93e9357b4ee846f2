import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import type { Cache } from '../../src/model/job.js';
import { runCli } from '../support/cli.js';
import { jobOf, problemOf, type Reply, ScriptedService } from '../support/scripted-service.js';

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

const CACHE: Cache = {
  name: 'projects',
  configured: true,
  dialect: 'hpc-cache',
  addresses: ['10.21.0.1', 'cache.example'],
  exports: ['/exp1', '/exp2'],
  health: 'up',
  healthDetail: null,
  dialectProven: true,
  circuit: { state: 'closed', code: null, reason: null, since: null, retryAt: null, tries: 0 },
  paused: false,
  pausedReason: null,
  limits: { inFlight: 256, filesPerSecond: null },
  slotsLeased: 0,
  limitsConfigured: { inFlight: 256, filesPerSecond: null },
  workers: 1,
  filesQueued: 0,
  filesActive: 0,
  jobsActive: 0,
};

/** Accepts everything as jobs f1, f2 …, which have succeeded when one asks for them. */
async function acceptingService(caches: Cache[] = [CACHE]): Promise<ScriptedService> {
  let accepted = 0;
  const service = await ScriptedService.start((request): Reply => {
    if (request.url === '/v1/caches') return { json: { items: caches } };
    if (request.method === 'POST') {
      accepted++;
      return { status: 202, json: jobOf(`f${accepted}`, 'queued') };
    }
    return { json: jobOf(request.url.split('/').at(-1) ?? '', 'succeeded', { filesSucceeded: 2 }) };
  });
  cleanups.push(() => service.close());
  return service;
}

async function temporaryFolder(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'writeback-cli-')));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function posted(service: ScriptedService) {
  return service.requests.filter((request) => request.method === 'POST');
}

function query(url: string | undefined): Record<string, string> {
  return Object.fromEntries(new URL(url ?? '', 'http://service').searchParams);
}

const TARGET = ['--cache', 'projects', '--export', '/exp1'];

describe('a list reaches the service byte by byte', () => {
  test('from the command line and from standard input, in this order', async () => {
    const service = await acceptingService();
    const run = await runCli(['submit', ...TARGET, 'a b', 'c\nd', '--files-from', '-'], {
      url: service.url,
      stdin: [Buffer.from('/x/caf\xe9\r\n\n/x/', 'latin1'), Buffer.from('last')],
    });
    assert.equal(run.code, 0, run.stderr);
    const [request] = posted(service);
    assert.equal(request?.body.toString('latin1'), 'a b\0c\nd\0/x/caf\xe9\0/x/last\0');
    assert.equal(request?.headers['content-type'], 'text/plain');
    assert.deepEqual(query(request?.url), { cache: 'projects', export: '/exp1', delimiter: 'nul' });
    assert.match(run.stderr, /standard input: 1 empty line left out/);
    assert.match(run.stderr, /1 line ends in CR LF/);
    assert.equal(run.stdout.toString(), 'f1 succeeded: 2 of 2 files written back, in 4.0 s (0.5 files/s)\n');
  });

  test('from a file with NUL delimiters, newlines in names included', async () => {
    const service = await acceptingService();
    const file = join(await temporaryFolder(), 'list');
    await writeFile(file, Buffer.from('a\nb\0\xff\0', 'latin1'));
    const run = await runCli(['submit', ...TARGET, '-0', '--files-from', file], { url: service.url });
    assert.equal(run.code, 0, run.stderr);
    assert.equal(posted(service)[0]?.body.toString('latin1'), 'a\nb\0\xff\0');
  });

  test('also when it is longer than what is kept in memory', async () => {
    const service = await acceptingService();
    const line = (i: number): string => `/run42/checkpoints/rank-${String(i).padStart(7, '0')}/state.h5\n`;
    function* lines(): Generator<Buffer> {
      for (let i = 0; i < 100_000; i += 1000) {
        yield Buffer.from(Array.from({ length: 1000 }, (_, k) => line(i + k)).join(''));
      }
    }
    const run = await runCli(['submit', ...TARGET, '--no-wait', '--files-from', '-'], {
      url: service.url,
      stdin: lines(),
    });
    assert.equal(run.code, 0, run.stderr);
    const body = posted(service)[0]?.body ?? Buffer.alloc(0);
    assert.equal(body.length, line(0).length * 100_000);
    assert.equal(body.toString('latin1').split('\0').at(-2), line(99_999).trim());
  });

  test('with a name of the command line that is not UTF-8, from the kernel', async () => {
    const service = await acceptingService();
    const folder = await temporaryFolder();
    await writeFile(
      join(folder, 'cmdline'),
      Buffer.from('node\0main.js\0submit\0/a\xff\0/b\xfe\0/a\xfe\0', 'latin1'),
    );
    const names = ['/a\ufffd', '/b\ufffd', '/a\ufffd'];
    const run = await runCli(['submit', ...TARGET, ...names], { url: service.url, procFolder: folder });
    assert.equal(run.code, 0, run.stderr);
    assert.equal(posted(service)[0]?.body.toString('latin1'), '/a\xff\0/b\xfe\0/a\xfe\0');
    const fewer = names.slice(0, 2);
    const doubtful = await runCli(['submit', ...TARGET, ...fewer], { url: service.url, procFolder: folder });
    assert.equal(doubtful.code, 2);
  });

  test('or not at all, if the bytes of a name cannot be had', async () => {
    const service = await acceptingService();
    const run = await runCli(['submit', ...TARGET, '/a\ufffd'], {
      url: service.url,
      procFolder: await temporaryFolder(),
    });
    assert.equal(run.code, 2);
    assert.equal(posted(service).length, 0);
  });
});

describe('options', () => {
  test('go into the query of a list', async () => {
    const service = await acceptingService();
    const options = [
      ...['--sync', '--dialect', 'rfc1813', '--paths-are', 'namespace', '--file-timeout', '90s'],
      ...['--deadline', '2h', '--label', 'run=42', '--label', 'note=a=b', '--no-wait'],
    ];
    const run = await runCli(['submit', ...TARGET, ...options, '/f'], { url: service.url });
    assert.equal(run.code, 0, run.stderr);
    assert.equal(run.stdout.toString(), 'f1\n');
    const parameters = new URL(posted(service)[0]?.url ?? '', 'http://service').searchParams;
    assert.deepEqual(parameters.getAll('label'), ['run=42', 'note=a=b']);
    parameters.delete('label');
    assert.deepEqual(Object.fromEntries(parameters), {
      cache: 'projects',
      export: '/exp1',
      delimiter: 'nul',
      mode: 'sync',
      dialect: 'rfc1813',
      pathsAre: 'namespace',
      fileTimeoutSeconds: '90',
      deadlineSeconds: '7200',
    });
  });

  test('with a directory go as JSON, with the files', async () => {
    const service = await acceptingService();
    const options = [
      '-d',
      'run42',
      '-d',
      '/other',
      '--include',
      '**/*.h5',
      '--exclude',
      'tmp/**',
      '-l',
      'k=v',
    ];
    const run = await runCli(['submit', ...TARGET, ...options, '--no-wait', '--json', '-f', '-', '-0'], {
      url: service.url,
      stdin: [Buffer.from('a\xff', 'latin1')],
    });
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(JSON.parse(run.stdout.toString()), jobOf('f1', 'queued'));
    const globs = { include: ['**/*.h5'], exclude: ['tmp/**'] };
    assert.deepEqual(JSON.parse(posted(service)[0]?.body.toString() ?? ''), {
      cache: 'projects',
      export: '/exp1',
      files: ['a\udcff'],
      directories: [
        { path: 'run42', ...globs },
        { path: '/other', ...globs },
      ],
      labels: { k: 'v' },
    });
  });

  for (const [what, args, sentence] of [
    ['nothing to submit', [], /Name files/],
    ['an unknown option', ['--fast', 'f'], /unknown option/],
    ['an export without a cache', ['-e', '/x', 'f'], /--export needs --cache/],
    ['a form of path without an export', ['--paths-are', 'client', 'f'], /--paths-are needs/],
    ['an unknown dialect', [...TARGET, '--dialect', 'nfs4', 'f'], /Allowed choices are hpc-cache, rfc1813/],
    ['no time', [...TARGET, '--deadline', 'soon', 'f'], /--deadline takes seconds/],
    ['globs without a directory', [...TARGET, '--include', '*', 'f'], /--directory/],
    ['a label without a value', [...TARGET, '-l', 'x', 'f'], /KEY=VALUE/],
    ['a list that is not there', [...TARGET, '-f', '/no/such/list'], /Cannot read the list/],
    ['an empty list', [...TARGET, '-f', '/dev/null'], /names no file/],
    ['no URL', [...TARGET, '--url', 'nowhere', 'f'], /is not a URL/],
  ] as const) {
    test(`${what}: status 2, and nothing is submitted`, async () => {
      const service = await acceptingService();
      const run = await runCli(['submit', ...args], { url: service.url });
      assert.equal(run.code, 2);
      assert.match(run.stderr, sentence);
      assert.equal(posted(service).length, 0);
    });
  }
});

describe('a refusal', () => {
  test('is shown as a sentence, also when it comes while the list is being sent', async () => {
    const refusal = problemOf(422, 'UNKNOWN_CACHE', '"projets" is no cache.');
    const service = await ScriptedService.start(
      () => ({}),
      (request) => (request.method === 'POST' ? refusal : null),
    );
    cleanups.push(() => service.close());
    const run = await runCli(['submit', '--cache', 'projets', '--export', '/e', '-f', '-'], {
      url: service.url,
      stdin: [Buffer.alloc(8 * 1024 * 1024, '/a/file/name\n')],
    });
    assert.equal(run.code, 1);
    assert.match(run.stderr, /writeback: "projets" is no cache\. \(UNKNOWN_CACHE, request r-1\)\n$/);
  });

  test('for now: status 69', async () => {
    const service = await ScriptedService.start(() => ({
      ...problemOf(429, 'QUEUE_FULL', 'The queue is full'),
      headers: { 'retry-after': '30' },
    }));
    cleanups.push(() => service.close());
    const run = await runCli(['submit', ...TARGET, 'f'], { url: service.url });
    assert.equal(run.code, 69);
    assert.match(run.stderr, /The queue is full\. Try again in 30 s\./);
  });

  test('that is none, because the connection broke: status 69, and a warning that it may have been accepted', async () => {
    const service = await ScriptedService.start(() => ({ cut: true }));
    cleanups.push(() => service.close());
    const run = await runCli(['submit', ...TARGET, 'f'], { url: service.url });
    assert.equal(run.code, 69);
    assert.match(run.stderr, /closed the connection\. It may have taken the request all the same/);
  });

  test('that is none at first: the same request is sent again with the same key, until there is one', async () => {
    const service = await ScriptedService.start((request, nth): Reply => {
      if (request.method !== 'POST') return { json: jobOf('f1', 'succeeded', { filesSucceeded: 2 }) };
      if (nth === 1) return { cut: true };
      if (nth === 2)
        return { ...problemOf(409, 'IDEMPOTENCY_KEY_IN_USE', 'Arriving'), headers: { 'retry-after': '0' } };
      if (nth === 3) return problemOf(503, 'STORE_UNAVAILABLE', 'Away');
      return { status: 202, json: jobOf('f1', 'queued') };
    });
    cleanups.push(() => service.close());
    const run = await runCli(['submit', ...TARGET, '/a', '/b'], { url: service.url });
    assert.equal(run.code, 0, run.stderr);
    const keys = posted(service).map(({ headers }) => headers['idempotency-key']);
    assert.equal(keys.length, 4);
    assert.equal(new Set(keys).size, 1);
    assert.match(String(keys[0]), /^[0-9a-f-]{36}$/);
    assert.deepEqual(new Set(posted(service).map(({ body }) => body.toString())), new Set(['/a\0/b\0']));
  });

  test("for a key of one's own is asked for with it, and --join goes along", async () => {
    const service = await acceptingService();
    const options = ['--idempotency-key', 'slurm.42', '--join', '--no-wait'];
    const run = await runCli(['submit', ...TARGET, ...options, '/a'], { url: service.url });
    assert.equal(run.code, 0, run.stderr);
    assert.equal(posted(service)[0]?.headers['idempotency-key'], 'slurm.42');
    assert.equal(query(posted(service)[0]?.url).conflict, 'join');
    const wrong = await runCli(['submit', ...TARGET, '--idempotency-key', 'a b', '/a'], { url: service.url });
    assert.equal(wrong.code, 2);
  });

  test('by nobody: status 69, and what to do', async () => {
    const service = await acceptingService();
    await service.close();
    const run = await runCli(['submit', ...TARGET, 'f'], { url: service.url });
    assert.equal(run.code, 69);
    assert.match(run.stderr, /connection refused\. Is it running\? Start one with "writeback serve"/);
  });
});

describe('local paths', () => {
  /** A folder that the mount table says is mounted from a server. */
  async function mounted(mounts: Record<string, string>, type = 'nfs vers=3'): Promise<string> {
    const folder = await temporaryFolder();
    const [fsType, option] = type.split(' ');
    const lines = Object.entries(mounts).map(([place, source], i) => {
      const point = join(folder, place).replace(/\/$/, '').replaceAll(' ', '\\040');
      return `${i + 50} 1 0:5 / ${point} rw - ${fsType} ${source} rw,${option},addr=10.21.0.1`;
    });
    await mkdir(join(folder, 'proc'));
    await writeFile(
      join(folder, 'proc', 'mountinfo'),
      ['1 0 8:1 / / rw - ext4 /dev/sda1 rw', ...lines, ''].join('\n'),
    );
    for (const place of Object.keys(mounts)) await mkdir(join(folder, place), { recursive: true });
    return folder;
  }

  test('become cache, export and path by the mount table; links are followed, missing files kept', async () => {
    const service = await acceptingService();
    const folder = await mounted({ 'the cache': 'cache.example:/exp1/project' });
    const data = join(folder, 'the cache', 'run');
    await mkdir(data);
    await writeFile(join(data, 'real'), '');
    await symlink(join(data, 'real'), join(folder, 'link'));
    await symlink(data, join(folder, 'run'));
    const names = ['link', 'run/other', 'the cache/./run//real', 'the cache/no/such'];
    const run = await runCli(['submit', ...names.map((name) => join(folder, name)), '--no-wait'], {
      url: service.url,
      procFolder: join(folder, 'proc'),
    });
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(query(posted(service)[0]?.url), {
      cache: 'projects',
      export: '/exp1',
      delimiter: 'nul',
    });
    assert.deepEqual(posted(service)[0]?.body.toString().split('\0'), [
      '/project/run/real',
      '/project/run/other',
      '/project/run/real',
      '/project/no/such',
      '',
    ]);
  });

  test('on several exports become one job each', async () => {
    const service = await acceptingService();
    const folder = await mounted({ a: '10.21.0.1:/exp1', b: '10.21.0.1:/exp2' });
    const names = ['a/x', 'b/y', 'a/z'].map((name) => join(folder, name));
    const run = await runCli(['submit', ...names], { url: service.url, procFolder: join(folder, 'proc') });
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(
      posted(service).map((request) => [query(request.url).export, request.body.toString()]),
      [
        ['/exp1', '/x\0/z\0'],
        ['/exp2', '/y\0'],
      ],
    );
    assert.match(run.stdout.toString(), /^f1 succeeded.*\nf2 succeeded/);
  });

  test('of an address that is not configured: the address itself', async () => {
    const service = await acceptingService([]);
    const folder = await mounted({ a: 'elsewhere:/vol/x' });
    const run = await runCli(['submit', '-d', join(folder, 'a'), '--dialect', 'rfc1813'], {
      url: service.url,
      procFolder: join(folder, 'proc'),
    });
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(JSON.parse(posted(service)[0]?.body.toString() ?? ''), {
      cache: '10.21.0.1',
      export: '/vol/x',
      directories: [{ path: '/' }],
      dialect: 'rfc1813',
      labels: {},
    });
  });

  test('of a server that is not configured but has a port of its own are refused: the service could not reach it', async () => {
    const service = await acceptingService([]);
    const folder = await mounted({ a: 'elsewhere:/vol/x' }, 'nfs vers=3,port=12049');
    const run = await runCli(['submit', join(folder, 'a', 'f')], {
      url: service.url,
      procFolder: join(folder, 'proc'),
    });
    assert.equal(run.code, 2);
    assert.match(run.stderr, /port 12049.*must be configured/);
  });

  for (const [what, mounts, type, sentence] of [
    ['not on NFS', { a: '/dev/sdb1' }, 'xfs noatime', /not on an NFS mount but on \/dev\/sdb1 \(xfs\)/],
    ['on NFS version 4', { a: '10.21.0.1:/exp1' }, 'nfs4 vers=4.2', /NFS version 4/],
    ['in no export of the cache', { a: '10.21.0.1:/exp9' }, 'nfs vers=3', /in no export of projects/],
  ] as const) {
    test(`${what}: status 2, the reason, and nothing is submitted`, async () => {
      const service = await acceptingService();
      const folder = await mounted(mounts, type);
      const names = [join(folder, 'a', 'file')];
      const run = await runCli(['submit', ...names], { url: service.url, procFolder: join(folder, 'proc') });
      assert.equal(run.code, 2);
      assert.match(run.stderr, sentence);
      assert.equal(posted(service).length, 0);
    });
  }

  test('behind an address that two caches have: the one that --cache names', async () => {
    const service = await acceptingService([CACHE, { ...CACHE, name: 'scratch' }]);
    const folder = await mounted({ a: '10.21.0.1:/exp1' });
    const options = { url: service.url, procFolder: join(folder, 'proc') };
    const name = join(folder, 'a', 'file');
    const refused = await runCli(['submit', name], options);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /projects and scratch\. Choose with --cache/);
    const run = await runCli(['submit', '--cache', 'scratch', name], options);
    assert.equal(run.code, 0, run.stderr);
    assert.equal(query(posted(service)[0]?.url).cache, 'scratch');
  });
});
