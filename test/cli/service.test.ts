import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { buildApp } from '../../src/api/app.js';
import { Targets } from '../../src/api/target.js';
import { type Job, type JobFile, jobSchema } from '../../src/model/job.js';
import { adHocSchema, apiLimitsSchema } from '../../src/model/limits.js';
import { webhooksConfigSchema } from '../../src/model/webhook.js';
import { finishAll, NAS, openTestStore, result, type TestStore } from '../store/fixture.js';
import { runCli } from '../support/cli.js';

const SECRET = `whsec_${Buffer.alloc(32).toString('base64')}`;

/** The client commands against the real API over a real Redis; only the worker is played. */
describe('the command line and the service understand each other', () => {
  let stored: TestStore;
  let app: FastifyInstance;
  let url = '';

  before(async () => {
    stored = await openTestStore();
    app = buildApp({
      store: stored.store,
      limits: apiLimitsSchema.parse({}),
      targets: new Targets([NAS], adHocSchema.parse({})),
      webhooks: () =>
        webhooksConfigSchema.parse({
          endpoints: [{ name: 'hook', url: 'https://hooks.example.org/', secrets: [SECRET] }],
          origins: [{ origin: 'https://jobs.example.org', secrets: [SECRET] }],
        }),
      log: pino({ level: 'silent' }),
      version: '0.0.0-test',
      shuttingDown: () => false,
    });
    url = await app.listen({ port: 0, host: '127.0.0.1' });
  });
  after(async () => {
    await app?.close();
    await stored?.close();
  });

  const TARGET = ['--cache', 'nas', '--export', '/export'];

  async function submitted(...args: string[]): Promise<string> {
    const run = await runCli(['submit', ...TARGET, '--no-wait', ...args], { url });
    assert.equal(run.code, 0, run.stderr);
    return run.stdout.toString().trim();
  }

  test('a long list with an odd name is submitted, waited for, listed and retried', async () => {
    const count = 20_000;
    const list = Array.from({ length: count - 1 }, (_, i) => `/run/rank-${i}.dat\0`).join('');
    const stdin = [Buffer.from(list), Buffer.from('/run/caf\xe9\0', 'latin1')];
    const accepted = await runCli(
      ['submit', ...TARGET, '-l', 'run=1', '--no-wait', '--json', '-f', '-', '-0'],
      { url, stdin },
    );
    assert.equal(accepted.code, 0, accepted.stderr);
    const job = jobSchema.parse(JSON.parse(accepted.stdout.toString()));
    assert.equal(job.progress.filesTotal, count);

    const waiting = runCli(['wait', job.id, '--json', '--timeout', '60'], { url });
    await finishAll(stored.work, job.id, Math.ceil(count / 512), (file) =>
      result(file, file.index % 10_000 === 9_999 ? { state: 'failed' } : {}),
    );
    const waited = await waiting;
    assert.equal(waited.code, 10, waited.stderr);
    const ended = JSON.parse(waited.stdout.toString()) as Job & { errors: { code: string; count: number }[] };
    assert.equal(ended.progress.filesSucceeded, count - 2);
    assert.deepEqual(
      ended.errors.map(({ code, count }) => [code, count]),
      [['ENOENT', 2]],
    );

    const files = await runCli(['files', job.id, '--json'], { url });
    const lines = files.stdout.toString().trimEnd().split('\n');
    assert.equal(lines.length, count);
    assert.equal((JSON.parse(lines.at(-1) ?? '') as JobFile).path, '/run/caf\udce9');
    const failed = await runCli(['files', job.id, '--state', 'failed', '--paths', '-0'], { url });
    assert.equal(failed.stdout.toString('latin1'), '/run/rank-9999.dat\0/run/caf\xe9\0');

    const retried = await runCli(['retry', job.id, '--no-wait', '--json'], { url });
    const again = jobSchema.parse(JSON.parse(retried.stdout.toString()));
    assert.equal(again.parentJobId, job.id);
    await finishAll(stored.work, again.id, 1);
    const done = await runCli(['wait', again.id], { url });
    assert.equal(done.code, 0, done.stderr);
    assert.match(done.stdout.toString(), /succeeded: 2 of 2 files written back/);

    const listed = await runCli(['jobs', '--label', 'run=1', '--json'], { url });
    const ids = listed.stdout
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as Job).id);
    assert.deepEqual(ids, [again.id, job.id]);
  });

  test('directories and options arrive', async () => {
    const id = await submitted(
      '-d',
      '/run',
      '--exclude',
      '*.tmp',
      '--sync',
      '--file-timeout',
      '2m',
      '--deadline',
      '1h',
      '/a',
    );
    const { options } = await stored.store.getJob(id);
    assert.ok('mode' in options);
    assert.deepEqual(
      [options.mode, options.fileTimeoutSeconds, options.deadlineSeconds],
      ['sync', 120, 3600],
    );
    assert.equal((await runCli(['cancel', id], { url })).code, 0);
  });

  test('a job that is canceled while one waits ends the wait with 12', async () => {
    const id = await submitted('/never/worked/on');
    const waiting = runCli(['wait', id, '--timeout', '60'], { url });
    assert.equal((await runCli(['cancel', id], { url })).code, 0);
    const waited = await waiting;
    assert.equal(waited.code, 12, waited.stderr);
    assert.match(waited.stdout.toString(), /canceled: 0 of 1 file written back, 1 canceled/);
  });

  test('a wait ends with 124 when time is over', async () => {
    const id = await submitted('/never/worked/on/either');
    assert.equal((await runCli(['wait', id, '--timeout', '0.2'], { url })).code, 124);
    await runCli(['cancel', id], { url });
  });

  test('a cache is paused and resumed', async () => {
    const paused = await runCli(['caches', 'pause', 'nas', '--reason', 'upgrade'], { url });
    assert.equal(paused.stdout.toString(), 'nas is paused: upgrade\n', paused.stderr);
    assert.match((await runCli(['caches'], { url })).stdout.toString(), /is paused: upgrade/);
    const resumed = await runCli(['caches', 'resume', 'nas'], { url });
    assert.equal(resumed.stdout.toString(), 'nas is not paused\n', resumed.stderr);
  });

  for (const [args, code, sentence] of [
    [['submit', '--cache', 'nsa', '--export', '/e', 'f'], 1, /\(UNKNOWN_CACHE, /],
    [['submit', ...TARGET, 'x'.repeat(5000)], 1, /has more than 4096 bytes|4096 are allowed/],
    [['submit', ...TARGET, '--deadline', '9999d', 'f'], 1, /deadlineSeconds/],
    [['submit', ...TARGET, '-l', '=x=', 'f'], 2, /--label/],
    [['wait', 'f0nosuchjob'], 1, /\(JOB_NOT_FOUND, /],
    [['retry', 'f0nosuchjob'], 1, /\(JOB_NOT_FOUND, /],
    [['caches', 'pause', 'nope', '--reason', 'x'], 1, /\(CACHE_NOT_FOUND, /],
  ] as const) {
    test(`refused: ${args.join(' ').slice(0, 60)}`, async () => {
      const run = await runCli(args, { url });
      assert.equal(run.code, code, run.stderr);
      assert.match(run.stderr, sentence);
      assert.match(run.stderr, /^writeback: .*\n$/);
    });
  }

  test('a webhook is named, refused if the service does not call it, listed and called again', async () => {
    const asked = ['--webhook', 'hook', '--webhook-event', 'job.ended', '--webhook-event', 'job.started'];
    const id = await submitted(...asked, '/run/webhook.dat');
    assert.deepEqual((await stored.store.getJob(id)).webhook, {
      to: 'hook',
      events: ['job.started', 'job.ended'],
    });
    const byUrl = await submitted('--webhook', 'https://jobs.example.org/t?k=1', '/run/by-url.dat');
    assert.equal((await stored.store.getJob(byUrl)).webhook?.to, 'https://jobs.example.org');
    for (const wrong of [
      'hoook',
      'https://evil.example.org/',
      'http://jobs.example.org/',
      'file:///etc/passwd',
    ]) {
      const refused = await runCli(['submit', ...TARGET, '--webhook', wrong, '/run/x.dat'], { url });
      assert.notEqual(refused.code, 0, wrong);
      assert.match(refused.stderr, /There is no webhook endpoint|is none of the origins/, wrong);
    }
    const none = await runCli(['deliveries', id], { url });
    assert.deepEqual([none.code, none.stdout.toString()], [0, '']);
    await stored.store.cancel(id);
    const listed = await runCli(['deliveries', id], { url });
    const delivery = id.replace('job_', 'msg_').concat('_ended');
    assert.match(listed.stdout.toString(), new RegExp(`${delivery} +job.ended +hook +pending +0`));
    const again = await runCli(['deliveries', id, '--resend', delivery, '--json'], { url });
    assert.equal(JSON.parse(again.stdout.toString()).state, 'pending');
    assert.notEqual((await runCli(['deliveries', id, '--resend', 'msg_nope'], { url })).code, 0);
  });
});
