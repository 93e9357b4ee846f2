import type { Command } from 'commander';
import { type ServiceOptions, seconds, serviceOptions, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT_HELP } from './exit-codes.js';
import { waitAndReport } from './wait-and-report.js';

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
  serviceOptions(
    program
      .command('wait')
      .summary('wait until jobs have ended')
      .description('Waits until jobs have ended, and tells what became of their files.')
      .argument('<job...>', 'ids of the jobs; of several the worst exit status counts')
      .addOption(
        seconds('-t, --timeout <time>', 'return with status 124 after this long, e.g. 90s, 15m, 2h'),
      ),
  )
    .option('--json', 'print each job that ended as one line of JSON')
    .addHelpText('after', HELP)
    .action(async (ids: string[], options: WaitCommandOptions) => {
      const wishes = { timeoutSeconds: options.timeout, json: options.json ?? false };
      context.setExitCode(
        await withService(context, options, (client) => waitAndReport(context, client, ids, wishes)),
      );
    });
}
