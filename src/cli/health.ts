import { get, type IncomingMessage } from 'node:http';
import type { Command } from 'commander';
import { z } from 'zod';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { writeLine } from './output.js';

const TIMEOUT_MS = 4000;
const MAX_ANSWER_BYTES = 4096;
const healthSchema = z.object({ version: z.string(), uptimeSeconds: z.number() });

const HELP = `
For the health check of a container, in every role: it asks the process itself through a unix socket (healthSocket in
its configuration), so it works with TLS, client certificates and credentials required, and needs none of them.
Exit status: 0 the process answers, 69 it does not.`;

/** `writeback health`. */
export function registerHealth(program: Command, context: CliContext): void {
  program
    .command('health')
    .summary('ask a service on this host whether it is alive')
    .description('Asks the process that listens on a unix socket whether it is alive.')
    .option('--socket <path>', 'its healthSocket (default: $WRITEBACK_HEALTH_SOCKET)')
    .addHelpText('after', HELP)
    .action(async ({ socket }: { socket?: string }) => {
      const path = socket ?? (context.env.WRITEBACK_HEALTH_SOCKET || undefined);
      if (path === undefined) {
        throw new CliError(
          'Say where the socket is: --socket or WRITEBACK_HEALTH_SOCKET, as healthSocket in the configuration of the service.',
          EXIT.usage,
        );
      }
      const { version, uptimeSeconds } = await ask(path);
      await writeLine(context.stdout, `writeback ${version} is alive, for ${Math.round(uptimeSeconds)} s`);
      context.setExitCode(EXIT.succeeded);
    });
}

/** @throws {CliError} unavailable */
async function ask(socketPath: string): Promise<z.infer<typeof healthSchema>> {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      get({ socketPath, path: '/healthz', signal, agent: false }, resolve).once('error', reject);
    });
    let text = '';
    for await (const part of answer.setEncoding('utf8')) {
      text += part;
      if (text.length > MAX_ANSWER_BYTES) throw new Error('what answers is no service');
    }
    if (answer.statusCode !== 200) throw new Error(`the answer was ${answer.statusCode}`);
    return healthSchema.parse(JSON.parse(text));
  } catch (error) {
    const why =
      error instanceof Error && error.name === 'TimeoutError'
        ? `there was no answer within ${TIMEOUT_MS / 1000} s`
        : error instanceof SyntaxError || error instanceof z.ZodError
          ? 'what answers is no service'
          : error instanceof Error
            ? error.message
            : String(error);
    throw new CliError(`No service answers at ${socketPath}: ${why}.`, EXIT.unavailable, { cause: error });
  }
}
