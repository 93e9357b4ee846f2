import type { Command } from 'commander';
import { jobSchema } from '../model/job.js';
import { jobPath, type ServiceOptions, serviceOptions, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { writeJson, writeLine } from './output.js';
import { parseBody } from './service-client.js';

export function registerCancel(program: Command, context: CliContext): void {
  serviceOptions(
    program
      .command('cancel')
      .summary('cancel jobs')
      .description(
        'Cancels jobs. What is written back already stays so; a job that has ended is left as it is.',
      )
      .argument('<job...>', 'ids of the jobs'),
  )
    .option('--json', 'print each job as one line of JSON')
    .addHelpText('after', '\nExample:\n  writeback cancel job_01m7ywb2v7xqs4dcvq4g8drfbz')
    .action(async (ids: string[], options: ServiceOptions & { json?: boolean }) => {
      await withService(context, options, async (client) => {
        for (const id of ids) {
          const answer = await client.request('POST', jobPath(id, '/cancel'));
          const job = parseBody(jobSchema, answer.body);
          if (options.json) await writeJson(context.stdout, job);
          else await writeLine(context.stdout, `${job.id} ${job.state}`);
        }
      });
      context.setExitCode(EXIT.succeeded);
    });
}
