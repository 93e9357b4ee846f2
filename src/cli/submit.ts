import { createHash, randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { type Job, jobSchema } from '../model/job.js';
import { filesText, printable } from '../model/text.js';
import { DIALECTS, FLUSH_MODES, PATHS_ARE } from '../model/words.js';
import { CliError } from './cli-error.js';
import {
  bytes,
  choice,
  collect,
  parseLabels,
  percent,
  seconds,
  urlOption,
  withService,
} from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT, EXIT_HELP, type ExitCode } from './exit-codes.js';
import { type FlushList, type FlushWishes, type ListPart, openList, sendList } from './flush-list.js';
import { writeJson, writeLine } from './output.js';
import { givenPaths, namesAsBytes } from './path-source.js';
import { sendSafely } from './send-safely.js';
import { parseBody, type ServiceClient } from './service-client.js';
import { checkIdempotencyKey, type SubmitOptions } from './submit-options.js';
import { submitTransfer } from './submit-transfer.js';
import { waitAndReport } from './wait-and-report.js';

const HELP = `
Without --export the paths are local ones: the mount table tells which cache, export and file they are. Files on
several exports become one job each.

With --transfer the paths are those of the node, and nothing is looked up here. A list then holds one
SOURCE<TAB>DESTINATION per line, with -0 source and destination in turn, each ended by NUL; with --to it holds
sources alone. A --directory becomes the directory that --to names.

${EXIT_HELP}

Examples:
  writeback submit /mnt/cache/run42/out.*
  find /mnt/cache/run42 -name '*.h5' -print0 | writeback submit --files-from - -0
  writeback submit --cache projects --export /exp1 --label run=42 run42/out.0 run42/out.1
  writeback submit --cache projects --export /exp1 --directory run42 --exclude '**/*.tmp'
  writeback submit --transfer --node n042 --limit 50M --to /lustre/run42 /local/run42/ckpt.*
  writeback submit --transfer --node n042 --scr-file /local/scr/transfer.scr
  ids=$(writeback submit --no-wait --files-from list.txt) && writeback wait $ids`;

export function registerSubmit(program: Command, context: CliContext): void {
  program
    .command('submit')
    .summary('have files written back, and wait until they are')
    .description(
      'Asks the service to have files written back to long-term storage, and waits until they are.',
    )
    .argument('[file...]', 'files to write back')
    .option('-f, --files-from <list>', 'read more files from a list, one per line; - is standard input')
    .option('-0, --nul', 'the paths of the list end in NUL (as of find -print0)')
    .option('-d, --directory <dir>', 'everything below this directory (repeatable)', collect)
    .option('--include <glob>', 'of the directories only what matches below them (repeatable)', collect)
    .option('--exclude <glob>', 'of the directories not what matches below them (repeatable)', collect)
    .option('-c, --cache <name>', 'the cache: a name that the service has configured, or an address')
    .option('-e, --export <path>', 'the export that holds the files')
    .addOption(choice('--paths-are <form>', 'with --export: which name of a file the paths are', PATHS_ARE))
    .addOption(choice('--dialect <dialect>', 'of a cache that is named by its address', DIALECTS))
    .addOption(choice('--mode <mode>', 'start flushes and poll them, or one call per file', FLUSH_MODES))
    .option('--sync', 'same as --mode sync')
    .option('--transfer', 'have the agent of a node copy the files, instead of flushing them')
    .option('--node <name>', 'with --transfer: the node that has the files')
    .option('--to <dir>', 'with --transfer: copy into this directory; files keep their names')
    .option('--scr-file <file>', 'with --transfer: what this SCR transfer file on the node lists')
    .addOption(bytes('--limit <rate>', 'with --transfer: at most so many bytes per second, e.g. 50M'))
    .addOption(percent('--cpu <percent>', 'with --transfer: at most so much of one CPU, e.g. 10'))
    .option('--verify', 'with --transfer: read every copy again and compare')
    .option('-l, --label <key=value>', 'find the job by it later (repeatable)', collect)
    .addOption(seconds('--file-timeout <time>', 'give a file up this long after it was begun, e.g. 90s, 15m'))
    .addOption(seconds('--deadline <time>', 'give the rest up after this long, e.g. 2h'))
    .option('--idempotency-key <key>', 'the same key and list again give the same job, not another one')
    .option('--join', 'take part in an identical job that has not ended, instead of making another one')
    .option('--no-wait', 'print the id of the job and return')
    .addOption(seconds('--wait-timeout <time>', 'return with status 124 after this long; the job goes on'))
    .addOption(urlOption())
    .option('--json', 'print each job that ended as one line of JSON')
    .addHelpText('after', HELP)
    .action(async (files: string[], options: SubmitOptions) => {
      const run = options.transfer
        ? submitTransfer(context, files, options, process.cwd())
        : submit(context, files, options);
      context.setExitCode(await run);
    });
}

