import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { Redis } from 'ioredis';
import {
  type EmbeddedRedis,
  type EmbeddedRedisOptions,
  startEmbeddedRedis,
} from '../../src/store/embedded-redis.js';
import { EmbeddedRedisError } from '../../src/store/embedded-redis-error.js';
import { until } from '../support/until.js';

let folder: string;
const running = new Set<EmbeddedRedis>();
const parents = new Set<ChildProcess>();
const connections = new Set<Redis>();

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'writeback-embedded-'));
});

afterEach(async () => {
  for (const connection of connections) connection.disconnect();
  for (const parent of parents) parent.kill('SIGKILL');
  for (const redis of running) await redis.stop();
  connections.clear();
  parents.clear();
  running.clear();
  await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
});

async function start(options: Partial<EmbeddedRedisOptions> = {}): Promise<EmbeddedRedis> {
  const redis = await startEmbeddedRedis({
    dataDir: join(folder, 'data'),
    fsync: 'always',
    serverPath: null,
    searchPath: process.env.PATH ?? '',
    startTimeoutMs: 20_000,
    ...options,
  });
  running.add(redis);
  return redis;
}

function client(url: string): Redis {
  const connection = new Redis({ path: decodeURIComponent(new URL(url).pathname), retryStrategy: () => 20 });
  connection.on('error', () => {});
  connections.add(connection);
  return connection;
}

