import { expandDirectory } from '../flush/expand.js';
import { pathBytes } from '../model/pathname.js';
import { Duplicates } from '../store/dedup.js';
import type { AppendReply, ExpansionRun, FileResult, FlushWork, WorkStore } from '../store/work.js';
import { failedResult, flushOptions } from './chunk.js';
import { JobEnded } from './endings.js';
import type { SharedSession } from './sessions.js';

const CHUNK_FILES = 512;

export interface ExpansionDeps {
  store: Pick<WorkStore, 'appendExpanded' | 'appendEnded' | 'endExpansion'>;
  shared: SharedSession;
  holdAfterMs: number;
}

/**
 * Walks a directory of a job and adds the files it finds, a chunk at a time. A walk that comes after one that was cut
 * off adds only what that one had not added.
 * @throws the reason of `signal`, unless it is JobEnded; {TargetDownError}
 */
export async function runExpansion(
  run: ExpansionRun<FlushWork>,
  signal: AbortSignal,
  { store, shared, holdAfterMs }: ExpansionDeps,
): Promise<void> {
  const known = new Duplicates();
  for await (const { path } of run.appended()) known.add(pathBytes(path), 0);

  let paths: string[] = [];
  let ended: FileResult[] = [];
  let matched = 0;
  let reply: AppendReply = 'ok';
  const options = flushOptions(run.job, holdAfterMs);
  try {
    for await (const found of expandDirectory(shared.session, run.request, options, signal)) {
      // An error counts too: that nothing matched cannot be said of what could not be listed.
      matched++;
      if (known.add(pathBytes(typeof found === 'string' ? found : found.path), 0) >= 0) continue;
      if (typeof found === 'string') paths.push(found);
      else ended.push(found);
      if (paths.length === CHUNK_FILES) {
        reply = await store.appendExpanded(run, paths);
        paths = [];
      } else if (ended.length === CHUNK_FILES) {
        reply = await store.appendEnded(run, ended);
        ended = [];
      }
      if (reply !== 'ok') break;
    }
  } catch (error) {
    // The store ends such a job's files itself, and no more are wanted.
    if (error instanceof JobEnded) return;
    throw error;
  }
  if (reply === 'ok' && paths.length > 0) reply = await store.appendExpanded(run, paths);
  if (reply === 'ok' && ended.length > 0) reply = await store.appendEnded(run, ended);
  if (reply === 'full') await store.appendEnded(run, [tooMany(run)]);
  // A newer run goes on with it. Any other reply but ok is final for the directory.
  if (reply !== 'fenced') await store.endExpansion(run, matched);
}

function tooMany({ request }: ExpansionRun): FileResult {
  return failedResult(0, request.path, {
    code: 'TOO_MANY_FILES',
    nfsStatus: null,
    phase: 'expand',
    message: 'the job has as many files as one job may have; what else the directory holds was not added',
  });
}
