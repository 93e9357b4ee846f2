import type { Command } from 'commander';
import { FILE_ERROR_CODES } from '../model/errors.js';
import { type JobFile, jobFileSchema } from '../model/job.js';
import { pathBytes } from '../model/pathname.js';
import { bytesText, durationText, printable } from '../model/text.js';
import { FILE_STATES, type FileState } from '../model/words.js';
import { CliError } from './cli-error.js';
import {
  choices,
  jobPath,
  type ServiceOptions,
  serviceOptions,
  withQuery,
  withService,
} from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { listed } from './listing.js';
import { write } from './output.js';
import type { ServiceClient } from './service-client.js';

interface FilesOptions extends ServiceOptions {
  state?: FileState[];
  code?: string;
  paths?: boolean;
  nul?: boolean;
  json?: boolean;
}

const PAGE = 1000;

const HELP = `
Examples:
  writeback files job_01m7ywb2v7xqs4dcvq4g8drfbz --state failed
  writeback files job_01m7ywb2v7xqs4dcvq4g8drfbz --code ENOSPC --paths -0 | xargs -0 ls -l
  writeback files job_01m7ywb2v7xqs4dcvq4g8drfbz --json | jq -r 'select(.state != "succeeded") | .lastError.message'`;

export function registerFiles(program: Command, context: CliContext): void {
  serviceOptions(
    program
      .command('files')
      .summary('list the files of a job')
      .description('Lists the files of a job in the order of its list, with what became of each.')
      .argument('<job>', 'id of the job')
      .addOption(choices('-s, --state <state>', 'only files in this state', FILE_STATES))
      .option('--code <code>', 'only files whose last error has this code, e.g. ENOENT')
      .option('-p, --paths', 'print nothing but the paths, byte by byte as they were submitted')
      .option('-0, --nul', 'with --paths: end each in NUL instead of a newline'),
  )
    .option('--json', 'print each file as one line of JSON')
    .addHelpText('after', HELP)
    .action(async (id: string, options: FilesOptions) => {
      await withService(context, options, (client) => files(context, client, id, options));
      context.setExitCode(EXIT.succeeded);
    });
}

async function files(
  context: CliContext,
  client: ServiceClient,
  id: string,
  options: FilesOptions,
): Promise<void> {
  if (options.nul && !options.paths) throw new CliError('-0 needs --paths.', EXIT.usage);
  if (options.code !== undefined && !(FILE_ERROR_CODES as readonly string[]).includes(options.code)) {
    throw new CliError(
      `--code takes one of ${FILE_ERROR_CODES.join(', ')}, not "${options.code}".`,
      EXIT.usage,
    );
  }
  const format = options.json ? jsonLine : options.paths ? pathLine(options.nul ? '\0' : '\n') : fileLine;
  const query = { state: options.state, code: options.code, limit: PAGE };
  for await (const page of listed(client, withQuery(jobPath(id, '/files'), query), jobFileSchema)) {
    if (page.length > 0) await write(context.stdout, Buffer.concat(page.map(format)));
  }
}

function jsonLine(file: JobFile): Buffer {
  return Buffer.from(`${JSON.stringify(file)}\n`);
}

function pathLine(end: string): (file: JobFile) => Buffer {
  return (file) => Buffer.concat([pathBytes(file.path), Buffer.from(end)]);
}

/** `succeeded  /a/b  (flushed, written-back, 1.2 MiB, 0.3 s)`, `failed  /a/c  ENOENT: …`. */
function fileLine(file: JobFile): Buffer {
  const facts: (string | null)[] = [file.outcome, file.evidence];
  if (file.size !== null) facts.push(bytesText(file.size));
  if (file.durationMs !== null) facts.push(durationText(file.durationMs / 1000));
  if (file.attempts > 1) facts.push(`${file.attempts} attempts`);
  const known = facts.filter((fact) => fact !== null).join(', ');
  const bad = file.state !== 'succeeded' && file.lastError !== null;
  const error = bad ? `  ${file.lastError?.code}: ${printable(file.lastError?.message ?? '')}` : '';
  const more = known === '' ? '' : `  (${known})`;
  const to = file.destination === null ? '' : ` -> ${printable(file.destination)}`;
  return Buffer.from(`${file.state.padEnd(9)}  ${printable(file.path)}${to}${error}${more}\n`);
}
