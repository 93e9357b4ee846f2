import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis, type RedisOptions } from 'ioredis';
import { freePorts } from './free-ports.js';
import { until } from './until.js';

/** A private redis-server for one test file, on a unix socket (a cluster of one node: on a free TCP port). */
export interface TestRedis {
  /** As `connect.ts` and the configuration take it: `unix:///…` or `redis://127.0.0.1:port`. */
  readonly url: string;
  readonly cluster: boolean;
  readonly pid: number;
  /** The folder with its AOF and log. */
  readonly dir: string;
  /** A plain connection for looking at what is stored. Closed by `stop`. */
  client(options?: RedisOptions): Redis;
  /** kill -9, as a power cut of the process: resolves when it is gone. */
  kill(): Promise<void>;
  /** Starts it again on the same data and address. */
  restart(): Promise<void>;
  /** SIGSTOP: it accepts connections and never answers. */
  freeze(): void;
  thaw(): void;
  /** Kills it and removes its folder. */
  stop(): Promise<void>;
}

export interface TestRedisOptions {
  /** AOF with an fsync per write, as production should have it. Default: no persistence at all. */
  durable?: boolean;
  cluster?: boolean;
  /** More configuration, e.g. `['--maxmemory-policy', 'allkeys-lru']`. */
  args?: string[];
}

/** The shell ends redis when its standard input closes, so that a killed test run leaves no server behind. */
const GUARD =
  'redis-server "$@" >/dev/null 2>&1 </dev/null & server=$!; echo $server; read _; kill -9 $server 2>/dev/null; wait $server';

export async function startRedis(options: TestRedisOptions = {}): Promise<TestRedis> {
  const dir = await mkdtemp(join(tmpdir(), 'writeback-redis-'));
  const cluster = options.cluster ?? false;
  const [port, busPort] = cluster ? await freePorts(2) : [0, 0];
  const socket = join(dir, 'redis.sock');
  const args = ['--dir', dir, '--logfile', join(dir, 'redis.log'), '--save', '', '--port', `${port}`];
  args.push('--maxmemory-policy', 'noeviction');
  if (options.durable) args.push('--appendonly', 'yes', '--appendfsync', 'always');
  if (cluster) {
    args.push('--bind', '127.0.0.1', '--cluster-enabled', 'yes', '--cluster-port', `${busPort}`);
    args.push('--cluster-announce-ip', '127.0.0.1');
  } else {
    args.push('--unixsocket', socket);
  }
  args.push(...(options.args ?? []));

  const clients = new Set<Redis>();
  let guard: ChildProcess | null = null;
  let pid = 0;

  function client(more: RedisOptions = {}): Redis {
    const where: RedisOptions = cluster ? { host: '127.0.0.1', port } : { path: socket };
    const connection = new Redis({ ...where, retryStrategy: () => 50, ...more });
    // A test kills its server on purpose; what fails by it, fails in its own promise.
    connection.on('error', () => {});
    clients.add(connection);
    return connection;
  }

  async function start(): Promise<void> {
    const shell = spawn('sh', ['-c', GUARD, 'redis', ...args], { stdio: ['pipe', 'pipe', 'ignore'] });
    shell.stdin.on('error', () => {});
    guard = shell;
    pid = await new Promise<number>((resolve, reject) => {
      shell.once('error', reject);
      shell.stdout.once('data', (data: Buffer) => resolve(Number.parseInt(data.toString(), 10)));
    });
    const probe = client({ maxRetriesPerRequest: null });
    const timer = setTimeout(() => probe.disconnect(), 15_000);
    try {
      // A durable server answers LOADING until it has read its AOF; ioredis waits for that before "ready".
      await probe.ping();
      if (cluster) await becomeCluster(probe);
    } catch (cause) {
      throw new Error(`redis-server did not start in ${dir}; is it installed?`, { cause });
    } finally {
      clearTimeout(timer);
      probe.disconnect();
      clients.delete(probe);
    }
  }

  async function kill(): Promise<void> {
    const shell = guard;
    if (!shell) return;
    guard = null;
    const gone = new Promise<void>((resolve) => shell.once('exit', () => resolve()));
    process.kill(pid, 'SIGKILL');
    shell.stdin?.end();
    await gone;
  }

  await start();
  return {
    url: cluster ? `redis://127.0.0.1:${port}` : `unix://${socket}`,
    cluster,
    get pid() {
      return pid;
    },
    dir,
    client,
    kill,
    restart: start,
    freeze: () => process.kill(pid, 'SIGSTOP'),
    thaw: () => process.kill(pid, 'SIGCONT'),
    async stop() {
      for (const connection of clients) connection.disconnect();
      await kill();
      // A child that rewrites the AOF outlives its killed server for a moment and makes new files.
      await rm(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    },
  };
}

async function becomeCluster(probe: Redis): Promise<void> {
  const info = await probe.cluster('INFO');
  if (!info.includes('cluster_slots_assigned:16384')) await probe.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
  await until('the cluster', async () => (await probe.cluster('INFO')).includes('cluster_state:ok'));
}
