import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { EmbeddedRedisError } from './embedded-redis-error.js';
import { lastLines, makeDataDir, rotateLog, socketPath } from './redis-folder.js';
import { findServer, type ServerSearch } from './redis-program.js';

/**
 * A private Redis for a service on one host: a child on a unix socket, with its data in a folder of its own.
 *
 * Two traps shape it. A child outlives a parent that is killed, and two servers on one folder silently lose writes.
 * So a shell stands between (`GUARD`): it ends the server when the pipe from the parent closes, whatever closed it,
 * and takes two locks, both flock(2) and thus ended by the kernel with their holder, never stale:
 * `owner.lock` is held by the shell, `server.lock` by the server itself, through a descriptor it inherits. Who has
 * the first and finds the second taken has met a server whose shell was killed: it is ended, then replaced.
 */

export interface EmbeddedRedisOptions extends ServerSearch {
  /** Made if it is not there (mode 0700). */
  dataDir: string;
  fsync: 'always' | 'everysec';
  /** For finding the lock, starting, and reading the data. */
  startTimeoutMs: number;
  /** Told when the server ended without being asked; it is started again, after a pause. */
  onCrash?(message: string): void;
}

export interface EmbeddedRedis {
  /** unix:// URL. */
  readonly url: string;
  /** Process id of the server that runs now. */
  readonly pid: number;
  /** Ends the server, and resolves when it is gone: after seconds at most. */
  stop(): Promise<void>;
}

const EXIT_IN_USE = 75;
const EXIT_LEFTOVER = 76;
const STOP_TIMEOUT_MS = 15_000;

/**
 * $1 the owner's process id, $2 the server, then its arguments; runs in the data folder.
 * The watcher (the subshell) outlives a killed shell, so that the server still ends with the parent; it holds no lock
 * and compares the pid in server.lock, lest it end a successor. Where the folder is gone, or just going, there is none.
 */
const GUARD = `
owner=$1; server=$2; shift 2
try() { n=0; until flock -n "$1"; do n=$((n + 1)); [ $n -ge "$2" ] && return 1; sleep 0.1; done; }
is_server() { [ ! -e /proc/self/cmdline ] || grep -Eqa 'redis|valkey' "/proc/$1/cmdline" 2>/dev/null; }
exec 3<&0 8<>owner.lock 9<>server.lock
if ! flock -n 8; then
  holder=$(cat owner.lock)
  tries=150
  # Briefly too if it lives: it may be dying, or dead and not yet reaped.
  [ -n "$holder" ] && kill -0 "$holder" 2>/dev/null && tries=20
  try 8 $tries || exit ${EXIT_IN_USE}
fi
echo "$owner" >owner.lock
if ! flock -n 9; then
  leftover=$(cat server.lock)
  [ -n "$leftover" ] && is_server "$leftover" && kill -TERM "$leftover"
  if ! try 9 100; then
    [ -n "$leftover" ] && is_server "$leftover" && kill -KILL "$leftover"
    try 9 100 || exit ${EXIT_LEFTOVER}
  fi
fi
"$server" "$@" 3<&- 8<&- 9<&9 </dev/null >&2 &
pid=$!
echo "$pid" >server.lock
(
  exec 8<&- 9<&- >/dev/null
  read -r _ <&3
  n=0
  while now=$(cat server.lock 2>/dev/null); [ "\${now:-$pid}" = "$pid" ] && kill -0 "$pid" 2>/dev/null; do
    [ $n -eq 0 ] && kill -TERM "$pid"
    [ $n -eq 100 ] && kill -KILL "$pid"
    n=$((n + 1)); sleep 0.1
  done
) &
watcher=$!
echo "$pid"
wait "$pid"
status=$?
kill "$watcher" 2>/dev/null
exit $status
`;

/** @throws {EmbeddedRedisError} */
export async function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis> {
  const server = await findServer(options);
  const dataDir = await makeDataDir(options.dataDir);
  const socket = await socketPath(dataDir);
  const command: Command = { server, dataDir, socket, args: serverArguments(dataDir, socket, options.fsync) };

  let stopping = false;
  let current = await launch(command, options.startTimeoutMs);
  const wake = new AbortController();

  /** ioredis connects again to the same socket by itself: nobody else needs to know of a new server. */
  const supervise = async (): Promise<void> => {
    for (let pauseMs = 500; ; pauseMs = Math.min(pauseMs * 2, 30_000)) {
      const started = Date.now();
      const end = await current.ended;
      if (stopping) return;
      options.onCrash?.(
        `the private Redis ended (${end}) and is started again; see ${join(dataDir, 'redis.log')}`,
      );
      if (Date.now() - started > 60_000) pauseMs = 500;
      for (;;) {
        await delay(pauseMs, undefined, { signal: wake.signal, ref: false }).catch(() => {});
        if (stopping) return;
        try {
          current = await launch(command, options.startTimeoutMs);
          break;
        } catch (error) {
          options.onCrash?.(error instanceof Error ? error.message : String(error));
          pauseMs = Math.min(pauseMs * 2, 30_000);
        }
      }
      if (stopping) await current.stop();
    }
  };
  const supervision = supervise();

  return {
    url: `unix://${encodeURI(socket).replace(/[?#]/g, encodeURIComponent)}`,
    get pid() {
      return current.pid;
    },
    async stop() {
      stopping = true;
      wake.abort();
      await current.stop();
      await supervision;
    },
  };
}

interface Command {
  server: string;
  dataDir: string;
  socket: string;
  args: string[];
}

interface Running {
  pid: number;
  /** Says how it ended. */
  ended: Promise<string>;
  stop(): Promise<void>;
}

