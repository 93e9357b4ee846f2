import { InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { CliError } from './cli-error.js';
import { type ServiceOptions, serviceOptions, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { writeLine } from './output.js';
import type { RegisterCommand } from './program.js';
import { parseBody } from './service-client.js';

export interface DoctorCommandOptions extends ServiceOptions {
  config?: string;
  redisUrl?: string;
  dataDir?: string;
  timeout: number;
}

export interface DoctorLine {
  subject: string;
  level: 'ok' | 'warn' | 'fail';
  message: string;
}

/** What of GET /v1/me is told. */
const meSchema = z.object({ name: z.string(), role: z.string() });

const HELP = `
Looks from this host, as the user that calls it: run it where a worker runs, and where the API runs. It changes nothing.
With a token given (--token-file, WRITEBACK_TOKEN), it also asks the service at --url whether it takes that.
Exit status: 0 nothing failed (there may be warnings), 1 something failed.`;

/**
 * `writeback doctor`.
 * @param diagnose looks at everything the configuration names
 */
export function registerDoctor(
  diagnose: (options: DoctorCommandOptions, context: CliContext) => AsyncIterable<DoctorLine>,
): RegisterCommand {
  return (program, context) => {
    serviceOptions(
      program
        .command('doctor')
        .summary('check Redis, access and every cache')
        .description(
          'Checks Redis, its settings, who may connect with what, webhooks, and the way to every configured cache, one line for each step.',
        )
        .option('--config <file>', 'configuration file, YAML (WRITEBACK_CONFIG)')
        .option('--data-dir <folder>', 'data of the private Redis (WRITEBACK_DATA_DIR)')
        .option('--redis-url <url>', 'the Redis to check (WRITEBACK_REDIS_URL)')
        .option('--timeout <seconds>', 'for each step', secondsNumber, 5),
    )
      .addHelpText('after', HELP)
      .action(async (options: DoctorCommandOptions) => {
        const count = { ok: 0, warn: 0, fail: 0 };
        const tell = async ({ subject, level, message }: DoctorLine): Promise<void> => {
          count[level]++;
          await writeLine(context.stdout, `${level.padEnd(4)}  ${subject}: ${message}`);
        };
        for await (const line of diagnose(options, context)) await tell(line);
        const { tokenFile, timeout } = options;
        if (tokenFile ?? (context.env.WRITEBACK_TOKEN || context.env.WRITEBACK_TOKEN_FILE)) {
          await tell(await tokenLine(context, options, timeout * 1000));
        }
        await writeLine(context.stdout, `${count.ok} ok, ${count.warn} warnings, ${count.fail} failed`);
        if (context.signal.aborted) context.setExitCode(EXIT.interrupted);
        else context.setExitCode(count.fail > 0 ? EXIT.error : EXIT.succeeded);
      });
  };
}

/** Whether the service takes the token that its client commands would send from here. */
async function tokenLine(
  context: CliContext,
  options: ServiceOptions,
  timeoutMs: number,
): Promise<DoctorLine> {
  const subject = 'token';
  try {
    return await withService(context, options, async (client) => {
      const { body } = await client.request('GET', '/v1/me', { timeoutMs });
      const { name, role } = parseBody(meSchema, body);
      return {
        subject,
        level: 'ok',
        message: `${client.url} takes it: it is of ${name}, with the role ${role}`,
      };
    });
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    return { subject, level: 'fail', message: error.message };
  }
}

function secondsNumber(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 600)) throw new InvalidArgumentError('expected more than 0, at most 600');
  return value;
}
