import type { Command } from 'commander';
import { type Node, nodeSchema } from '../model/node.js';
import { bytesText, printable } from '../model/text.js';
import { type ServiceOptions, serviceOptions, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { listed } from './listing.js';
import { writeJson, writeLine } from './output.js';
import { parseBody } from './service-client.js';
import { tableText } from './text.js';

interface NodesOptions extends ServiceOptions {
  json?: boolean;
}

const PAGE = 1000;
const HEADER = ['NODE', 'AGENT', 'JOBS', 'QUEUED', 'ACTIVE', 'TO COPY', ''];

const HELP = `
Examples:
  writeback nodes
  writeback nodes pause n042 --reason "the file system is upgraded until 14:00, ask ops"
  writeback nodes resume n042`;

export function registerNodes(program: Command, context: CliContext): void {
  const nodes = serviceOptions(
    program
      .command('nodes')
      .summary('list the nodes whose agents copy, pause and resume them')
      .description('Lists the nodes: whether an agent is there, and what it has to copy.'),
  )
    .option('--json', 'print each node as one line of JSON')
    .addHelpText('after', HELP)
    .action(async (options: NodesOptions) => {
      await listNodes(context, options);
      context.setExitCode(EXIT.succeeded);
    });

  nodes
    .command('pause')
    .description('Stops copying within seconds, also in mid-file. Its jobs wait; their deadlines go on.')
    .argument('<name>', 'the node')
    .requiredOption('-r, --reason <sentence>', 'why, for everybody whose job waits')
    .action(async (name: string, options: { reason: string }, command: Command) => {
      await change(context, command.optsWithGlobals<NodesOptions>(), name, 'pause', {
        reason: options.reason,
      });
      context.setExitCode(EXIT.succeeded);
    });

  nodes
    .command('resume')
    .description('Lets the copies of a paused node go on from where they are.')
    .argument('<name>', 'the node')
    .action(async (name: string, _options: unknown, command: Command) => {
      await change(context, command.optsWithGlobals<NodesOptions>(), name, 'resume', undefined);
      context.setExitCode(EXIT.succeeded);
    });
}

async function listNodes(context: CliContext, options: NodesOptions): Promise<void> {
  const rows: (string | number)[][] = [];
  await withService(context, options, async (client) => {
    for await (const page of listed(client, `/v1/nodes?limit=${PAGE}`, nodeSchema)) {
      for (const node of page) {
        if (options.json) await writeJson(context.stdout, node);
        else rows.push(row(node));
      }
    }
  });
  if (options.json) return;
  if (rows.length === 0) context.stderr.write('No agent of any node was ever seen.\n');
  else for (const line of tableText(HEADER, rows)) await writeLine(context.stdout, line);
}

async function change(
  context: CliContext,
  options: NodesOptions,
  name: string,
  what: 'pause' | 'resume',
  json: unknown,
): Promise<void> {
  const node = await withService(context, options, async (client) => {
    const path = `/v1/nodes/${encodeURIComponent(name)}/${what}`;
    return parseBody(
      nodeSchema,
      (await client.request('POST', path, json === undefined ? {} : { json })).body,
    );
  });
  if (options.json) await writeJson(context.stdout, node);
  else await writeLine(context.stdout, `${node.name} ${node.paused ? pausedText(node) : 'is not paused'}`);
}

function row(node: Node): (string | number)[] {
  const { name, connected, seenAt, jobsActive, filesQueued, filesActive, bytesQueued } = node;
  const agent = connected
    ? 'connected'
    : seenAt === null
      ? 'never seen'
      : `gone since ${seenAt.slice(0, 19)}Z`;
  const note = node.paused ? printable(pausedText(node)) : '';
  return [printable(name), agent, jobsActive, filesQueued, filesActive, bytesText(bytesQueued), note];
}

function pausedText(node: Node): string {
  return `is paused${node.pausedReason === null ? '' : `: ${printable(node.pausedReason)}`}`;
}
