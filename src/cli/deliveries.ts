import type { Command } from 'commander';
import { z } from 'zod';
import { printable } from '../model/text.js';
import { type Delivery, deliverySchema } from '../model/webhook.js';
import { jobPath, type ServiceOptions, serviceOptions, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { writeJson, writeLine } from './output.js';
import { parseBody, type ServiceClient } from './service-client.js';
import { tableText } from './text.js';

interface DeliveriesOptions extends ServiceOptions {
  resend?: string;
  json?: boolean;
}

const HEADER = ['DELIVERY', 'EVENT', 'TO', 'STATE', 'ATTEMPTS', 'NEXT', 'LAST'];

const HELP = `
Examples:
  writeback deliveries job_01m7ywb2v7xqs4dcvq4g8drfbz
  writeback deliveries job_01m7ywb2v7xqs4dcvq4g8drfbz --resend msg_01m7ywb2v7xqs4dcvq4g8drfbz_ended`;

export function registerDeliveries(program: Command, context: CliContext): void {
  serviceOptions(
    program
      .command('deliveries')
      .summary('list the calls of the webhook of a job, make one again')
      .description('Lists what the webhook of a job was told or is to be told.')
      .argument('<job>', 'id of the job')
      .option('--resend <delivery>', 'send this one again, now'),
  )
    .option('--json', 'print each delivery as one line of JSON')
    .addHelpText('after', HELP)
    .action(async (id: string, options: DeliveriesOptions) => {
      const items = await withService(context, options, (client) => ask(client, id, options.resend));
      if (options.json) for (const delivery of items) await writeJson(context.stdout, delivery);
      else if (items.length === 0) context.stderr.write('Nothing was to be told of this job (yet).\n');
      else for (const line of tableText(HEADER, items.map(row))) await writeLine(context.stdout, line);
      context.setExitCode(EXIT.succeeded);
    });
}

async function ask(client: ServiceClient, id: string, resend: string | undefined): Promise<Delivery[]> {
  const path = jobPath(id, '/deliveries');
  if (resend === undefined) {
    return parseBody(z.object({ items: z.array(deliverySchema) }), (await client.request('GET', path)).body)
      .items;
  }
  const answer = await client.request('POST', `${path}/${encodeURIComponent(resend)}/resend`);
  return [parseBody(deliverySchema, answer.body)];
}

function row(delivery: Delivery): (string | number)[] {
  return [
    delivery.id,
    delivery.event,
    printable(delivery.to),
    delivery.state,
    delivery.attempts,
    delivery.nextAttemptAt ?? '',
    printable(delivery.lastError ?? (delivery.lastStatus === null ? '' : String(delivery.lastStatus))),
  ];
}
