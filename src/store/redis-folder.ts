import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, lstat, mkdir, open, realpath, rename, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { EmbeddedRedisError } from './embedded-redis-error.js';

/** The data folder of a private Redis: the folder itself, where the server listens, and its log. */

/** Longest path that fits sockaddr_un on every system we may meet (104 bytes on macOS, 108 on Linux), with NUL. */
const MAX_SOCKET_PATH_BYTES = 100;
const LOG_BYTES_KEPT = 1024 * 1024;

/** Its true path; made (mode 0700) if it is not there. @throws {EmbeddedRedisError} NOT_STARTED */
export async function makeDataDir(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return await realpath(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new EmbeddedRedisError(
      'NOT_STARTED',
      `The data directory ${path} cannot be used: ${why}. Give another one that this user may write to.`,
      { cause },
    );
  }
}

/** Where the private Redis of a data folder listens while it runs; null if it does not run. Makes nothing. */
export async function runningSocket(dataDir: string): Promise<string | null> {
  for (const folder of [dataDir, farFolder(dataDir)]) {
    const socket = join(folder, 'redis.sock');
    // One that was killed leaves its socket behind.
    const answers = await new Promise<boolean>((resolve) => {
      const connection = connect(socket, () => resolve(true));
      connection.once('error', () => resolve(false)).once('connect', () => connection.destroy());
    });
    if (answers) return socket;
  }
  return null;
}

function farFolder(dataDir: string): string {
  const digest = createHash('sha256').update(dataDir).digest('hex').slice(0, 16);
  return join(tmpdir(), `writeback-${userInfo().uid}-${digest}`);
}

/**
 * In the data folder, or, where that makes too long an address for a socket, in a folder under the temporary one
 * whose name follows from it. Everybody may make a folder there: it must be ours.
 * @throws {EmbeddedRedisError} NOT_STARTED
 */
export async function socketPath(dataDir: string): Promise<string> {
  const simple = join(dataDir, 'redis.sock');
  if (Buffer.byteLength(simple) <= MAX_SOCKET_PATH_BYTES) return simple;
  const { uid } = userInfo();
  const folder = farFolder(dataDir);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const found = await lstat(folder);
  if (!found.isDirectory() || found.uid !== uid) {
    throw new EmbeddedRedisError(
      'NOT_STARTED',
      `${folder} does not belong to this user. Give a shorter data directory.`,
    );
  }
  await chmod(folder, 0o700);
  const socket = join(folder, 'redis.sock');
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH_BYTES) {
    throw new EmbeddedRedisError(
      'NOT_STARTED',
      `${socket} is too long for a socket. Give a shorter data directory.`,
    );
  }
  return socket;
}

/** Between two servers: one that runs keeps its log open. */
export async function rotateLog(path: string): Promise<void> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > LOG_BYTES_KEPT) await rename(path, `${path}.1`);
}

/** Of a file; '' if it cannot be read. */
export async function lastLines(path: string, lines: number): Promise<string> {
  let file: Awaited<ReturnType<typeof open>> | undefined;
  try {
    file = await open(path);
    const { size } = await file.stat();
    const tail = Buffer.alloc(Math.min(size, 8192));
    await file.read(tail, 0, tail.length, size - tail.length);
    return tail.toString().trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '';
  } finally {
    await file?.close();
  }
}
