import { isIP } from 'node:net';
import { Cluster, Redis, type RedisOptions } from 'ioredis';

/** Where Redis is: `redis://`, `rediss://` (TLS), or `unix:///path` (with a password: `unix://:secret@localhost/path`). */
export interface RedisTarget {
  /** With `cluster`, further nodes to ask may follow, separated by commas. */
  url: string;
  cluster: boolean;
}

export type Connection = Redis | Cluster;

/** Longest wait for a reply before a request is answered with STORE_UNAVAILABLE. */
const COMMAND_TIMEOUT_MS = 1500;
const CONNECT_TIMEOUT_MS = 2000;

/**
 * For requests somebody waits for: with Redis down, frozen or restarting every call fails within seconds, and works
 * again as soon as Redis does. A command that timed out may still have run.
 */
export function connectFailingFast(target: RedisTarget, name: string): Connection {
  return connect(target, name, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    commandTimeout: COMMAND_TIMEOUT_MS,
  });
}

/**
 * For workers and subscriptions: waits for Redis as long as it takes. Never with a command timeout, which would end
 * BullMQ's blocking reads.
 */
export function connectWaiting(target: RedisTarget, name: string): Connection {
  return connect(target, name, { maxRetriesPerRequest: null });
}

/** For a BullMQ worker: waits for Redis as long as it takes, until it is ended. */
export interface QueueConnection {
  readonly redis: Connection;
  /** Ends it at once, with every connection that BullMQ made from it; whatever waits for an answer is rejected. */
  end(): void;
}

/**
 * BullMQ makes a duplicate to block on, and its `close` waits for the end of that: with Redis away for ever, because
 * ioredis between two tries tells of no end.
 */
export function connectForQueue(target: RedisTarget, name: string): QueueConnection {
  const redis = connectWaiting(target, name);
  const open = new Set<Connection>([redis]);
  const duplicate = redis.duplicate.bind(redis) as (...options: unknown[]) => Connection;
  redis.duplicate = ((...options: unknown[]) => {
    const copy = duplicate(...options);
    open.add(copy);
    copy.on('end', () => open.delete(copy));
    copy.on('connecting', () => open.add(copy));
    return copy;
  }) as typeof redis.duplicate;
  return {
    redis,
    end() {
      for (const connection of [...open]) disconnect(connection);
    },
  };
}

/** Resolves when commands can be sent, or after `waitMs` (Redis may be down at the start; it is no reason to fail). */
export async function untilReady(connection: Connection, waitMs: number): Promise<void> {
  if (connection.status === 'ready') return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      connection.off('ready', end);
      resolve();
    };
    const timer = setTimeout(end, waitMs);
    connection.once('ready', end);
  });
}

/** Ends it at once; whatever waits for an answer is rejected. */
export function disconnect(connection: Connection): void {
  // Between two tries ioredis has no socket whose end could reject what waits; a new try has.
  if (connection.status === 'reconnecting') connection.connect().catch(() => {});
  connection.disconnect();
}

/** @throws {TypeError} for a URL of another scheme */
function connect(target: RedisTarget, name: string, options: RedisOptions): Connection {
  const retryStrategy = (tries: number): number => Math.min(50 * 2 ** Math.min(tries, 6), 1000);
  const common: RedisOptions = {
    ...options,
    connectTimeout: CONNECT_TIMEOUT_MS,
    connectionName: name,
    keepAlive: 10_000,
    // A restarted replica or a failed-over primary answers READONLY: connect anew and ask again.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 2 : false),
  };
  let connection: Connection;
  if (target.cluster) {
    const nodes = target.url.split(',').map(addressOf);
    const { host: _host, port: _port, path: _path, ...login } = nodes[0] ?? {};
    connection = new Cluster(
      nodes.map((node) => ({ host: node.host ?? '127.0.0.1', port: node.port ?? 6379 })),
      {
        enableOfflineQueue: options.enableOfflineQueue ?? true,
        clusterRetryStrategy: retryStrategy,
        slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
        redisOptions: { ...common, ...login },
      },
    );
  } else {
    connection = new Redis({ ...common, ...addressOf(target.url), retryStrategy });
  }
  // Without a listener an error event ends the process. Each command that fails tells its caller.
  connection.on('error', () => {});
  return connection;
}

function addressOf(text: string): RedisOptions {
  if (!URL.canParse(text.trim())) {
    // The error of URL has the text in it, and that the password.
    throw new TypeError(
      'the URL of Redis is none: it is redis://USER:PASSWORD@HOST:PORT, with "/", "@", "#" and spaces of the password encoded (%2F, %40, %23, %20)',
    );
  }
  const url = new URL(text.trim());
  const login: RedisOptions = {
    ...(url.username ? { username: decodeURIComponent(url.username) } : {}),
    ...(url.password ? { password: decodeURIComponent(url.password) } : {}),
  };
  if (url.protocol === 'unix:') return { path: decodeURIComponent(url.pathname), ...login };
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:')
    throw new TypeError(`a Redis URL begins with redis://, rediss:// or unix://, not ${url.protocol}`);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const db = url.pathname.length > 1 ? Number(url.pathname.slice(1)) : 0;
  if (!Number.isInteger(db) || db < 0)
    throw new TypeError('the path of a Redis URL is the number of a database');
  return {
    host: host || '127.0.0.1',
    port: url.port ? Number(url.port) : 6379,
    db,
    ...login,
    ...(url.protocol === 'rediss:' ? { tls: isIP(host) ? {} : { servername: host } } : {}),
  };
}