function serverArguments(dataDir: string, socket: string, fsync: string): string[] {
  return Object.entries({
    dir: dataDir,
    logfile: 'redis.log',
    port: '0',
    unixsocket: socket,
    unixsocketperm: '700',
    daemonize: 'no',
    save: '',
    appendonly: 'yes',
    appendfsync: fsync,
    // A torn end of the file is what a power cut leaves; the rest is whole.
    'aof-load-truncated': 'yes',
    'maxmemory-policy': 'noeviction',
  }).flatMap(([name, value]) => [`--${name}`, value]);
}

async function launch(command: Command, timeoutMs: number): Promise<Running> {
  const deadlineAt = Date.now() + timeoutMs;
  await rotateLog(join(command.dataDir, 'redis.log'));
  // A group of its own: Ctrl-C in a terminal must not end the server before the service is done with it.
  const guard = spawn(
    'sh',
    ['-c', GUARD, 'writeback-redis', `${process.pid}`, command.server, ...command.args],
    {
      cwd: command.dataDir,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  guard.stdin?.on('error', () => {});
  const stderr = lastBytes(guard, 4096);
  const ended = new Promise<string>((resolve) => {
    guard.once('error', (error) => resolve(error.message));
    guard.once('exit', (code, signal) => resolve(signal ?? `status ${code}`));
  });
  let gone = false;
  void ended.then(() => {
    gone = true;
    guard.stdin?.destroy();
  });
  let pid = 0;
  const stop = async (): Promise<void> => {
    if (gone) return;
    guard.stdin?.end();
    const timer = setTimeout(() => {
      if (pid > 0 && !gone) process.kill(pid, 'SIGKILL');
    }, STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  };

  try {
    const started = await Promise.race([
      firstNumber(guard),
      ended,
      delay(timeoutMs, 'no lock', { ref: false }),
    ]);
    if (typeof started !== 'number') throw new Error(started);
    pid = started;
    await Promise.race([
      answers(command.socket, pid, () => gone || Date.now() > deadlineAt),
      ended.then((how) => Promise.reject(new Error(how))),
    ]);
  } catch (cause) {
    await stop();
    throw await startError(command, guard.exitCode, cause, stderr());
  }
  for (const handle of [guard, guard.stdin, guard.stdout, guard.stderr]) unref(handle);
  return { pid, ended, stop };
}

/** A service that ends must not be kept alive by its server's pipes. */
function unref(handle: unknown): void {
  (handle as { unref?: () => void } | null)?.unref?.();
}

async function startError(
  { dataDir, server }: Command,
  exitCode: number | null,
  cause: unknown,
  stderr: string,
): Promise<EmbeddedRedisError> {
  if (exitCode === EXIT_IN_USE) {
    const owner = (await readFile(join(dataDir, 'owner.lock'), 'utf8').catch(() => '')).trim();
    return new EmbeddedRedisError(
      'IN_USE',
      `The data directory ${dataDir} is in use by another service${owner && ` (process ${owner})`}. Stop that one, give this one a data directory of its own, or let both share a Redis by its URL.`,
    );
  }
  if (exitCode === EXIT_LEFTOVER) {
    return new EmbeddedRedisError(
      'IN_USE',
      `A Redis that an earlier service left behind on ${dataDir} does not end. Its process id is in ${join(dataDir, 'server.lock')}: end it, then start again.`,
    );
  }
  if (exitCode === 127 && /flock/.test(stderr)) {
    return new EmbeddedRedisError(
      'NOT_INSTALLED',
      'The private Redis needs the flock command. It is in the package util-linux (Debian, Ubuntu, RHEL, Fedora, SUSE) or flock (Homebrew). Or give a Redis by its URL.',
    );
  }
  const log = await lastLines(join(dataDir, 'redis.log'), 5);
  const said = [stderr.trim(), log].filter((text) => text !== '').join('\n');
  const why = cause instanceof Error ? cause.message : String(cause);
  return new EmbeddedRedisError(
    'NOT_STARTED',
    `The private Redis (${server}, data in ${dataDir}) did not start: ${why}.${said && `\n${said}`}`,
    { cause },
  );
}

/** Resolves when the server has read its data and is ours. */
async function answers(socket: string, pid: number, isTooLate: () => boolean): Promise<void> {
  let last = 'no answer';
  while (!isTooLate()) {
    const probe = new Redis({
      path: socket,
      lazyConnect: true,
      retryStrategy: null,
      // Otherwise it waits for the end of loading without a limit.
      enableReadyCheck: false,
      commandTimeout: 1000,
      connectTimeout: 1000,
    });
    probe.on('error', () => {});
    try {
      await probe.connect();
      await probe.ping();
      const found = /process_id:(\d+)/.exec(await probe.info('server'))?.[1];
      if (Number(found) === pid) return;
      last = `process ${found} answers on its socket`;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    } finally {
      probe.disconnect();
    }
    await delay(10);
  }
  throw new Error(`it was not ready in time (${last})`);
}

function lastBytes(child: ChildProcess, limit: number): () => string {
  let text = '';
  child.stderr?.on('data', (data: Buffer) => {
    text = (text + data.toString()).slice(-limit);
  });
  return () => text;
}

/** The pid that the guard prints; never settles if it prints none. */
function firstNumber(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    let text = '';
    child.stdout?.on('data', (data: Buffer) => {
      if (text.includes('\n')) return;
      text = (text + data.toString()).slice(0, 32);
      if (text.includes('\n')) resolve(Number.parseInt(text, 10));
    });
  });
}
