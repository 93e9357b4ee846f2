import { type Command, InvalidArgumentError, Option } from 'commander';
import { SIMULATED_DIALECTS, type SimulatedDialect } from '../sim/commit-service.js';
import { FAULT_KINDS, type FaultRule, parseFaultRule } from '../sim/faults.js';
import { PERMISSIONS, type Permissions } from '../sim/permissions.js';
import {
  type SimulatedCache,
  type SimulatedExport,
  SQUASH,
  type Squash,
  startSimulatedCache,
} from '../sim/server.js';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';

interface SimulateOptions {
  cacheDir?: string;
  filerDir?: string;
  export?: SimulatedExport[];
  synthetic?: number;
  listen?: string[];
  portmapPort: number;
  mountPort: number;
  nfsPort: number;
  flushLatency: number;
  flushConcurrency: number;
  dialect: SimulatedDialect;
  permissions: Permissions;
  squash: Squash;
  fault?: FaultRule[];
  seed: number;
}

const NOTICE = 'This is a simulated cache, for demonstrations, development and tests: it guards no data.';

const HELP = `
It serves a folder over NFS version 3, for reading, and copies a file to the other folder when it is asked to
write it back. A file is dirty while its copy there is absent or has another size or mtime.
Once it listens it prints one line of JSON with its addresses and ports; it ends with SIGINT or SIGTERM.

Faults: KIND[,times=N][,probability=P][,ms=N][,status=S][,procedure=NAME[+NAME]][,path=GLOB], path last.
  KIND is one of ${FAULT_KINDS.join(', ')}.
  times counts for each path. procedure is COMMIT if not given; COMMIT:start, COMMIT:status, COMMIT:sync and
  COMMIT:plain are its intents, * is any. GLOB is matched against the path within the export.
  --fault jukebox,times=2   --fault 'error,status=NOSPC,path=/full/**'   --fault slow,ms=500,procedure=LOOKUP
`;

/** `writeback simulate`: runs the simulated cache until it is told to end. */
export function registerSimulate(program: Command, context: CliContext): void {
  program
    .command('simulate')
    .summary('run a simulated HPC Cache, for demonstrations and tests')
    .description(NOTICE)
    .option('--cache-dir <folder>', 'what clients wrote')
    .option('--filer-dir <folder>', 'the long-term store; made if it is not there')
    .option(
      '--export <path[=subdir]>',
      'a path that can be mounted; may be repeated (default: /cache)',
      addExport,
    )
    .option(
      '--synthetic <files>',
      'also serve /synthetic with so many files; flushing them moves nothing',
      count,
    )
    .option(
      '--listen <address>',
      'may be repeated: mount addresses of one cache (default: 127.0.0.1)',
      addText,
    )
    .option('--portmap-port <port>', '0: a free one', port, 0)
    .option('--mount-port <port>', '0: a free one', port, 0)
    .option('--nfs-port <port>', '0: a free one', port, 0)
    .option('--flush-latency <ms>', 'from a flush begun to the file on the filer', milliseconds, 100)
    .option('--flush-concurrency <flushes>', 'at work at the same time', count, 256)
    .addOption(
      new Option('--dialect <name>', 'rfc1813: answers the magic COMMIT with OK and does nothing')
        .choices(SIMULATED_DIALECTS)
        .default('hpc-cache'),
    )
    .addOption(
      new Option('--permissions <mode>', 'of files, by mode bits for the uid and gids of the caller')
        .choices(PERMISSIONS)
        .default('enforced'),
    )
    .addOption(new Option('--squash <who>', 'becomes nobody (65534)').choices(SQUASH).default('none'))
    .option('--fault <rule>', 'do something wrong; may be repeated, see below', addFault)
    .option('--seed <number>', 'for faults with a probability', whole, 1)
    .addHelpText('after', HELP)
    .action((options: SimulateOptions) => simulate(options, context));
}

async function simulate(options: SimulateOptions, context: CliContext): Promise<void> {
  let cache: SimulatedCache;
  try {
    cache = await startSimulatedCache({
      ...(options.cacheDir !== undefined && { cacheDir: options.cacheDir }),
      ...(options.filerDir !== undefined && { filerDir: options.filerDir }),
      ...(options.export && { exports: options.export }),
      ...(options.synthetic !== undefined && { syntheticFiles: options.synthetic }),
      ...(options.listen && { addresses: options.listen }),
      ports: { portmap: options.portmapPort, mount: options.mountPort, nfs: options.nfsPort },
      flushLatencyMs: options.flushLatency,
      flushConcurrency: options.flushConcurrency,
      dialect: options.dialect,
      permissions: options.permissions,
      squash: options.squash,
      faults: options.fault ?? [],
      seed: options.seed,
    });
  } catch (cause) {
    throw new CliError(cause instanceof Error ? cause.message : String(cause), undefined, { cause });
  }
  context.stderr.write(`${NOTICE}\n`);
  const { addresses, ports, exports } = cache;
  context.stdout.write(
    `${JSON.stringify({ event: 'listening', simulated: true, addresses, ports, exports })}\n`,
  );
  await aborted(context.signal);
  const { calls, flushes } = cache.stats();
  await cache.close();
  context.stdout.write(`${JSON.stringify({ event: 'ended', calls, flushes })}\n`);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function whole(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new InvalidArgumentError('It is a whole number.');
  return Number(text);
}

function count(text: string): number {
  const value = whole(text);
  if (value < 1) throw new InvalidArgumentError('It is a whole number from 1.');
  return value;
}

function port(text: string): number {
  const value = whole(text);
  if (value > 65535) throw new InvalidArgumentError('A port lies between 0 and 65535.');
  return value;
}

function milliseconds(text: string): number {
  const value = whole(text);
  if (value > 0x7fffffff) throw new InvalidArgumentError('That is longer than a timer can wait.');
  return value;
}

function addText(text: string, before: string[] = []): string[] {
  return [...before, text];
}

function addExport(text: string, before: SimulatedExport[] = []): SimulatedExport[] {
  const [path = '', ...rest] = text.split('=');
  const subdir = rest.join('=');
  if (!path.startsWith('/')) throw new InvalidArgumentError('The path of an export begins with a slash.');
  return [...before, subdir === '' ? { path } : { path, subdir }];
}

function addFault(text: string, before: FaultRule[] = []): FaultRule[] {
  try {
    return [...before, parseFaultRule(text)];
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}
