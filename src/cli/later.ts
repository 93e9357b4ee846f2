import { realpath } from 'node:fs/promises';
import type { Command } from 'commander';
import { CliError } from './cli-error.js';
import type { CliContext } from './context.js';
import { EXIT } from './exit-codes.js';
import { currentBatchJob, noteFiles, notesFolder, withNotes } from './noted-files.js';
import { givenPaths, namesAsBytes } from './path-source.js';

interface LaterOptions {
  filesFrom?: string;
  nul?: boolean;
}

const SLASH = 0x2f;

const HELP = `
Nothing is asked of the service yet: the paths are kept in ~/.writeback (or $WRITEBACK_NOTES) until the scheduler's
hook submits them with "writeback submit --later". Any process of the batch job may call it, on any of its nodes.

Examples, in a job script:
  writeback later results.h5 log.txt
  find run42 -name '*.h5' -print0 | writeback later --files-from - -0`;

export function registerLater(program: Command, context: CliContext): void {
  program
    .command('later')
    .summary('in a batch job: note files to write back when it has ended')
    .description('Notes files that the hook of the scheduler has written back when this batch job has ended.')
    .argument('[file...]', 'files to write back')
    .option('-f, --files-from <list>', 'read more files from a list, one per line; - is standard input')
    .option('-0, --nul', 'the paths of the list end in NUL (as of find -print0)')
    .addHelpText('after', HELP)
    .action((files: string[], options: LaterOptions) => later(context, files, options));
}

async function later(context: CliContext, files: readonly string[], options: LaterOptions): Promise<void> {
  if (files.length === 0 && options.filesFrom === undefined) {
    throw new CliError('Name files, or a list with --files-from.', EXIT.usage);
  }
  if (files.includes('')) throw new CliError('A file name is empty.', EXIT.usage);
  const job = currentBatchJob(context.env);
  if (job === null) {
    throw new CliError(
      'This is no batch job of Slurm, PBS or LSF. Outside of one, "writeback submit" asks at once; WRITEBACK_BATCH_JOB names the job of another scheduler.',
      EXIT.usage,
    );
  }
  const source = {
    names: await namesAsBytes(context, files),
    filesFrom: options.filesFrom ?? null,
    nul: options.nul ?? false,
  };
  const warn = (sentence: string): void => void context.stderr.write(`writeback: ${sentence}\n`);
  const folder = notesFolder(context.env);
  await withNotes(folder, () => noteFiles(folder, job, absolute(givenPaths(context, source, warn))));
}

async function* absolute(paths: AsyncIterable<Uint8Array[]>): AsyncGenerator<Uint8Array[], void, undefined> {
  // As bytes: a working directory may have any name.
  const here = await realpath('.', { encoding: 'buffer' });
  for await (const some of paths) {
    yield some.map((path) => (path[0] === SLASH ? path : Buffer.concat([here, Buffer.of(SLASH), path])));
  }
}
