import type { Command } from 'commander';
import { type ServiceOptions, seconds, urlOption, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT_HELP, type ExitCode } from './exit-codes.js';
import { reportJob } from './job-report.js';
import { openProgress } from './progress.js';
import { waitForJob } from './wait-for-job.js';

interface WaitCommandOptions extends ServiceOptions {
  timeout?: number;
  json?: boolean;
}

const HELP = `
A restart of the service is waited out.

${EXIT_HELP}

Examples:
  writeback wait job_01m7ywb2v7xqs4dcvq4g8drfbz && sbatch next.sh
  writeback wait job_01m7ywb2v7xqs4dcvq4g8drfbz --timeout 15m --json`;

export function registerWait(program: Command, context: CliContext): void {
  program
    .command('wait')
    .summary('wait until a job has ended')
    .description('Waits until a job has ended, and tells what became of its files.')
    .argument('<job>', 'id of the job')
    .addOption(seconds('-t, --timeout <time>', 'return with status 124 after this long, e.g. 90s, 15m, 2h'))
    .addOption(urlOption())
    .option('--json', 'print the job that ended as one line of JSON')
    .addHelpText('after', HELP)
    .action(async (id: string, options: WaitCommandOptions) => {
      context.setExitCode(await wait(context, id, options));
    });
}

function wait(context: CliContext, id: string, options: WaitCommandOptions): Promise<ExitCode> {
  return withService(context, options, async (client) => {
    const json = options.json ?? false;
    const progress = openProgress(context, json);
    const timeoutMs = options.timeout === undefined ? null : options.timeout * 1000;
    const job = await waitForJob(client, id, { signal: context.signal, timeoutMs, progress }).finally(() =>
      progress.close(),
    );
    return reportJob(context, client, job, json);
  });
}
