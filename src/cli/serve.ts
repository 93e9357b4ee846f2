import { InvalidArgumentError, Option } from 'commander';
import { ROLES, type Role } from '../model/words.js';
import type { CliContext } from './context.js';
import type { RegisterCommand } from './program.js';

export interface ServeCommandOptions {
  role: Role;
  config?: string;
  host?: string;
  port?: number;
  dataDir?: string;
  redisUrl?: string;
  node?: string;
}

const HELP = `
Every setting can be in the configuration file or in an environment variable; options win over both.
Without a Redis URL it starts a private Redis of its own, with its data in the data directory: for one host.
For several processes or hosts give all of them the same Redis:
  writeback serve --role api --redis-url redis://redis.example.org
  writeback serve --role worker --redis-url redis://redis.example.org
On a node whose files are to be copied, an agent (agent.sourceRoots and agent.destinationRoots say what it may touch):
  writeback serve --role agent --node n042 --redis-url redis://redis.example.org

It logs JSON lines to standard error, and ends with SIGTERM or SIGINT: flushes under way may end first, a second
signal ends it at once. With SIGHUP it reads its configuration again: caches, adHoc, log.level and principals change
at once, the rest with the next start.`;

/**
 * `writeback serve`.
 * @param run starts the service, and resolves to the exit status once it has ended
 */
export function registerServe(
  run: (options: ServeCommandOptions, context: CliContext) => Promise<number>,
): RegisterCommand {
  return (program, context) => {
    program
      .command('serve')
      .summary('run the service')
      .description('Runs the service: the HTTP API, the workers, both, or the agent of a node.')
      .addOption(new Option('--role <role>', 'what to run').choices(ROLES).default(ROLES[0]))
      .option('--config <file>', 'configuration file, YAML (WRITEBACK_CONFIG)')
      .option('--host <address>', 'address to listen on (WRITEBACK_HTTP_HOST)')
      .option('--port <port>', 'port to listen on; 0: any that is free (WRITEBACK_HTTP_PORT)', portNumber)
      .option('--data-dir <folder>', 'data of the private Redis (WRITEBACK_DATA_DIR)')
      .option('--redis-url <url>', 'a Redis to use instead of a private one (WRITEBACK_REDIS_URL)')
      .option('--node <name>', 'with --role agent: the node whose transfers it takes (WRITEBACK_AGENT_NODE)')
      .addHelpText('after', HELP)
      .action(async (options: ServeCommandOptions) => {
        context.setExitCode(await run(options, context));
      });
  };
}

function portNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > 65535) throw new InvalidArgumentError('expected 0 to 65535');
  return value;
}