async function submit(
  context: CliContext,
  files: readonly string[],
  options: SubmitOptions,
): Promise<ExitCode> {
  checkOptions(files, options);
  const directories = options.directory ?? [];
  const names = await namesAsBytes(context, [...files, ...directories]);
  const source = {
    names: names.slice(0, files.length),
    filesFrom: options.filesFrom ?? null,
    nul: options.nul ?? false,
  };
  const wishes: FlushWishes = {
    pathsAre: options.pathsAre,
    dialect: options.dialect,
    mode: options.sync ? 'sync' : options.mode,
    fileTimeoutSeconds: options.fileTimeout,
    deadlineSeconds: options.deadline,
    conflict: options.join ? 'join' : undefined,
    labels: parseLabels(options.label),
  };
  const json = options.json ?? false;
  const warn = (sentence: string): void => void context.stderr.write(`writeback: ${sentence}\n`);
  return withService(context, options, async (client) => {
    const list = await openList(context, client, options);
    try {
      await list.take(givenPaths(context, source, warn), names.slice(files.length));
      const jobs = await submitAll(context, client, list, wishes, options.idempotencyKey, async (job) => {
        if (options.wait) tellAccepted(context, job, json);
        else if (json) await writeJson(context.stdout, job);
        else await writeLine(context.stdout, job.id);
      });
      if (!options.wait) return EXIT.succeeded;
      return await waitAndReport(context, client, jobs, { timeoutSeconds: options.waitTimeout, json });
    } finally {
      await list.close();
    }
  });
}

function checkOptions(files: readonly string[], options: SubmitOptions): void {
  const wrong = (sentence: string): never => {
    throw new CliError(`${sentence} (writeback submit --help shows how.)`, EXIT.usage);
  };
  const { node, to, scrFile, limit, cpu, verify } = options;
  if ([node, to, scrFile, limit, cpu, verify].some((value) => value !== undefined)) {
    wrong('--node, --to, --scr-file, --limit, --cpu and --verify are about copies: they need --transfer.');
  }
  if (files.length === 0 && options.filesFrom === undefined && options.directory === undefined) {
    wrong('Name files, or a list with --files-from, or a --directory.');
  }
  if (files.includes('')) wrong('A file name is empty.');
  if (options.nul && options.filesFrom === undefined)
    wrong('-0 says how a list is read: it needs --files-from.');
  if (options.export !== undefined && options.cache === undefined) wrong('--export needs --cache.');
  if (options.pathsAre !== undefined && options.export === undefined) {
    wrong('--paths-are needs --cache and --export; without them the paths are local ones.');
  }
  if ((options.include ?? options.exclude) !== undefined && options.directory === undefined) {
    wrong('--include and --exclude choose within a --directory.');
  }
  checkIdempotencyKey(options);
  if (options.sync && options.mode === 'async') wrong('--sync and --mode async contradict each other.');
  if (!options.wait && options.waitTimeout !== undefined) wrong('--no-wait has no use for --wait-timeout.');
}

/** Posts every list; gives the ids of the jobs. Nothing was posted before all of them were read to their end. */
async function submitAll(
  context: CliContext,
  client: ServiceClient,
  list: FlushList,
  wishes: FlushWishes,
  givenKey: string | undefined,
  onAccepted: (job: Job) => void | Promise<void>,
): Promise<string[]> {
  const ids: string[] = [];
  const parts = [...list.parts()];
  const key = givenKey ?? randomUUID();
  for (const part of parts) {
    const partKey = parts.length === 1 ? key : `${key}.${digestOf(part)}`;
    try {
      const job = parseBody(
        jobSchema,
        (await sendSafely(() => sendList(client, part, wishes, partKey), context.signal)).body,
      );
      ids.push(job.id);
      await onAccepted(job);
    } catch (error) {
      if (ids.length === 0 || !(error instanceof CliError)) throw error;
      throw new CliError(`${error.message} Submitted before that: ${ids.join(', ')}.`, error.exitCode, {
        cause: error,
      });
    }
  }
  return ids;
}

/** Each job of one list has a key of its own, the same whatever else is in the list and in which order. */
function digestOf({ cache, export: path }: ListPart): string {
  return createHash('sha256').update(`${cache}\0${path}`).digest('hex').slice(0, 16);
}

function tellAccepted(context: CliContext, job: Job, json: boolean): void {
  if (json) return;
  const total = `${filesText(job.progress.filesTotal)}${job.progress.filesTotalFinal ? '' : ' so far'}`;
  const place =
    job.node === null
      ? `on ${printable(job.cache ?? '')}, export ${printable(job.export ?? '')}`
      : `to be copied by node ${printable(job.node)}`;
  context.stderr.write(`Job ${job.id}: ${total} ${place}\n`);
}
