import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import type { Job } from '../model/job.js';
import { DIALECTS, FLUSH_MODES, PATHS_ARE, WEBHOOK_EVENTS } from '../model/words.js';
import { CliError } from './cli-error.js';
import {
  bytes,
  choice,
  choices,
  collect,
  percent,
  seconds,
  serviceOptions,
  withService,
} from './client-options.js';
import type { CliContext } from './context.js';
import { EPILOG_SECONDS, inEpilog, patiently } from './epilog.js';
import { EXIT, EXIT_HELP, type ExitCode } from './exit-codes.js';
import { openList } from './flush-list.js';
import { givenPaths, namesAsBytes } from './path-source.js';
import { parseRequestWords } from './request-words.js';
import { submitLater } from './submit-later.js';
import { checkIdempotencyKey, type SubmitOptions } from './submit-options.js';
import { submitParts, tellAccepted, wishesOf } from './submit-parts.js';
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
  ids=$(writeback submit --no-wait --files-from list.txt) && writeback wait $ids
  writeback submit --epilog --later --as "$SLURM_JOB_UID:$SLURM_JOB_GID"`;

export function registerSubmit(program: Command, context: CliContext): void {
  serviceOptions(
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
      .addOption(
        seconds('--file-timeout <time>', 'give a file up this long after it was begun, e.g. 90s, 15m'),
      )
      .addOption(seconds('--deadline <time>', 'give the rest up after this long, e.g. 2h'))
      .option('--webhook <to>', 'call this endpoint of the service, or this URL, when the job has ended')
      .addOption(choices('--webhook-event <event>', 'with --webhook: when to call', WEBHOOK_EVENTS))
      .option('--idempotency-key <key>', 'the same key and list again give the same job, not another one')
      .option('--join', 'take part in an identical job that has not ended, instead of making another one')
      .option('--wait', 'wait until the files are written back', true)
      .option('--no-wait', 'print the id of the job and return')
      .addOption(seconds('--wait-timeout <time>', 'return with status 124 after this long; the job goes on'))
      .option('--later [job]', 'what "writeback later" noted in this batch job, or in the named one')
      .option(
        '--request <words>',
        'what a batch job asks for: "cache=C export=/E directory=/D include=*.h5 file=/F"',
      )
      .option('--as <uid:gid>', "with --later, as root: with this user's lists and rights")
      .option('--epilog', 'for a hook of a scheduler: do not wait, end soon and with 0 whatever happens')
      .addOption(
        seconds('--within <time>', `with --epilog: end after this long (default: ${EPILOG_SECONDS}s)`),
      ),
  )
    .option('--json', 'print each job that ended as one line of JSON')
    .addHelpText('after', HELP)
    .action(async (files: string[], options: SubmitOptions) => {
      const run = (inner: CliContext): Promise<ExitCode> => submitWhatIsAsked(inner, files, options);
      const within = options.within ?? EPILOG_SECONDS;
      context.setExitCode(await (options.epilog ? inEpilog(context, within, run) : run(context)));
    });
}

async function submitWhatIsAsked(
  context: CliContext,
  files: readonly string[],
  given: SubmitOptions,
): Promise<ExitCode> {
  const options = given.epilog ? { ...given, wait: false } : given;
  checkHookOptions(files, options);
  if (options.later !== undefined) return submitLater(context, options);
  if (options.transfer) return submitTransfer(context, files, options, process.cwd());
  if (options.request === undefined) return submit(context, files, options);
  const asked = parseRequestWords(options.request);
  return submit(context, asked.files, { ...options, ...asked.options });
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
  const wishes = wishesOf(options);
  const json = options.json ?? false;
  const warn = (sentence: string): void => void context.stderr.write(`writeback: ${sentence}\n`);
  return withService(context, options, async (client) => {
    const list = await patiently(context, options.epilog, () => openList(context, client, options));
    try {
      await list.take(givenPaths(context, source, warn), names.slice(files.length));
      const key = options.idempotencyKey ?? randomUUID();
      const tell = (job: Job): Promise<void> => tellAccepted(context, job, options);
      const jobs = await patiently(context, options.epilog, () =>
        submitParts(context, client, list, wishes, key, tell),
      );
      if (!options.wait) return EXIT.succeeded;
      return await waitAndReport(context, client, jobs, { timeoutSeconds: options.waitTimeout, json });
    } finally {
      await list.close();
    }
  });
}

function wrong(sentence: string): never {
  throw new CliError(`${sentence} (writeback submit --help shows how.)`, EXIT.usage);
}

function checkHookOptions(files: readonly string[], options: SubmitOptions): void {
  const { later, request, as, epilog, within } = options;
  if (as !== undefined && later === undefined) wrong('--as is about the lists of a user: it needs --later.');
  if (within !== undefined && !epilog) wrong('--within is about hooks: it needs --epilog.');
  if (later === undefined && request === undefined) return;
  if (options.transfer || (later !== undefined && request !== undefined)) {
    wrong('--later, --request and --transfer do not go together.');
  }
  if (files.length > 0 || options.filesFrom !== undefined || options.directory !== undefined) {
    wrong('--later and --request say which files: name no others.');
  }
  if (later !== undefined && options.idempotencyKey !== undefined)
    wrong('--later has an idempotency key of its own.');
}

function checkOptions(files: readonly string[], options: SubmitOptions): void {
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
