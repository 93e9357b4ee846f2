import { type Command, Option } from 'commander';
import { z } from 'zod';
import { type Cache, cacheSchema } from '../model/job.js';
import { printable } from '../model/text.js';
import { CliError } from './cli-error.js';
import { positive, type ServiceOptions, serviceOptions, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { writeJson, writeLine } from './output.js';
import { parseBody } from './service-client.js';
import { tableText } from './text.js';

interface CachesOptions extends ServiceOptions {
  json?: boolean;
}

interface LimitOptions {
  inFlight?: number;
  filesPerSecond?: number | null;
  configured?: boolean;
}

const HEADER = [
  'CACHE',
  'HEALTH',
  'DIALECT',
  'WORKERS',
  'JOBS',
  'QUEUED',
  'ACTIVE',
  'IN FLIGHT',
  'ADDRESSES',
  '',
];

const HELP = `
Examples:
  writeback caches
  writeback caches pause projects --reason "core filer upgrade until 14:00, ask ops"
  writeback caches resume projects
  writeback caches limit projects --in-flight 32 --files-per-second 200
  writeback caches limit projects --configured`;

export function registerCaches(program: Command, context: CliContext): void {
  const caches = serviceOptions(
    program
      .command('caches')
      .summary('list caches, pause and resume them, change their limits')
      .description('Lists the caches: health, load and limits.'),
  )
    .option('--json', 'print each cache as one line of JSON')
    .addHelpText('after', HELP)
    .action(async (options: CachesOptions) => {
      await listCaches(context, options);
      context.setExitCode(EXIT.succeeded);
    });

  caches
    .command('pause')
    .description('Begins no more flushes on a cache. Its jobs wait; their deadlines go on.')
    .argument('<name>', 'the cache')
    .requiredOption('-r, --reason <sentence>', 'why, for everybody whose job waits')
    .action(async (name: string, options: { reason: string }, command: Command) => {
      await change(context, command.optsWithGlobals<CachesOptions>(), name, 'POST', '/pause', {
        reason: options.reason,
      });
      context.setExitCode(EXIT.succeeded);
    });

  caches
    .command('limit')
    .description('Changes the limits of a cache, in every worker within two seconds.')
    .argument('<name>', 'the cache')
    .addOption(positive('--in-flight <n>', 'flushes outstanding on the cache'))
    .addOption(positive('--files-per-second <n>', 'flushes begun per second, or "any"', 'any'))
    .addOption(
      new Option('--configured', 'go back to the configuration').conflicts(['inFlight', 'filesPerSecond']),
    )
    .action(async (name: string, options: LimitOptions, command: Command) => {
      const { inFlight, filesPerSecond, configured } = options;
      if (!configured && inFlight === undefined && filesPerSecond === undefined) {
        throw new CliError('give --in-flight, --files-per-second or --configured', EXIT.usage);
      }
      const limits = configured ? null : { inFlight, filesPerSecond };
      await change(context, command.optsWithGlobals<CachesOptions>(), name, 'PATCH', '', { limits });
      context.setExitCode(EXIT.succeeded);
    });

  caches
    .command('resume')
    .description('Lets the jobs of a paused cache go on.')
    .argument('<name>', 'the cache')
    .action(async (name: string, _options: unknown, command: Command) => {
      await change(context, command.optsWithGlobals<CachesOptions>(), name, 'POST', '/resume', undefined);
      context.setExitCode(EXIT.succeeded);
    });
}

async function listCaches(context: CliContext, options: CachesOptions): Promise<void> {
  const items = await withService(context, options, async (client) => {
    const answer = await client.request('GET', '/v1/caches');
    return parseBody(z.object({ items: z.array(cacheSchema) }), answer.body).items;
  });
  if (options.json) for (const cache of items) await writeJson(context.stdout, cache);
  else if (items.length === 0) context.stderr.write('No cache is configured.\n');
  else for (const line of tableText(HEADER, items.map(row))) await writeLine(context.stdout, line);
}

async function change(
  context: CliContext,
  options: CachesOptions,
  name: string,
  method: 'POST' | 'PATCH',
  below: string,
  json: unknown,
): Promise<void> {
  const cache = await withService(context, options, async (client) => {
    const path = `/v1/caches/${encodeURIComponent(name)}${below}`;
    return parseBody(
      cacheSchema,
      (await client.request(method, path, json === undefined ? {} : { json })).body,
    );
  });
  if (options.json) await writeJson(context.stdout, cache);
  else if (method === 'PATCH') await writeLine(context.stdout, `${cache.name} ${limitsText(cache)}`);
  else await writeLine(context.stdout, `${cache.name} ${cache.paused ? pausedText(cache) : 'is not paused'}`);
}

function row(cache: Cache): (string | number)[] {
  const notes = [cache.paused ? pausedText(cache) : '', cache.healthDetail ?? ''];
  return [
    printable(cache.name),
    cache.health,
    cache.dialect,
    cache.workers,
    cache.jobsActive,
    cache.filesQueued,
    cache.filesActive,
    cache.limits.inFlight,
    printable(cache.addresses.join(' ')),
    notes.filter(Boolean).map(printable).join('; '),
  ];
}

function limitsText({ limits }: Cache): string {
  const rate = limits.filesPerSecond === null ? 'any number' : String(limits.filesPerSecond);
  return `may have ${limits.inFlight} flushes in flight, and ${rate} begun per second`;
}

function pausedText(cache: Cache): string {
  return `is paused${cache.pausedReason === null ? '' : `: ${printable(cache.pausedReason)}`}`;
}
