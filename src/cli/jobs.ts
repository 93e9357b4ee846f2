import type { Command } from 'commander';
import { type Job, jobSchema } from '../model/job.js';
import { durationText, printable } from '../model/text.js';
import { JOB_KINDS, JOB_STATES, type JobState } from '../model/words.js';
import { CliError } from './cli-error.js';
import {
  choice,
  choices,
  collect,
  type ServiceOptions,
  serviceOptions,
  withQuery,
  withService,
} from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { listed } from './listing.js';
import { writeJson, writeLine } from './output.js';
import type { ServiceClient } from './service-client.js';
import { parseSeconds, tableText } from './text.js';

interface JobsOptions extends ServiceOptions {
  state?: JobState[];
  kind?: string;
  cache?: string;
  node?: string;
  label?: string[];
  since?: string;
  limit: number;
  json?: boolean;
}

const PAGE = 100;
const HEADER = ['JOB', 'STATE', 'ON', 'EXPORT', 'FILES', 'DONE', 'FAILED', 'AGE', 'LABELS'];

export function registerJobs(program: Command, context: CliContext): void {
  serviceOptions(
    program
      .command('jobs')
      .summary('list jobs')
      .description('Lists jobs, newest first.')
      .addOption(choices('-s, --state <state>', 'only jobs in this state', JOB_STATES))
      .addOption(choice('--kind <kind>', 'only jobs of this kind', JOB_KINDS))
      .option('-c, --cache <name>', 'only jobs of this cache')
      .option('--node <name>', 'only transfers of this node')
      .option('-l, --label <key=value>', 'only jobs with this label (repeatable)', collect)
      .option('--since <time>', 'only jobs made since then: an age such as 90m or 2d, or a date (RFC 3339)')
      .option('-n, --limit <count>', 'at most so many', parseLimit, 50),
  )
    .option('--json', 'print each job as one line of JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  writeback jobs --state running --state queued\n  writeback jobs --label run=42 --since 1d --json',
    )
    .action(async (options: JobsOptions) => {
      await withService(context, options, (client) => jobs(context, client, options));
      context.setExitCode(EXIT.succeeded);
    });
}

async function jobs(context: CliContext, client: ServiceClient, options: JobsOptions): Promise<void> {
  const path = withQuery('/v1/jobs', {
    state: options.state,
    kind: options.kind,
    cache: options.cache,
    node: options.node,
    label: options.label,
    createdAfter: options.since === undefined ? undefined : sinceTime(options.since),
    limit: Math.min(options.limit, PAGE),
  });
  let left = options.limit;
  const rows: (string | number)[][] = [];
  for await (const page of listed(client, path, jobSchema)) {
    for (const job of page.slice(0, left)) {
      if (options.json) await writeJson(context.stdout, job);
      else rows.push(row(job));
    }
    left -= page.length;
    if (left <= 0) break;
  }
  if (options.json) return;
  if (rows.length === 0) context.stderr.write('No such jobs.\n');
  else for (const line of tableText(HEADER, rows)) await writeLine(context.stdout, line);
}

function row(job: Job): (string | number)[] {
  const { progress } = job;
  const labels = Object.entries(job.labels).map(([key, value]) => `${key}=${value}`);
  return [
    job.id,
    `${job.state}${job.paused ? ' (paused)' : ''}`,
    printable(job.cache ?? job.node ?? ''),
    job.export === null ? '(transfer)' : printable(job.export),
    progress.filesTotal,
    progress.filesSucceeded,
    progress.filesFailed + progress.filesExpired + progress.filesCanceled,
    durationText(Math.max(0, (Date.now() - Date.parse(job.createdAt)) / 1000)),
    printable(labels.join(' ')),
  ];
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1) {
    throw new CliError(`--limit takes a whole number above 0, not "${text}".`, EXIT.usage);
  }
  return limit;
}

/** An age or a time → RFC 3339. @throws {CliError} usage */
function sinceTime(text: string): string {
  const time = /^\d{4}-/.test(text) ? Date.parse(text) : Date.now() - parseSeconds(text, '--since') * 1000;
  if (Number.isNaN(time)) throw new CliError(`--since does not understand "${text}".`, EXIT.usage);
  return new Date(time).toISOString();
}
