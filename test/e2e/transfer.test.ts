import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, realpath, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Job } from '../../src/model/job.js';
import { encodeTree } from '../../src/scr/codec.js';
import { runCli } from '../support/cli.js';
import { startRedis } from '../support/redis.js';
import { filesTree, isDone, readTree, treeOf, valueAt } from '../support/scr.js';
import { until } from '../support/until.js';
import { ended, getJob, type ServiceProcess, startService, testFolder } from './processes.js';

const MIB = 1024 * 1024;
const NODE = 'n042';

interface Site {
  api: ServiceProcess;
  source: string;
  destination: string;
  startAgent(): Promise<ServiceProcess>;
}

async function startSite(t: TestContext): Promise<Site> {
  const redis = await startRedis({ durable: true });
  t.after(() => redis.stop());
  const folder = await realpath(await testFolder(t));
  const [source, destination] = [join(folder, 'local'), join(folder, 'parallel')];
  await mkdir(source);
  await mkdir(destination);
  const config = {
    redis: { url: redis.url },
    worker: { lockSeconds: 2, stalledCheckSeconds: 1 },
    agent: { sourceRoots: [source], destinationRoots: [destination] },
  };
  const api = await startService(t, config, ['--role', 'api']);
  return {
    api,
    source,
    destination,
    startAgent: () => startService(t, config, ['--role', 'agent', '--node', NODE]),
  };
}

async function hash(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

test('an agent that is killed in mid-file goes on behind what was durable when it is started again', async (t) => {
  const { api, source, destination, startAgent } = await startSite(t);
  await writeFile(join(source, 'large'), randomBytes(16 * MIB));
  await writeFile(join(source, 'small'), randomBytes(1000));
  const agent = await startAgent();
  const reply = await fetch(`${api.url}/v1/transfers`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      node: NODE,
      files: ['large', 'small'].map((name) => ({
        source: join(source, name),
        destination: join(destination, name),
      })),
      limits: { bytesPerSecond: 4 * MIB },
      verify: true,
    }),
  });
  assert.equal(reply.status, 202);
  const { id } = (await reply.json()) as Job;
  await until('half of it is durable', async () => (await getJob(api.url, id)).progress.bytesDone > 6 * MIB);
  agent.kill('SIGKILL');
  await agent.ended;
  const before = (await getJob(api.url, id)).progress.bytesDone;
  const [part] = (await readdir(destination)).filter((name) => name.endsWith('.part'));
  assert.match(part ?? '', /^\.large\./);
  await startAgent();
  let least = Number.POSITIVE_INFINITY;
  await until('it has ended', async () => {
    const { state, progress } = await getJob(api.url, id);
    least = Math.min(least, progress.bytesDone);
    return state === 'succeeded';
  });
  assert.ok(before > 6 * MIB && least >= before, `${before} before, ${least} after`);
  const job = await ended(api.url, id);
  assert.deepEqual([job.progress.bytesTotal, job.progress.bytesDone], [16 * MIB + 1000, 16 * MIB + 1000]);
  assert.deepEqual((await readdir(destination)).sort(), ['large', 'small']);
  for (const name of ['large', 'small']) {
    assert.equal(await hash(join(source, name)), await hash(join(destination, name)));
  }
});

async function postTransfer(url: string, body: Record<string, unknown>): Promise<string> {
  const reply = await fetch(`${url}/v1/transfers`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ node: NODE, ...body }),
  });
  const job = (await reply.json()) as Job;
  assert.equal(reply.status, 202, JSON.stringify(job));
  return job.id;
}

test('an agent that is killed while it drives an SCR transfer file goes on from WRITTEN, and the job counts each file once', async (t) => {
  const { api, source, destination, startAgent } = await startSite(t);
  const entries = [];
  for (const [name, size] of [
    ['large', 12 * MIB],
    ['small', 1000],
    ['empty', 0],
  ] as const) {
    await writeFile(join(source, name), randomBytes(size));
    entries.push({ source: join(source, name), destination: join(destination, 'set', name), size });
  }
  const large = join(source, 'large');
  const file = join(source, 'transfer.scr');
  await writeFile(file, encodeTree(treeOf(filesTree(entries, { bw: 4 * MIB }))));
  const agent = await startAgent();
  const id = await postTransfer(api.url, { scrTransferFile: file });
  const written = async () => Number(valueAt(await readTree(file), 'FILES', large, 'WRITTEN'));
  await until('a third is recorded', async () => (await written()) > 4 * MIB);
  agent.kill('SIGKILL');
  await agent.ended;
  const before = await written();
  assert.ok(!isDone(await readTree(file)));
  await startAgent();
  let least = Number.POSITIVE_INFINITY;
  await until('the job has ended', async () => {
    least = Math.min(least, await written());
    return (await getJob(api.url, id)).state === 'succeeded';
  });
  assert.ok(least >= before, `${before} before, ${least} after`);
  const { progress } = await ended(api.url, id);
  assert.deepEqual(
    [progress.filesTotal, progress.filesSucceeded, progress.bytesDone],
    [3, 3, 12 * MIB + 1000],
  );
  for (const { source: from, destination: to } of entries) assert.equal(await hash(from), await hash(to));
  const tree = await readTree(file);
  assert.deepEqual([isDone(tree), valueAt(tree, 'STATE')], [true, 'STOPPED']);
});

