import { CopyError, copyErrorOf } from '../copy/copy-error.js';
import { type FoundFile, walkFiles } from '../copy/look.js';
import { globFilter } from '../flush/globs.js';
import { endedUntried, type FileResult } from '../model/file-result.js';
import { pathBytes, pathText, tidyPathBytes } from '../model/pathname.js';
import { Duplicates } from '../store/dedup.js';
import { identityOf } from '../store/entry.js';
import type { AppendEnd, ExpansionRun, NewFile, TransferWorkJob } from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';
import { JobEnded } from './endings.js';
import { appendAsRoomIs, NoRoom, type WaitingSeats } from './quota-room.js';
import { fileError, type Roots } from './transfer-file.js';

const CHUNK_FILES = 512;

export interface TransferExpansionDeps {
  store: Pick<WorkStore, 'expansions'>;
  roots: Roots;
  seats: WaitingSeats;
}

/**
 * Walks a directory of the node and adds the files it finds to the job, a chunk at a time. A walk that comes after one
 * that was cut off adds only what that one had not added.
 * @throws the reason of `signal`, unless it is JobEnded; {NoRoom}
 */
export async function runTransferExpansion(
  run: ExpansionRun<TransferWorkJob>,
  signal: AbortSignal,
  { store, roots, seats }: TransferExpansionDeps,
): Promise<void> {
  const { request } = run;
  const known = new Duplicates();
  const isNew = ({ path, destination = null }: { path: string; destination?: string | null }): boolean =>
    known.add(
      identityOf({
        path: pathBytes(path),
        destination: destination === null ? null : pathBytes(destination),
      }),
      0,
    ) < 0;
  for await (const file of run.appended()) isNew(file);
  // Destinations that others of the job have. Within one directory each file has its own.
  const taken = new Duplicates();
  for await (const file of run.namedBefore()) {
    isNew(file);
    if (file.destination !== null && !file.skipped) taken.add(placeOf(file.destination), 0);
  }

  let files: NewFile[] = [];
  let ended: FileResult[] = [];
  let matched = 0;
  let reply: AppendEnd = 'ok';
  const append = () => appendAsRoomIs(run, files, { store, seats }, signal);
  const add = async (file: NewFile | FileResult): Promise<void> => {
    if (!isNew(file)) return;
    const { destination = null } = file;
    if ('state' in file) ended.push(file);
    else if (taken.size > 0 && destination !== null && taken.add(placeOf(destination), 0) >= 0)
      ended.push(collision(file, destination));
    else files.push(file);
    if (files.length === CHUNK_FILES) {
      reply = await append();
      files = [];
    } else if (ended.length === CHUNK_FILES) {
      reply = await store.expansions.appendEnded(run, ended);
      ended = [];
    }
  };
  const walk = async (): Promise<void> => {
    const filter = globFilter(request.include, request.exclude);
    const walked = walkFiles(pathBytes(request.path), roots.source, (path) => !filter.prunes(pathText(path)));
    for await (const found of walked) {
      if (signal.aborted) throw signal.reason;
      const below = pathText(found.path);
      if (!(found.problem instanceof CopyError)) {
        if (!filter.wants(below)) continue;
        matched++;
      }
      await add(entryOf(request, below, found));
      if (reply !== 'ok') break;
    }
  };
  try {
    await walk().catch((error: unknown) => {
      if (signal.aborted || error instanceof NoRoom) throw error;
      return add(unreadable(request.path, request.destination, error));
    });
    if (reply === 'ok' && files.length > 0) reply = await append();
  } catch (error) {
    if (!signal.aborted) throw error;
    // The store ends such a job's files itself, and no more are wanted.
    if (signal.reason instanceof JobEnded) return;
    throw signal.reason;
  }
  if (reply === 'ok' && ended.length > 0) reply = await store.expansions.appendEnded(run, ended);
  if (reply === 'full') {
    const sentence =
      'the job has as many files as one job may have; what else the directory holds was not added';
    const error = fileError('TOO_MANY_FILES', 'expand', sentence);
    await store.expansions.appendEnded(run, [endedUntried(0, request.path, error)]);
  }
  // A newer run goes on with it. Any other reply but ok is final for the directory.
  if (reply !== 'fenced') await store.expansions.end(run, matched);
}

function entryOf(
  request: ExpansionRun['request'],
  below: string,
  { size, problem }: FoundFile,
): NewFile | FileResult {
  const path = joined(request.path, below);
  const destination = joined(request.destination ?? '', below);
  if (problem === null) return { path, destination, size: null };
  if (problem instanceof CopyError) return unreadable(path, destination, problem);
  const sentence =
    problem === 'link'
      ? `${path} is a symbolic link; those in a directory are not followed. List it under "files" to copy what it leads to`
      : `${path} is no regular file`;
  return {
    ...endedUntried(0, path, fileError('NOT_REGULAR', 'expand', sentence), 'skipped'),
    size,
    destination,
  };
}

/** Which of them would stand there in the end is not left to chance: the one that the job names first is copied. */
function collision(file: NewFile, destination: string): FileResult {
  const sentence = `${file.path} is not copied: the job has another file with the destination ${destination}`;
  return { ...endedUntried(0, file.path, fileError('DESTINATION_TAKEN', 'intake', sentence)), destination };
}

function placeOf(destination: string): Uint8Array {
  return tidyPathBytes(pathBytes(destination));
}

function unreadable(path: string, destination: string | undefined, error: unknown): FileResult {
  const { code, message } = copyErrorOf(error, `the directory ${path} cannot be walked`);
  return { ...endedUntried(0, path, fileError(code, 'expand', message)), destination: destination ?? null };
}

function joined(folder: string, name: string): string {
  return folder.endsWith('/') ? `${folder}${name}` : `${folder}/${name}`;
}
