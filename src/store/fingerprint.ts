import { createHash } from 'node:crypto';
import type { Duplicates } from './dedup.js';
import type { JobMeta } from './job-record.js';
import type { NewJob } from './types.js';

/**
 * What makes two requests the same: everything a job is, whose it is included, with its files and directories as sets. An address named by
 * a request counts as what it names, not with what the configuration of the day says about such addresses.
 *
 * @param counted what is known of the list besides its different entries, e.g. how many stand in it twice
 */
export async function fingerprint(
  job: NewJob & Pick<JobMeta, 'principal' | 'identity'>,
  counted: Record<string, number>,
  entries: Duplicates,
): Promise<string> {
  const { parentJobId: _, directories, ...rest } = job;
  const places = directories.map((directory) =>
    canonical({
      ...directory,
      include: [...directory.include].sort(),
      exclude: [...directory.exclude].sort(),
    }),
  );
  return createHash('sha256')
    .update(canonical({ ...rest, adHocCache: null, counted, directories: places.sort() }))
    .update(await entries.digestOfSet())
    .digest('base64url');
}

/** JSON in which the order of members does not show. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
