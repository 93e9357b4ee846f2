import type { Command } from 'commander';
import { jobSchema } from '../model/job.js';
import { filesText } from '../model/text.js';
import { jobPath, type ServiceOptions, seconds, serviceOptions, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT, EXIT_HELP, type ExitCode } from './exit-codes.js';
import { writeJson, writeLine } from './output.js';
import { parseBody } from './service-client.js';
import { waitAndReport } from './wait-and-report.js';

interface RetryOptions extends ServiceOptions {
  wait: boolean;
  waitTimeout?: number;
  json?: boolean;
}

export function registerRetry(program: Command, context: CliContext): void {
  serviceOptions(
    program
      .command('retry')
      .summary('try the failed files of a job again')
      .description('Makes a new job of the files that failed, expired or were canceled, and waits for it.')
      .argument('<job>', 'id of a job that has ended')
      .option('--no-wait', 'print the id of the new job and return')
      .addOption(seconds('--wait-timeout <time>', 'return with status 124 after this long; the job goes on')),
  )
    .option('--json', 'print the new job as one line of JSON')
    .addHelpText('after', `\n${EXIT_HELP}\n\nExample:\n  writeback retry job_01m7ywb2v7xqs4dcvq4g8drfbz`)
    .action(async (id: string, options: RetryOptions) => {
      context.setExitCode(await retry(context, id, options));
    });
}

function retry(context: CliContext, id: string, options: RetryOptions): Promise<ExitCode> {
  return withService(context, options, async (client) => {
    const json = options.json ?? false;
    const answer = await client.request('POST', jobPath(id, '/retry'));
    const job = parseBody(jobSchema, answer.body);
    if (!options.wait) {
      if (json) await writeJson(context.stdout, job);
      else await writeLine(context.stdout, job.id);
      return EXIT.succeeded;
    }
    if (!json) context.stderr.write(`Job ${job.id}: ${filesText(job.progress.filesTotal)} of ${id} again\n`);
    return waitAndReport(context, client, [job.id], { timeoutSeconds: options.waitTimeout, json });
  });
}
