import { z } from 'zod';
import { type ErrorGroup, errorGroupSchema, type Job } from '../model/job.js';
import { bytesText, countText, durationText, filesText, printable, rateText } from '../model/text.js';
import { isTerminalJobState } from '../model/words.js';
import type { CliContext } from './context.js';
import { EXIT, type ExitCode, exitCodeOfJob } from './exit-codes.js';
import { writeJson, writeLine } from './output.js';
import { parseBody, type ServiceClient } from './service-client.js';

const errorsSchema = z.object({ items: z.array(errorGroupSchema) });

/** Errors of a job by code, most frequent first. */
export async function errorGroups(client: ServiceClient, id: string): Promise<ErrorGroup[]> {
  const answer = await client.request('GET', `/v1/jobs/${encodeURIComponent(id)}/errors`);
  return parseBody(errorsSchema, answer.body).items.sort((a, b) => b.count - a.count);
}

/**
 * What became of a job that has ended: a summary and its errors, or with `json` one line with the job as the API
 * shows it and its errors as one more member. Resolves to the exit status.
 */
export async function reportJob(
  context: CliContext,
  client: ServiceClient,
  job: Job,
  json: boolean,
): Promise<ExitCode> {
  const { filesFailed, filesExpired, filesCanceled, filesSkipped } = job.progress;
  const flawed = filesFailed + filesExpired + filesCanceled + filesSkipped > 0;
  const errors = flawed ? await errorGroups(client, job.id) : [];
  if (json) await writeJson(context.stdout, { ...job, errors });
  else for (const line of summaryLines(job, errors)) await writeLine(context.stdout, line);
  return isTerminalJobState(job.state) ? exitCodeOfJob(job.state) : EXIT.succeeded;
}

function summaryLines(job: Job, errors: readonly ErrorGroup[]): string[] {
  const progress = job.progress;
  // A plain server's OK is not to pass for a file that is where it should be.
  const unproven = job.warnings.find(({ code }) => code === 'DIALECT_UNPROVEN')?.count ?? 0;
  const done = progress.filesSucceeded - unproven;
  const counts = [
    `${countText(done)} of ${filesText(progress.filesTotal)} ${job.kind === 'flush' ? 'written back' : 'copied'}`,
  ];
  if (unproven > 0) counts.push(`${countText(unproven)} only accepted`);
  else if (progress.filesAlreadyClean > 0)
    counts.push(`${countText(progress.filesAlreadyClean)} of them had nothing to write`);
  if (progress.filesFailed > 0) counts.push(`${countText(progress.filesFailed)} failed`);
  if (progress.filesExpired > 0) counts.push(`${countText(progress.filesExpired)} expired`);
  if (progress.filesCanceled > 0) counts.push(`${countText(progress.filesCanceled)} canceled`);
  if (progress.filesSkipped > 0) counts.push(`${countText(progress.filesSkipped)} skipped`);
  const lines = [`${job.id} ${job.state}: ${counts.join(', ')}${amountText(job)}`];
  // Where files have errors, the detail is one of them.
  if (job.state !== 'succeeded' && errors.length === 0 && job.statusDetail !== null) {
    lines.push(`  ${printable(job.statusDetail)}`);
  }
  for (const warning of job.warnings) {
    lines.push(
      `  Warning: ${printable(warning.message)}${warning.count === null ? '' : ` (${countText(warning.count)})`}`,
    );
  }
  for (const group of errors) {
    lines.push(`  ${group.code}, ${filesText(group.count)}: ${group.help}`);
    for (const sample of group.samples.slice(0, 3)) {
      lines.push(`    ${printable(sample.path)}: ${printable(sample.message)}`);
    }
    if (group.count > 3) lines.push(`    … all of them: writeback files ${job.id} --code ${group.code}`);
  }
  if (errors.some((group) => group.retryable) && job.state !== 'succeeded') {
    lines.push(`  What failed can be tried again: writeback retry ${job.id}`);
  }
  return lines;
}

function amountText(job: Job): string {
  const { bytesDone, filesSucceeded } = job.progress;
  const parts = bytesDone > 0 ? [bytesText(bytesDone)] : [];
  if (job.startedAt !== null && job.finishedAt !== null) {
    const seconds = Math.max(0, (Date.parse(job.finishedAt) - Date.parse(job.startedAt)) / 1000);
    parts.push(`in ${durationText(seconds)}`);
    if (seconds >= 0.05 && filesSucceeded > 1) parts.push(`(${rateText(filesSucceeded / seconds)} files/s)`);
  }
  return parts.length === 0 ? '' : `, ${parts.join(' ')}`;
}
