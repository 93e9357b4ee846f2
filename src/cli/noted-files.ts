import { createHash, type Hash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { PathList } from '../model/path-list.js';
import { printable } from '../model/text.js';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';

/**
 * What a batch job wants written back when it has ended: the scheduler's hook has to know it and was not there. The
 * user's own folder has a directory per batch job and a file per call of `writeback later` in it, so that the
 * processes of many nodes never write into the same file:
 *
 *     slurm-c1-42/              the batch job runs, or no hook has come yet
 *     slurm-c1-42.due.9f3a…/    its hook came: to be submitted
 *
 * A directory changes its name as a whole, so hooks on many nodes see all of it or nothing. What a hook could not
 * submit, the next hooks of the same user try again.
 */

const JOB = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const DUE = /^(?<job>.+)\.due\.[0-9a-f]{12}$/;
/** Then hooks no longer try: nobody has looked at what they said of it. */
const TRIED_MS = 7 * 24 * 3600 * 1000;
const LIST_SUFFIX = '.list';
/** The longest path that is read from a list; what the service takes is its own, lower limit. */
const MAX_PATH_BYTES = 65_536;
const READ_BYTES = 256 * 1024;

/** The files of one batch job, waiting to be submitted. */
export interface NotedFiles {
  job: string;
  directory: string;
}

/** `pbs-12[3].server` → `pbs-12-3-.server`. @throws {CliError} usage, for what gives no name of a directory */
export function batchJobName(text: string): string {
  const name = text.replace(/[^A-Za-z0-9._-]+/g, '-');
  if (JOB.test(name) && !DUE.test(name)) return name;
  throw new CliError(
    `"${printable(text)}" is no name of a batch job: 1 to 64 letters, digits or ._-, e.g. slurm-cluster1-42.`,
    EXIT.usage,
  );
}

/** The batch job that this process is part of, as the schedulers tell their jobs; null outside of one. */
export function currentBatchJob(env: CliContext['env']): string | null {
  if (env.WRITEBACK_BATCH_JOB) return batchJobName(env.WRITEBACK_BATCH_JOB);
  const { SLURM_CLUSTER_NAME: cluster, SLURM_JOB_ID: slurm, PBS_JOBID: pbs, LSB_JOBID: lsf } = env;
  const index = env.LSB_JOBINDEX && env.LSB_JOBINDEX !== '0' ? `-${env.LSB_JOBINDEX}` : '';
  const name = slurm
    ? `slurm-${cluster || 'cluster'}-${slurm}`
    : pbs
      ? `pbs-${pbs}`
      : lsf && `lsf-${lsf}${index}`;
  return name ? batchJobName(name) : null;
}

/** Where the lists of this process's user are: `$WRITEBACK_NOTES`, or `.writeback` in the home that passwd names. */
export function notesFolder(env: CliContext['env']): string {
  // Not $HOME, which a job may change: the hook, with another environment, must come to the same folder.
  if (env.WRITEBACK_NOTES) return env.WRITEBACK_NOTES;
  try {
    return join(userInfo().homedir, '.writeback');
  } catch (error) {
    throw new CliError(
      'This user is not in passwd and has no home. WRITEBACK_NOTES names a folder.',
      EXIT.usage,
      {
        cause: error,
      },
    );
  }
}

/** Adds to the list of a batch job; all of it or nothing. It is on disk when this resolves. @param paths absolute */
export async function noteFiles(
  folder: string,
  job: string,
  paths: AsyncIterable<Uint8Array[]>,
): Promise<void> {
  const directory = join(folder, job);
  const name = `${process.pid}-${randomBytes(9).toString('hex')}`;
  const hidden = join(directory, `.${name}`);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await checkOwner(directory);
  try {
    const file = await open(hidden, 'wx', 0o600);
    try {
      for await (const some of paths) {
        await file.appendFile(Buffer.concat(some.flatMap((path) => [path, Buffer.of(0)])));
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(hidden, join(directory, name + LIST_SUFFIX));
  } catch (error) {
    await rm(hidden, { force: true });
    throw error;
  }
}

/**
 * What is to be submitted for a batch job that has ended, first; then, with `others`, what earlier hooks of this user
 * could not submit in the last week.
 */
export async function takeNoted(folder: string, job: string, others: boolean): Promise<NotedFiles[]> {
  const due = `${job}.due.${randomBytes(6).toString('hex')}`;
  await rename(join(folder, job), join(folder, due)).catch(ignoreMissing);
  const own: NotedFiles[] = [];
  const earlier: NotedFiles[] = [];
  for (const name of (await readdir(folder).catch(ignoreMissing)) ?? []) {
    const owner = DUE.exec(name)?.groups?.job;
    if (owner === undefined) continue;
    const unit = { job: owner, directory: join(folder, name) };
    if (owner === job) own.push(unit);
    else if (others && (await isOursAndRecent(unit))) earlier.push(unit);
  }
  return [...own, ...earlier];
}

async function isOursAndRecent({ directory }: NotedFiles): Promise<boolean> {
  const stats = await lstat(directory).catch(ignoreMissing);
  return stats?.uid === process.geteuid?.() && Date.now() - (stats?.mtimeMs ?? 0) < TRIED_MS;
}

/** Submitted: the list is no longer needed. At once gone for other hooks, which must not see a part of it. */
export async function dropNoted({ directory }: NotedFiles): Promise<void> {
  const gone = `${directory}.sent`;
  await rename(directory, gone).catch(ignoreMissing);
  await rm(gone, { recursive: true, force: true });
}

/** Reads the list of one batch job. */
export class NotedReader {
  /** Another hook has submitted it meanwhile: what was read is not all. */
  vanished = false;
  /** How many paths the list has; null until it was read to its end. */
  files: number | null = null;
  readonly #directory: string;
  readonly #hash = createHash('sha256');

  constructor({ directory }: NotedFiles) {
    this.#directory = directory;
  }

  /** Every path, in an order that is the same for everyone who reads the same list. @throws {CliError} usage */
  async *paths(): AsyncGenerator<Uint8Array[], void, undefined> {
    const entries = await this.#unlessGone(async () => {
      await checkOwner(this.#directory);
      return readdir(this.#directory);
    });
    let files = 0;
    for (const name of (entries ?? []).sort()) {
      if (name.startsWith('.') || !name.endsWith(LIST_SUFFIX)) continue;
      const file = await this.#unlessGone(() => openOwn(join(this.#directory, name)));
      if (file === null) return;
      this.#hash.update(`${name}\0`);
      try {
        for await (const paths of readPaths(file, this.#hash)) {
          files += paths.length;
          yield paths;
        }
      } finally {
        await file.close();
      }
    }
    this.files = files;
  }

  /** Of all that was read. Names of lists are random, so another run of the same batch job has another one. */
  digest(): string {
    return this.#hash.digest('hex').slice(0, 32);
  }

  async #unlessGone<T>(read: () => Promise<T>): Promise<T | null> {
    try {
      return await read();
    } catch (error) {
      ignoreMissing(error);
      this.vanished = true;
      return null;
    }
  }
}

/** @param hash gets every byte */
async function* readPaths(file: FileHandle, hash: Hash): AsyncGenerator<Uint8Array[], void, undefined> {
  const list = new PathList({ delimiter: 'nul', maxPathBytes: MAX_PATH_BYTES, onTooLong: tooLong });
  for (;;) {
    // A fresh one each time: the paths that came out may still refer to the last.
    const chunk = Buffer.allocUnsafe(READ_BYTES);
    const { bytesRead } = await file.read(chunk, 0, chunk.length);
    if (bytesRead === 0) break;
    const bytes = chunk.subarray(0, bytesRead);
    hash.update(bytes);
    yield [...list.push(bytes)];
  }
  yield [...list.end()];
}

function tooLong(): never {
  throw new CliError(`A path of the list has more than ${MAX_PATH_BYTES} bytes.`, EXIT.usage);
}

/** A list is the user's own or nobody's: in a folder that all may write to, anyone may make one in his name. */
async function checkOwner(directory: string): Promise<void> {
  const stats = await lstat(directory);
  if (!stats.isDirectory() || stats.uid !== process.geteuid?.()) throw notOurs(directory);
}

async function openOwn(path: string): Promise<FileHandle> {
  // A link may lead to what only root may read, a FIFO never ends.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const stats = await file.stat();
  if (stats.isFile() && stats.uid === process.geteuid?.()) return file;
  await file.close();
  throw notOurs(path);
}

function notOurs(path: string): CliError {
  return new CliError(
    `${printable(path)} belongs to another user. WRITEBACK_NOTES names another folder.`,
    EXIT.usage,
  );
}

/** Runs what works on the lists in a folder. @throws {CliError} usage, for what the file system refuses */
export async function withNotes<T>(folder: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof Error) || !('syscall' in error)) throw error;
    throw new CliError(
      `Cannot use the lists in ${printable(folder)}: ${error.message}. WRITEBACK_NOTES names another folder.`,
      EXIT.usage,
      { cause: error },
    );
  }
}

function ignoreMissing(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
  throw error;
}
