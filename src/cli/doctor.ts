import { InvalidArgumentError } from 'commander';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { writeLine } from './output.js';
import type { RegisterCommand } from './program.js';

export interface DoctorCommandOptions {
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

const HELP = `
Looks from this host, as the user that calls it: run it where a worker runs. It changes nothing.
Exit status: 0 nothing failed (there may be warnings), 1 something failed.`;

/**
 * `writeback doctor`.
 * @param diagnose looks at everything the configuration names
 */
export function registerDoctor(
  diagnose: (options: DoctorCommandOptions, context: CliContext) => AsyncIterable<DoctorLine>,
): RegisterCommand {
  return (program, context) => {
    program
      .command('doctor')
      .summary('check Redis and every cache')
      .description(
        'Checks Redis, its settings, and the way to every configured cache, one line for each step.',
      )
      .option('--config <file>', 'configuration file, YAML (WRITEBACK_CONFIG)')
      .option('--data-dir <folder>', 'data of the private Redis (WRITEBACK_DATA_DIR)')
      .option('--redis-url <url>', 'the Redis to check (WRITEBACK_REDIS_URL)')
      .option('--timeout <seconds>', 'for each step', secondsNumber, 5)
      .addHelpText('after', HELP)
      .action(async (options: DoctorCommandOptions) => {
        const count = { ok: 0, warn: 0, fail: 0 };
        for await (const { subject, level, message } of diagnose(options, context)) {
          count[level]++;
          await writeLine(context.stdout, `${level.padEnd(4)}  ${subject}: ${message}`);
        }
        await writeLine(context.stdout, `${count.ok} ok, ${count.warn} warnings, ${count.fail} failed`);
        if (context.signal.aborted) context.setExitCode(EXIT.interrupted);
        else context.setExitCode(count.fail > 0 ? EXIT.error : EXIT.succeeded);
      });
  };
}

function secondsNumber(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 600)) throw new InvalidArgumentError('expected more than 0, at most 600');
  return value;
}