test('a CPU limit of a job holds for its agent, and is lifted while it copies', {
  skip: process.platform !== 'linux',
}, async (t) => {
  const { api, source, destination, startAgent } = await startSite(t);
  // Sparse: reading it costs CPU time and no disk.
  await writeFile(join(source, 'large'), '');
  await truncate(join(source, 'large'), 1024 * MIB);
  const agent = await startAgent();
  const cpuSeconds = async (): Promise<number> => {
    const fields = (await readFile(`/proc/${agent.pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };
  const id = await postTransfer(api.url, {
    files: [{ source: join(source, 'large'), destination: join(destination, 'large') }],
    limits: { cpuPercent: 5 },
  });
  await until('bytes are moving', async () => (await getJob(api.url, id)).progress.bytesDone > 0);
  const begunAt = performance.now();
  const before = await cpuSeconds();
  await until('some seconds have passed', () => performance.now() - begunAt > 3000);
  const share = (await cpuSeconds()) - before;
  const seconds = (performance.now() - begunAt) / 1000;
  // What was saved up before, and a clock tick at either end.
  assert.ok(share <= 0.05 * 1.1 * seconds + 0.04, `${share} s of CPU time in ${seconds} s`);
  const { state, progress } = await getJob(api.url, id);
  assert.ok(state === 'running' && progress.bytesDone < 1024 * MIB, `${state}, ${progress.bytesDone}`);
  const patched = await fetch(`${api.url}/v1/jobs/${id}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ limits: { cpuPercent: null } }),
  });
  assert.equal(patched.status, 200);
  await until('it uses more', async () => (await cpuSeconds()) - before > 2 * share + 0.2);
  await fetch(`${api.url}/v1/jobs/${id}/cancel`, { method: 'POST' });
  await ended(api.url, id);
});

test('the command submits files, lists and directories, shows bytes, and a limit is changed while it copies', async (t) => {
  const { api, source, destination, startAgent } = await startSite(t);
  const { url } = api;
  for (const name of ['a', 'b', 'c']) await writeFile(join(source, name), randomBytes(2 * MIB));
  await mkdir(join(source, 'run'));
  await writeFile(join(source, 'run/x.dat'), 'x');
  await writeFile(join(source, 'run/y.tmp'), 'y');
  const unserved = await runCli(
    [
      'submit',
      '--transfer',
      '--node',
      NODE,
      '--to',
      destination,
      '--limit',
      '500K',
      '--no-wait',
      join(source, 'a'),
    ],
    { url },
  );
  assert.equal(unserved.code, 0, unserved.stderr);
  const id = unserved.stdout.toString().trim();
  assert.match((await getJob(url, id)).statusDetail ?? '', /No agent of node n042 is connected/);
  await startAgent();
  await until('bytes are moving', async () => (await getJob(url, id)).progress.bytesDone > 0);
  const patched = await fetch(`${url}/v1/jobs/${id}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ limits: { bytesPerSecond: null } }),
  });
  assert.equal(patched.status, 200);
  assert.equal((await ended(url, id)).state, 'succeeded');
  const late = await fetch(`${url}/v1/jobs/${id}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ limits: { bytesPerSecond: 1000 } }),
  });
  assert.deepEqual([late.status, ((await late.json()) as { code: string }).code], [409, 'JOB_ENDED']);

  const list = Buffer.from(`${source}/b\t${destination}/deep/b2\n${source}/c\t${destination}/c2\n`);
  const run = await runCli(['submit', '--transfer', '--node', NODE, '--verify', '-f', '-'], {
    url,
    stdin: [list],
    terminalColumns: 120,
  });
  assert.equal(run.code, 0, run.stderr);
  assert.match(run.stdout.toString(), /succeeded: 2 of 2 files copied, 4\.0 MiB/);
  assert.match(run.stderr, /4\.0 MiB of 4\.0 MiB/);
  assert.equal(await hash(join(source, 'b')), await hash(join(destination, 'deep/b2')));

  const directory = await runCli(
    [
      'submit',
      '--transfer',
      '--node',
      NODE,
      '-d',
      join(source, 'run'),
      '--exclude',
      '*.tmp',
      '--to',
      `${destination}/run`,
    ],
    { url },
  );
  assert.equal(directory.code, 0, directory.stderr);
  assert.deepEqual(await readdir(join(destination, 'run')), ['x.dat']);

  const shown = await runCli(['jobs', '--node', NODE], { url });
  assert.match(shown.stdout.toString(), /n042 +\(transfer\)/);
  const wrong = await runCli(['submit', '--to', '/x', '/y'], { url });
  assert.deepEqual([wrong.code, /need --transfer/.test(wrong.stderr)], [2, true]);
  const nowhere = await runCli(['submit', '--transfer', '--to', '/x', '/y'], { url });
  assert.deepEqual([nowhere.code, /needs --node/.test(nowhere.stderr)], [2, true]);
});
