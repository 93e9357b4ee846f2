import type { CliContext } from './context.js';
import { type ExitCode, worstExitCode } from './exit-codes.js';
import { reportJob } from './job-report.js';
import { openProgress } from './progress.js';
import type { ServiceClient } from './service-client.js';
import { waitForJob } from './wait-for-job.js';

export interface WaitAndReportOptions {
  /** For all jobs together; undefined: as long as it takes. */
  timeoutSeconds: number | undefined;
  json: boolean;
}

/**
 * Shows the progress of jobs until they have ended, and then what became of them, one after the other: they run side
 * by side whatever we look at. Resolves to the worst of their exit statuses.
 * @throws {CliError} as `waitForJob`
 */
export async function waitAndReport(
  context: CliContext,
  client: ServiceClient,
  ids: readonly string[],
  { timeoutSeconds, json }: WaitAndReportOptions,
): Promise<ExitCode> {
  const endAt = timeoutSeconds === undefined ? null : Date.now() + timeoutSeconds * 1000;
  const codes: ExitCode[] = [];
  for (const id of ids) {
    const progress = openProgress(context, json);
    // A job that has ended already is reported even when the time is over.
    const timeoutMs = endAt === null ? null : Math.max(1, endAt - Date.now());
    const job = await waitForJob(client, id, { signal: context.signal, timeoutMs, progress }).finally(() =>
      progress.close(),
    );
    codes.push(await reportJob(context, client, job, json));
  }
  return worstExitCode(codes);
}
