import { expandDirectory } from '../flush/expand.js';
import { endedUntried, type FileResult } from '../model/file-result.js';
import { pathBytes } from '../model/pathname.js';
import { Duplicates } from '../store/dedup.js';
import { identityOf } from '../store/entry.js';
import type { AppendEnd, ExpansionRun, FlushWork } from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';
import { flushOptions } from './chunk.js';
import { JobEnded } from './endings.js';
import type { ListedFiles } from './listed-files.js';
import { appendAsRoomIs, type WaitingSeats } from './quota-room.js';
import type { SharedSession } from './sessions.js';

const CHUNK_FILES = 512;

export interface ExpansionDeps {
  store: Pick<WorkStore, 'expansions'>;
  shared: SharedSession;
  holdAfterMs: number;
  /** Keeps what is told of files that are found, for their flush. */
  listed: ListedFiles;
  seats: WaitingSeats;
}

/**
 * Walks a directory of a job and adds the files it finds, a chunk at a time, but none that the job names already. A
 * walk that comes after one that was cut off adds only what that one had not added.
 * @throws the reason of `signal`, unless it is JobEnded; {TargetDownError}; {NoRoom}
 */
export async function runExpansion(
  run: ExpansionRun<FlushWork>,
  signal: AbortSignal,
  { store, shared, holdAfterMs, listed, seats }: ExpansionDeps,
): Promise<void> {
  const known = new Duplicates();
  const isNew = (path: string): boolean =>
    known.add(identityOf({ path: pathBytes(path), destination: null }), 0) < 0;
  for await (const { path } of run.appended()) isNew(path);
  for await (const { path } of run.namedBefore()) isNew(path);

  let paths: string[] = [];
  let ended: FileResult[] = [];
  let matched = 0;
  let reply: AppendEnd = 'ok';
  const add = () => appendAsRoomIs(run, paths, { store, seats }, signal);
  const options = flushOptions(run.job, holdAfterMs);
  try {
    for await (const found of expandDirectory(shared.session, run.request, options, signal)) {
      // An error counts too: that nothing matched cannot be said of what could not be listed.
      matched++;
      if (!isNew(found.path)) continue;
      if ('state' in found) ended.push(found);
      else {
        paths.push(found.path);
        if (found.listed !== undefined) listed.keep(run.job.id, found.path, found.listed);
      }
      if (paths.length === CHUNK_FILES) {
        reply = await add();
        paths = [];
      } else if (ended.length === CHUNK_FILES) {
        reply = await store.expansions.appendEnded(run, ended);
        ended = [];
      }
      if (reply !== 'ok') break;
    }
    if (reply === 'ok' && paths.length > 0) reply = await add();
  } catch (error) {
    // The store ends such a job's files itself, and no more are wanted.
    if (error instanceof JobEnded) return;
    throw error;
  }
  if (reply === 'ok' && ended.length > 0) reply = await store.expansions.appendEnded(run, ended);
  if (reply === 'full') await store.expansions.appendEnded(run, [tooMany(run)]);
  // A newer run goes on with it. Any other reply but ok is final for the directory.
  if (reply !== 'fenced') await store.expansions.end(run, matched);
}

function tooMany({ request }: ExpansionRun): FileResult {
  return endedUntried(0, request.path, {
    code: 'TOO_MANY_FILES',
    nfsStatus: null,
    phase: 'expand',
    message: 'the job has as many files as one job may have; what else the directory holds was not added',
  });
}