/** A zombie does not count: where nobody reaps orphans, they stay as such. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat[stat.lastIndexOf(')') + 2] !== 'Z';
  } catch {
    return false;
  }
}

/** Another process that owns a private Redis on the folder of this test. */
async function startParent(): Promise<{ parent: ChildProcess; url: string; pid: number }> {
  const module = new URL('../../src/store/embedded-redis.js', import.meta.url).href;
  const source = `
    const { startEmbeddedRedis } = await import(${JSON.stringify(module)});
    const options = { fsync: 'always', serverPath: null, searchPath: process.env.PATH, startTimeoutMs: 20000 };
    const redis = await startEmbeddedRedis({ dataDir: ${JSON.stringify(join(folder, 'data'))}, ...options });
    process.stdout.write(JSON.stringify({ url: redis.url, pid: redis.pid }) + '\\n');
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  parents.add(parent);
  const line = await new Promise<string>((resolve, reject) => {
    parent.stdout?.once('data', (data: Buffer) => resolve(data.toString()));
    parent.once('exit', (code) => reject(new Error(`the parent ended with ${code}`)));
  });
  return { parent, ...(JSON.parse(line) as { url: string; pid: number }) };
}

test('data survives a stop and a start, and nothing runs in between', async () => {
  const first = await start();
  await client(first.url).set('key', 'kept');
  await first.stop();
  assert.equal(isAlive(first.pid), false);
  const second = await start();
  assert.equal(await client(second.url).get('key'), 'kept');
});

test('every write is on disk before it is answered, and nothing is ever evicted', async () => {
  const redis = client((await start()).url);
  assert.deepEqual(await redis.config('GET', 'appendonly'), ['appendonly', 'yes']);
  assert.deepEqual(await redis.config('GET', 'appendfsync'), ['appendfsync', 'always']);
  assert.deepEqual(await redis.config('GET', 'maxmemory-policy'), ['maxmemory-policy', 'noeviction']);
  assert.deepEqual(await redis.config('GET', 'port'), ['port', '0']);
});

test('kill -9 of the parent leaves no server behind, and the next one finds the data', async () => {
  const { parent, url, pid } = await startParent();
  await client(url).set('key', 'kept');
  parent.kill('SIGKILL');
  await until('the server ends', () => !isAlive(pid));
  const next = await start();
  assert.equal(await client(next.url).get('key'), 'kept');
});

test('a server whose folder was removed ends with its parent too', async () => {
  const { parent, pid } = await startParent();
  await rm(join(folder, 'data'), { recursive: true });
  parent.kill('SIGKILL');
  await until('the end of the server', () => !isAlive(pid));
});

test('a start in the moment after kill -9 of the parent waits for the old server to end', async () => {
  const { parent, pid } = await startParent();
  parent.kill('SIGKILL');
  const next = await start();
  assert.equal(isAlive(pid), false);
  assert.notEqual(next.pid, pid);
});

test('a second parent on the same folder is refused in words, and the first one goes on', async () => {
  const first = await start();
  await assert.rejects(start(), (error) => {
    assert.ok(error instanceof EmbeddedRedisError);
    assert.equal(error.code, 'IN_USE');
    assert.match(error.message, new RegExp(`in use by another service \\(process ${process.pid}\\)`));
    return true;
  });
  assert.equal(await client(first.url).ping(), 'PONG');
});

test('a server whose guard and parent were both killed is found and replaced', async () => {
  const { parent, url, pid } = await startParent();
  await client(url).set('key', 'kept');
  // The guard leads the process group that the server and the watcher are in.
  const group = Number((await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ')[2]);
  const members = await processesOfGroup(group);
  assert.ok(members.length >= 3 && members.includes(pid));
  // Otherwise it may notice that the guard is gone, and start another, before it is killed itself.
  parent.kill('SIGSTOP');
  for (const member of members) if (member !== pid) process.kill(member, 'SIGKILL');
  parent.kill('SIGKILL');
  await until('only the server is left', async () => (await processesOfGroup(group)).length === 1);
  assert.equal(isAlive(pid), true);

  const next = await start();
  assert.equal(isAlive(pid), false);
  assert.equal(await client(next.url).get('key'), 'kept');
});

test('a server that crashes is started again on the same address, and its end is told', async () => {
  const told: string[] = [];
  const redis = await start({ onCrash: (message) => told.push(message) });
  const connection = client(redis.url);
  await connection.set('key', 'kept');
  const before = redis.pid;
  process.kill(before, 'SIGKILL');
  await until('another server runs', () => redis.pid !== before);
  assert.equal(await connection.get('key'), 'kept');
  assert.match(told[0] ?? '', /ended .* started again/);
});

test('a data folder whose path is longer than a socket address works', async () => {
  const dataDir = join(folder, 'long'.repeat(40));
  const redis = await start({ dataDir });
  assert.equal(await client(redis.url).ping(), 'PONG');
  assert.ok(existsSync(join(dataDir, 'appendonlydir')) || existsSync(join(dataDir, 'appendonly.aof')));
  await rm(join(new URL(redis.url).pathname, '..'), { recursive: true, force: true });
});

test('a folder name with spaces, quotes and percent signs works', async () => {
  const redis = await start({ dataDir: join(folder, `a "b" 'c' 100%20 #1 $HOME`) });
  assert.equal(await client(redis.url).ping(), 'PONG');
});

test('without a server installed the packages are named', async () => {
  await assert.rejects(start({ serverPath: '/nowhere/redis-server' }), { code: 'NOT_INSTALLED' });
});

test('a server that cannot read its data says why, and leaves no process behind', async () => {
  const dataDir = join(folder, 'data');
  await mkdir(join(dataDir, 'appendonlydir'), { recursive: true });
  await writeFile(join(dataDir, 'appendonlydir', 'appendonly.aof.manifest'), 'nonsense\n');
  await assert.rejects(start(), (error) => {
    assert.ok(error instanceof EmbeddedRedisError);
    assert.equal(error.code, 'NOT_STARTED');
    assert.match(error.message, /AOF|manifest/i);
    return true;
  });
});

test('a folder that cannot be written to is told', async () => {
  await writeFile(join(folder, 'file'), '');
  await assert.rejects(start({ dataDir: join(folder, 'file', 'data') }), /cannot be used/);
});

async function processesOfGroup(group: number): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(pgrp) === group && state !== 'Z') found.push(Number(name));
  }
  return found;
}
