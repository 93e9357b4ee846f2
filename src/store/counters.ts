import { JOB_STATES, type JobState } from '../model/words.js';

/** How the files of a cache or node ended, as the store counts them: each file once, whatever crashed on the way. */
export const FILE_ENDINGS = ['flushed', 'already_clean', 'failed', 'canceled', 'expired'] as const;
export type FileEnding = (typeof FILE_ENDINGS)[number];

const ENDING_LETTERS: Record<FileEnding, string> = {
  flushed: 's',
  already_clean: 'c',
  failed: 'f',
  canceled: 'x',
  expired: 'e',
};

/** What only grows. */
export interface Counters {
  /** Jobs that ever came into the state. */
  jobs: Record<JobState, number>;
  /** Files that ever ended so. */
  files: Record<FileEnding, number>;
}

export function noCounters(): Counters {
  return {
    jobs: Object.fromEntries(JOB_STATES.map((state) => [state, 0])) as Record<JobState, number>,
    files: Object.fromEntries(FILE_ENDINGS.map((ending) => [ending, 0])) as Record<FileEnding, number>,
  };
}

/** @param row the hash of a cache or node; the scripts count in it */
export function addCounters({ jobs, files }: Counters, row: Record<string, string>): void {
  for (const state of JOB_STATES) jobs[state] += Number(row[`jobs:${state}`] ?? 0);
  for (const ending of FILE_ENDINGS) files[ending] += Number(row[`ended:${ENDING_LETTERS[ending]}`] ?? 0);
}
