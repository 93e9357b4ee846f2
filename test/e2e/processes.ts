import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Job } from '../../src/model/job.js';
import { isTerminalJobState } from '../../src/model/words.js';
import { until } from '../support/until.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));
const START_MS = 60_000;

export interface ServiceProcess {
  readonly pid: number;
  /** '' for a worker. */
  readonly url: string;
  readonly configFile: string;
  /** What stands in it at first. */
  readonly config: Record<string, unknown>;
  /** What it logged so far. */
  log(): string;
  kill(signal: NodeJS.Signals): void;
  /** Resolves to its exit status, or the signal that ended it. */
  readonly ended: Promise<number | string>;
}

/** Whose end takes with it what was started for it: a test, or a suite that collects. */
export type Owner = Pick<TestContext, 'after'>;

/** A folder that goes away when the test ends. */
export async function testFolder(t: Owner): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'writeback-e2e-'));
  t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 }));
  return folder;
}

/** `writeback serve` as a process of its own, ready to work. Killed when the test ends, if it still runs. */
export async function startService(
  t: Owner,
  config: Record<string, unknown>,
  args: readonly string[] = [],
): Promise<ServiceProcess> {
  const folder = await testFolder(t);
  const file = join(folder, 'config.yaml');
  const whole = { http: { port: 0 }, dataDir: join(folder, 'data'), ...config };
  await writeFile(file, JSON.stringify(whole));
  const { child, log, ended } = startProgram(t, ['serve', '--config', file, ...args]);
  const ready = await firstLine(child, ended, log);
  return {
    pid: child.pid as number,
    configFile: file,
    config: whole,
    url: /https?:\/\/[^\s/]+/.exec(ready)?.[0] ?? '',
    log,
    kill: (signal) => child.kill(signal),
    ended,
  };
}

export function startProgram(
  t: Owner,
  args: readonly string[],
): { child: ChildProcess; log: () => string; ended: Promise<number | string> } {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(WRITEBACK_|NODE_TEST)/.test(name)),
  );
  const child = spawn(process.execPath, ['--enable-source-maps', MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env,
  });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  const ended = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | string);
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await ended;
  });
  return { child, log: () => text, ended };
}

async function firstLine(child: ChildProcess, ended: Promise<unknown>, log: () => string): Promise<string> {
  assert.ok(child.stdout);
  const line = once(createInterface({ input: child.stdout }), 'line').then(([first]) => String(first));
  const early = ended.then((how) => assert.fail(`it ended with ${how}:\n${log()}`));
  const late = sleep(START_MS, undefined, { ref: false }).then(() =>
    assert.fail(`it did not start:\n${log()}`),
  );
  return Promise.race([line, early, late]);
}

/** Submits a list as text; the job as the 202 has it. */
export async function post(
  url: string,
  query: Record<string, string>,
  paths: readonly string[],
): Promise<Job> {
  const reply = await fetch(`${url}/v1/flushes?${new URLSearchParams(query)}`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: paths.join('\n'),
  });
  const body = (await reply.json()) as Job;
  assert.equal(reply.status, 202, JSON.stringify(body));
  return body;
}

export async function getJob(url: string, id: string): Promise<Job> {
  return (await (await fetch(`${url}/v1/jobs/${id}`)).json()) as Job;
}

export async function getJson<T>(url: string): Promise<T> {
  return (await (await fetch(url)).json()) as T;
}

/** Waits for the end of a job, and checks that every file is accounted for once. */
export async function ended(url: string, id: string, withinMs = 120_000): Promise<Job> {
  let job = await getJob(url, id);
  await until(
    `the job has ended`,
    async () => {
      job = await getJob(url, id);
      return isTerminalJobState(job.state);
    },
    withinMs,
    () => JSON.stringify(job),
  );
  const { progress } = job;
  const sum =
    progress.filesSucceeded +
    progress.filesFailed +
    progress.filesSkipped +
    progress.filesCanceled +
    progress.filesExpired;
  assert.deepEqual(
    [sum, progress.filesPending, progress.filesActive],
    [progress.filesTotal, 0, 0],
    JSON.stringify(progress),
  );
  return job;
}

/** `file-0000000` …: the files of a simulated cache's export /synthetic. */
export function numbered(count: number, first = 0): string[] {
  return Array.from({ length: count }, (_, i) => `file-${String(first + i).padStart(7, '0')}`);
}

/** How the configuration of a service names a server on this machine. */
export function cacheAt(
  ports: { mount: number; nfs: number },
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    name: 'sim',
    addresses: ['127.0.0.1'],
    dialect: 'hpc-cache',
    ports: { mount: ports.mount, nfs: ports.nfs },
    ...more,
  };
}
