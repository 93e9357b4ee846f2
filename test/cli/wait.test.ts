import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { ServiceClient } from '../../src/cli/service-client.js';
import { waitForJob } from '../../src/cli/wait-for-job.js';
import { TERMINAL_JOB_STATES } from '../../src/model/words.js';
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

const SILENT = { refresh: 'end', update() {}, note() {}, close() {} } as const;

describe('the exit status tells the state of the job', () => {
  const codes = { succeeded: 0, partial: 10, failed: 11, canceled: 12, expired: 13 };
  for (const state of TERMINAL_JOB_STATES) {
    test(`${state}: ${codes[state]}`, async () => {
      const service = await scripted(() => ({ json: jobOf('f1', state, { filesSucceeded: 2 }) }));
      const run = await runCli(['wait', 'f1'], { url: service.url });
      assert.equal(run.code, codes[state], run.stderr);
      assert.match(run.stdout.toString(), new RegExp(`^f1 ${state}: 2 of 2 files written back`));
    });
  }

  test('time over: 124, and the job goes on', async () => {
    const service = await scripted(() => ({ json: jobOf('f1', 'running'), headers: { etag: '"1"' } }));
    const run = await runCli(['wait', 'f1', '--timeout', '0.3'], { url: service.url });
    assert.equal(run.code, 124);
    assert.match(run.stderr, /has not ended after 0\.3 s/);
    assert.ok(service.requests.every((request) => request.method === 'GET'));
  });

  test('Ctrl-C: 130, and how to go on', async () => {
    const service = await scripted((_, nth) =>
      nth === 1 ? { json: jobOf('f1', 'running'), headers: { etag: '"1"' } } : new Promise(() => {}),
    );
    const controller = new AbortController();
    const running = runCli(['wait', 'f1'], { url: service.url, signal: controller.signal });
    while (service.requests.length < 2) await new Promise(setImmediate);
    controller.abort();
    const run = await running;
    assert.equal(run.code, 130);
    assert.match(run.stderr, /writeback cancel f1/);
  });
});

describe('waiting', () => {
  test('is a long-poll with the tag of the last answer, that ends with the job', async () => {
    const service = await scripted((_, nth) => {
      if (nth === 1) return { json: jobOf('f1', 'running'), headers: { etag: '"a"' } };
      if (nth === 2) return { status: 304, headers: { etag: '"a"' } };
      return { json: jobOf('f1', 'succeeded'), headers: { etag: '"b"' } };
    });
    const run = await runCli(['wait', 'f1', '--json'], { url: service.url });
    assert.equal(run.code, 0, run.stderr);
    const [first, second, third] = service.requests;
    assert.equal(first?.headers.prefer, undefined);
    assert.deepEqual(
      [second?.url, second?.headers.prefer, second?.headers['if-none-match']],
      ['/v1/jobs/f1?until=terminal', 'wait=30', '"a"'],
    );
    assert.equal(third?.headers['if-none-match'], '"a"');
    assert.equal(service.requests.length, 3);
  });

  test('on a terminal asks for every change', async () => {
    const service = await scripted((_, nth) => ({
      json: jobOf('f1', nth < 3 ? 'running' : 'succeeded', { filesSucceeded: nth === 3 ? 2 : 1 }),
      headers: { etag: `"${nth}"` },
    }));
    const run = await runCli(['wait', 'f1'], { url: service.url, terminalColumns: 80 });
    assert.equal(service.requests[1]?.url, '/v1/jobs/f1');
    assert.match(run.stderr, /50 %.*1\/2/);
    assert.match(run.stderr, /100 %.*2\/2.*\n$/);
  });

  test('goes on across a restart of the service', async () => {
    let restarted = false;
    const service = await scripted((_, nth) => {
      if (nth === 1) return { json: jobOf('f1', 'running'), headers: { etag: '"a"' } };
      if (!restarted) return { cut: true };
      return { json: jobOf('f1', 'succeeded'), headers: { etag: '"b"' } };
    });
    const run = await runCli(['wait', 'f1'], {
      url: service.url,
      onStderr: (text) => {
        if (!text.includes('trying again')) return;
        void service.close().then(() => {
          restarted = true;
          return service.listen();
        });
      },
    });
    assert.equal(run.code, 0, run.stderr);
    assert.match(run.stderr, /does not answer; trying again\.\nThe service answers again\.\n/);
  });

  test('goes on through 503, after as long as the service asks for', async () => {
    const at: number[] = [];
    const service = await scripted((_, nth) => {
      at.push(Date.now());
      return nth === 1
        ? { ...problemOf(503, 'SHUTTING_DOWN', 'Shutting down.'), headers: { 'retry-after': '1' } }
        : { json: jobOf('f1', 'succeeded') };
    });
    const run = await runCli(['wait', 'f1'], { url: service.url });
    assert.equal(run.code, 0);
    assert.ok((at[1] ?? 0) - (at[0] ?? 0) >= 990);
  });

  test('asks without waiting when too many wait already', async () => {
    const service = await scripted((request, nth): Reply => {
      if (request.headers.prefer !== undefined) {
        return { ...problemOf(429, 'TOO_MANY_WAITERS', 'Too many.'), headers: { 'retry-after': '0' } };
      }
      return { json: jobOf('f1', nth < 3 ? 'running' : 'succeeded'), headers: { etag: '"a"' } };
    });
    assert.equal((await runCli(['wait', 'f1'], { url: service.url })).code, 0);
  });

  test('ends with 69 when the service stays away', async () => {
    const service = await scripted((_, nth) =>
      nth === 1 ? { json: jobOf('f1', 'running'), headers: { etag: '"a"' } } : { cut: true },
    );
    const client = new ServiceClient(service.url, '0', new AbortController().signal);
    const options = {
      signal: new AbortController().signal,
      timeoutMs: null,
      progress: SILENT,
      patienceMs: 300,
    };
    await assert.rejects(waitForJob(client, 'f1', options), { exitCode: 69 });
    client.close();
  });

  test('for a service that is not there ends with 69 and says what to do', async () => {
    const service = await scripted(() => ({}));
    const { url } = service;
    await service.close();
    const client = new ServiceClient(url, '0', new AbortController().signal);
    const options = {
      signal: new AbortController().signal,
      timeoutMs: 60_000,
      progress: SILENT,
      patienceMs: 10,
    };
    await assert.rejects(waitForJob(client, 'f1', options), {
      exitCode: 69,
      message: /connection refused\. Is it running\? .*writeback serve/,
    });
    client.close();
  });

  test('for a job that does not exist is refused with the sentence of the service', async () => {
    const service = await scripted(() => problemOf(404, 'JOB_NOT_FOUND', 'There is no job "f9".'));
    const run = await runCli(['wait', 'f9'], { url: service.url });
    assert.equal(run.code, 1);
    assert.equal(run.stderr, 'writeback: There is no job "f9". (JOB_NOT_FOUND, request r-1)\n');
  });
});

