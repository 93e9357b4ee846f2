import { FILE_ERROR_CODES, FILE_ERRORS, type FileErrorCode, isRetryable } from '../model/errors.js';
import type { ErrorGroup } from '../model/job.js';
import type { Commands } from './commands.js';
import type { Files } from './files.js';

const SAMPLES = 5;

/** Exact counts per code with up to five samples each, most frequent first. */
export async function errorGroups(commands: Commands, files: Files, id: string): Promise<ErrorGroup[]> {
  const stored: Record<string, string> = await commands.redis.hgetall(commands.keys.errors(id));
  const groups = await Promise.all(
    FILE_ERROR_CODES.filter((code) => Number(stored[`n:${code}`] ?? 0) > 0).map(
      async (code): Promise<ErrorGroup> => ({
        code,
        count: Number(stored[`n:${code}`]),
        help: FILE_ERRORS[code].help,
        retryable: isRetryable(code),
        samples: await samplesOf(stored, files, id, code),
      }),
    ),
  );
  return groups.sort((a, b) => b.count - a.count);
}

async function samplesOf(
  stored: Record<string, string>,
  files: Files,
  id: string,
  code: FileErrorCode,
): Promise<ErrorGroup['samples']> {
  const samples: ErrorGroup['samples'] = [];
  for (let i = 1; i <= SAMPLES; i++) {
    const json = stored[`s:${code}:${i}`];
    if (json) samples.push(JSON.parse(json) as ErrorGroup['samples'][number]);
  }
  if (samples.length > 0 || (code !== 'CANCELED' && code !== 'DEADLINE')) return samples;
  // Files that ended while no worker had them were counted in bulk.
  const state = code === 'CANCELED' ? 'canceled' : 'expired';
  const page = await files.list(id, { states: [state], code }, null, SAMPLES);
  return page.items.map(({ path, lastError }) => ({ path, message: lastError?.message ?? '' }));
}
