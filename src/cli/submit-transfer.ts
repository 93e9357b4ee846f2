import { randomUUID } from 'node:crypto';
import { type Job, jobSchema } from '../model/job.js';
import { pathText } from '../model/pathname.js';
import { CliError } from './cli-error.js';
import { parseLabels, withService } from './client-options.js';
import type { CliContext } from './context.js';
import { patiently } from './epilog.js';
import { EXIT, type ExitCode } from './exit-codes.js';
import { givenPaths, namesAsBytes } from './path-source.js';
import { sendSafely } from './send-safely.js';
import { parseBody, type ServiceClient } from './service-client.js';
import { checkIdempotencyKey, type SubmitOptions } from './submit-options.js';
import { tellAccepted } from './submit-parts.js';
import { type TransferDirectory, TransferList, type TransferWishes } from './transfer-list.js';
import { waitAndReport } from './wait-and-report.js';

/** `writeback submit --transfer`: has the agent of a node copy files. */
export async function submitTransfer(
  context: CliContext,
  files: readonly string[],
  options: SubmitOptions,
  folder: string,
): Promise<ExitCode> {
  checkOptions(files, options);
  const directories = options.directory ?? [];
  const to = options.to === undefined ? [] : [options.to];
  const names = await namesAsBytes(context, [...files, ...directories, ...to]);
  const wishes: TransferWishes = {
    node: options.node ?? '',
    bytesPerSecond: options.limit,
    cpuPercent: options.cpu,
    verify: options.verify ?? false,
    fileTimeoutSeconds: options.fileTimeout,
    deadlineSeconds: options.deadline,
    webhook: options.webhook,
    webhookEvents: options.webhookEvent,
    conflict: options.join ? 'join' : undefined,
    labels: parseLabels(options.label),
  };
  const json = options.json ?? false;
  return withService(context, options, async (client) => {
    const list = new TransferList(folder);
    try {
      const target = options.to === undefined ? null : list.absolute(names.at(-1) as Buffer);
      await take(context, list, names.slice(0, files.length), options, target);
      const found = directoriesOf(
        list,
        names.slice(files.length, files.length + directories.length),
        options,
        target,
      );
      if (list.files + found.length === 0 && options.scrFile === undefined) {
        throw new CliError('The list names no file.', EXIT.usage);
      }
      const scrFile =
        options.scrFile === undefined ? null : pathText(list.absolute(Buffer.from(options.scrFile)));
      const key = options.idempotencyKey ?? randomUUID();
      const send = () => list.send(client, wishes, found, scrFile, key);
      const answer = await patiently(context, options.epilog, () => sendSafely(send, context.signal));
      const job = parseBody(jobSchema, answer.body);
      return await follow(context, client, job, options, json);
    } finally {
      await list.close();
    }
  });
}

async function take(
  context: CliContext,
  list: TransferList,
  names: readonly Buffer[],
  options: SubmitOptions,
  target: Buffer | null,
): Promise<void> {
  if (target !== null) for (const name of names) await list.addInto(name, target);
  const source = { names: [], filesFrom: options.filesFrom ?? null, nul: options.nul ?? false };
  const warn = (sentence: string): void => void context.stderr.write(`writeback: ${sentence}\n`);
  for await (const entries of givenPaths(context, source, warn)) {
    for (const entry of entries) {
      if (target !== null) await list.addInto(entry, target);
      else if (source.nul) await list.addInTurn(entry);
      else await list.addLine(entry);
    }
  }
  list.end();
}

function directoriesOf(
  list: TransferList,
  directories: readonly Buffer[],
  options: SubmitOptions,
  target: Buffer | null,
): TransferDirectory[] {
  return directories.map((directory) => ({
    source: pathText(list.absolute(directory)),
    destination: pathText(target ?? Buffer.alloc(0)),
    ...(options.include && { include: options.include }),
    ...(options.exclude && { exclude: options.exclude }),
  }));
}

async function follow(
  context: CliContext,
  client: ServiceClient,
  job: Job,
  options: SubmitOptions,
  json: boolean,
): Promise<ExitCode> {
  await tellAccepted(context, job, options);
  if (!options.wait) return EXIT.succeeded;
  return waitAndReport(context, client, [job.id], { timeoutSeconds: options.waitTimeout, json });
}

function checkOptions(files: readonly string[], options: SubmitOptions): void {
  const wrong = (sentence: string): never => {
    throw new CliError(`${sentence} (writeback submit --help shows how.)`, EXIT.usage);
  };
  const { filesFrom, directory, to, scrFile } = options;
  checkIdempotencyKey(options);
  if (options.node === undefined) wrong('--transfer needs --node: whose agent is to copy.');
  const flushOnly = {
    cache: options.cache,
    export: options.export,
    dialect: options.dialect,
    mode: options.mode,
  };
  for (const [name, value] of Object.entries(flushOnly)) {
    if (value !== undefined) wrong(`--${name} is about a flush; it means nothing with --transfer.`);
  }
  if (options.pathsAre !== undefined || options.sync) wrong('--paths-are and --sync are about a flush.');
  const named = files.length > 0 || directory !== undefined;
  if (scrFile !== undefined && (named || filesFrom !== undefined || to !== undefined)) {
    wrong('--scr-file names all files itself: give no others, and no --to.');
  }
  if (scrFile === undefined && !named && filesFrom === undefined) {
    wrong('Name files, or a list with --files-from, a --directory, or an --scr-file.');
  }
  if (named && to === undefined)
    wrong('Files and directories need --to: the directory they are copied into.');
  if (files.includes('')) wrong('A file name is empty.');
  if (options.nul && filesFrom === undefined) wrong('-0 says how a list is read: it needs --files-from.');
  if ((options.include ?? options.exclude) !== undefined && directory === undefined) {
    wrong('--include and --exclude choose within a --directory.');
  }
  if (!options.wait && options.waitTimeout !== undefined) wrong('--no-wait has no use for --wait-timeout.');
}