test('of several jobs the worst status counts', async () => {
  const states = { f1: 'succeeded', f2: 'failed', f3: 'partial' } as const;
  const service = await scripted((request) => {
    const id = request.url.split('/')[3] as keyof typeof states;
    return { json: jobOf(id, states[id]) };
  });
  const run = await runCli(['wait', 'f1', 'f2', 'f3'], { url: service.url });
  assert.equal(run.code, 11);
  assert.match(run.stdout.toString(), /^f1 succeeded.*\nf2 failed.*\nf3 partial/);
});

test('what is not the service is not taken for it', async () => {
  for (const reply of [{ status: 302 }, { status: 404 }, { status: 200, json: 'hello' }]) {
    const service = await scripted(() => reply);
    const run = await runCli(['wait', 'f1'], { url: service.url });
    assert.equal(run.code, 1);
    assert.match(run.stderr, /not as the service does|is not understood/);
  }
});

describe('the result', () => {
  const failed = jobOf('f1', 'partial', { filesSucceeded: 1, filesFailed: 1, bytesDone: 3 * 1024 * 1024 });
  const errors = [
    {
      code: 'ENOENT',
      count: 1,
      help: 'No such file.',
      retryable: false,
      samples: [{ path: '/a\u001b[31m\udcff', message: 'LOOKUP: not there' }],
    },
  ];
  const script = (request: { url: string }) => ({
    json: request.url.endsWith('/errors') ? { items: errors } : failed,
  });

  test('has the errors by code, each with what to do, and nothing that could steer the terminal', async () => {
    const service = await scripted(script);
    const run = await runCli(['wait', 'f1'], { url: service.url });
    assert.equal(run.code, 10);
    const lines = run.stdout.toString().split('\n');
    assert.equal(lines[0], 'f1 partial: 1 of 2 files written back, 1 failed, 3.0 MiB in 4.0 s');
    assert.equal(lines[1], '  ENOENT, 1 file: No such file.');
    assert.equal(lines[2], '    /a\\x1b[31m\\xff: LOOKUP: not there');
  });

  test('does not claim that what a plain server answered OK was written back', async () => {
    const message = 'The target answered OK at once.';
    const unproven = {
      ...failed,
      state: 'succeeded',
      warnings: [{ code: 'DIALECT_UNPROVEN', message, count: 2 }],
      progress: { ...failed.progress, filesSucceeded: 2, filesFailed: 0, filesAlreadyClean: 2 },
    };
    const service = await scripted(() => ({ json: unproven }));
    const run = await runCli(['wait', 'f1'], { url: service.url });
    const [first = '', second] = run.stdout.toString().split('\n');
    assert.match(first, /^f1 succeeded: 0 of 2 files written back, 2 only accepted, 3\.0 MiB/);
    assert.equal(second, `  Warning: ${message} (2)`);
  });

  test('as JSON is the job as the API shows it, with its errors, on one line', async () => {
    const service = await scripted(script);
    const run = await runCli(['wait', 'f1', '--json'], { url: service.url });
    assert.equal(run.stdout.toString().split('\n').length, 2);
    assert.deepEqual(JSON.parse(run.stdout.toString()), { ...failed, errors });
    assert.equal(run.stderr, '');
  });
});
