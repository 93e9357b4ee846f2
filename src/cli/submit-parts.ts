import { createHash } from 'node:crypto';
import { type Job, jobSchema } from '../model/job.js';
import { filesText, printable } from '../model/text.js';
import { CliError } from './cli-error.js';
import { parseLabels } from './client-options.js';
import type { CliContext } from './context.js';
import { type FlushList, type FlushWishes, type ListPart, sendList } from './flush-list.js';
import { writeJson, writeLine } from './output.js';
import { sendSafely } from './send-safely.js';
import { parseBody, type ServiceClient } from './service-client.js';
import type { SubmitOptions } from './submit-options.js';

/** How a list becomes jobs, whoever made it. */

export function wishesOf(options: SubmitOptions): FlushWishes {
  return {
    pathsAre: options.pathsAre,
    dialect: options.dialect,
    mode: options.sync ? 'sync' : options.mode,
    fileTimeoutSeconds: options.fileTimeout,
    deadlineSeconds: options.deadline,
    webhook: options.webhook,
    webhookEvents: options.webhookEvent,
    conflict: options.join ? 'join' : undefined,
    labels: parseLabels(options.label),
  };
}

/**
 * Posts every part; gives the ids of the jobs. Nothing was posted before all of them were read to their end.
 * @param key of idempotency; several parts have keys made from it
 */
export async function submitParts(
  context: CliContext,
  client: ServiceClient,
  list: FlushList,
  wishes: FlushWishes,
  key: string,
  onAccepted: (job: Job) => void | Promise<void>,
): Promise<string[]> {
  const ids: string[] = [];
  const parts = [...list.parts()];
  for (const part of parts) {
    const partKey = parts.length === 1 ? key : `${key}.${digestOf(part)}`;
    try {
      const job = parseBody(
        jobSchema,
        (await sendSafely(() => sendList(client, part, wishes, partKey), context.signal)).body,
      );
      ids.push(job.id);
      await onAccepted(job);
    } catch (error) {
      if (ids.length === 0 || !(error instanceof CliError)) throw error;
      throw new CliError(`${error.message} Submitted before that: ${ids.join(', ')}.`, error.exitCode, {
        cause: error,
      });
    }
  }
  return ids;
}

/** Each job of one list has a key of its own, the same whatever else is in the list and in which order. */
function digestOf({ cache, export: path }: ListPart): string {
  return createHash('sha256').update(`${cache}\0${path}`).digest('hex').slice(0, 16);
}

/** The id for a script that does not wait; a line for a person who does. */
export async function tellAccepted(
  context: CliContext,
  job: Job,
  { wait, json }: Pick<SubmitOptions, 'wait' | 'json'>,
): Promise<void> {
  if (!wait) {
    if (json) await writeJson(context.stdout, job);
    else await writeLine(context.stdout, job.id);
    return;
  }
  if (json) return;
  const total = `${filesText(job.progress.filesTotal)}${job.progress.filesTotalFinal ? '' : ' so far'}`;
  const place =
    job.node === null
      ? `on ${printable(job.cache ?? '')}, export ${printable(job.export ?? '')}`
      : `to be copied by node ${printable(job.node)}`;
  context.stderr.write(`Job ${job.id}: ${total} ${place}\n`);
}
