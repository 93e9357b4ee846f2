import type { Job } from '../model/job.js';
import { printable } from '../model/text.js';
import { CliError } from './cli-error.js';
import { withService } from './client-options.js';
import type { CliContext } from './context.js';
import { mayPass, patiently } from './epilog.js';
import { EXIT, type ExitCode } from './exit-codes.js';
import { openList } from './flush-list.js';
import {
  batchJobName,
  currentBatchJob,
  dropNoted,
  type NotedFiles,
  NotedReader,
  notesFolder,
  takeNoted,
  withNotes,
} from './noted-files.js';
import type { ServiceClient } from './service-client.js';
import type { SubmitOptions } from './submit-options.js';
import { submitParts, tellAccepted, wishesOf } from './submit-parts.js';
import { waitAndReport } from './wait-and-report.js';

const IDENTITY = /^(?<uid>\d{1,10}):(?<gid>\d{1,10})$/;

/** `writeback submit --later`: submits what a batch job has noted by `writeback later`. */
export async function submitLater(context: CliContext, options: SubmitOptions): Promise<ExitCode> {
  const job = typeof options.later === 'string' ? batchJobName(options.later) : currentBatchJob(context.env);
  if (job === null) {
    throw new CliError('Which batch job? --later NAME, as slurm-cluster1-42.', EXIT.usage);
  }
  // The service's credential is known by now; the lists and the paths in them are the user's.
  return withService(context, options, async (client) => {
    if (options.as !== undefined) becomeUser(context, options.as);
    const folder = notesFolder(context.env);
    const ids: string[] = [];
    await withNotes(folder, async () => {
      const units = await takeNoted(folder, job, options.epilog ?? false);
      for (const unit of units) ids.push(...(await submitUnit(context, client, unit, options)));
      if (units.length > 0 || options.epilog) return;
      throw new CliError(`No files are noted for ${job} in ${printable(folder)}.`, EXIT.usage);
    });
    if (!options.wait) return EXIT.succeeded;
    const wait = { timeoutSeconds: options.waitTimeout, json: options.json ?? false };
    return ids.length === 0 ? EXIT.succeeded : await waitAndReport(context, client, ids, wait);
  });
}

/** Gives the ids of the jobs; none for what another hook has submitted, and in a hook for what is refused. */
async function submitUnit(
  context: CliContext,
  client: ServiceClient,
  unit: NotedFiles,
  options: SubmitOptions,
): Promise<string[]> {
  const reader = new NotedReader(unit);
  try {
    return await withNotes(unit.directory, () => sendUnit(context, client, unit, reader, options));
  } catch (error) {
    if (reader.vanished) return [];
    if (!options.epilog || !(error instanceof CliError)) throw error;
    const stay = `${error.message} The files stay noted for the next hook of this user, or for "writeback submit --later ${unit.job}".`;
    // Nothing more can be submitted now; a fault of this list says nothing of the others.
    if (mayPass(error)) throw new CliError(stay, error.exitCode, { cause: error });
    context.stderr.write(`writeback: ${stay}\n`);
    return [];
  }
}

async function sendUnit(
  context: CliContext,
  client: ServiceClient,
  unit: NotedFiles,
  reader: NotedReader,
  options: SubmitOptions,
): Promise<string[]> {
  const wishes = wishesOf(options);
  wishes.labels = { 'batch-job': unit.job, ...wishes.labels };
  const list = await patiently(context, options.epilog, () => openList(context, client, options));
  try {
    await list.take(reader.paths(), []).catch((error) => {
      // A process that was killed in "writeback later" leaves a list without a file: no error of anybody.
      if (reader.files !== 0) throw error;
    });
    if (reader.vanished) return [];
    if (reader.files === 0) {
      await dropNoted(unit);
      return [];
    }
    const key = `${unit.job}.${reader.digest()}`;
    const tell = (job: Job): Promise<void> => tellAccepted(context, job, options);
    const ids = await patiently(context, options.epilog, () =>
      submitParts(context, client, list, wishes, key, tell),
    );
    await dropNoted(unit);
    return ids;
  } finally {
    await list.close();
  }
}

/** Node.js gives up no rights where its libuv might still do file operations with the former ones. */
function helpFor(why: string): string {
  return why.includes('io_uring')
    ? ' This build of Node.js cannot, as that of Debian 13, or its environment has UV_USE_IO_URING=1: run it with Node.js as nodejs.org has it.'
    : '';
}

function becomeUser(context: CliContext, identity: string): void {
  const { uid, gid } = IDENTITY.exec(identity)?.groups ?? {};
  if (uid === undefined || gid === undefined || context.becomeUser === undefined) {
    throw new CliError(
      `--as takes the ids of a user and a group, as 1000:1000, not "${identity}".`,
      EXIT.usage,
    );
  }
  try {
    context.becomeUser(Number(uid), Number(gid));
  } catch (error) {
    const why = (error instanceof Error ? error.message : String(error)).replace(/\.$/, '');
    throw new CliError(`Cannot take the rights of user ${uid}: ${why}.${helpFor(why)}`, EXIT.usage, {
      cause: error,
    });
  }
}
