import { pathText } from '../model/pathname.js';
import { isTerminalJobState, type JobState } from '../model/words.js';
import type { Commands, ScriptReply } from './commands.js';
import { decodeEntry } from './entry.js';
import { parseMeta } from './job-record.js';
import type { ChunkFile, WorkJob } from './work.js';

/** Its queue. Null: there is no such job, or it has ended. */
export async function queueOfOpenJob({ redis, keys }: Commands, jobId: string): Promise<string | null> {
  const [queue, state] = await redis.hmget(keys.job(jobId), 'queue', 'state');
  return queue && state && !isTerminalJobState(state as JobState) ? queue : null;
}

/** @param meta the field of that name; @param deadlineAt Date.now() milliseconds */
export function workJob(
  id: string,
  queue: string,
  meta: ScriptReply | undefined,
  deadlineAt: ScriptReply | undefined,
): WorkJob {
  const { labels: _, parentJobId: __, ...target } = parseMeta(String(meta));
  return { ...target, id, queue, deadlineAt: Number(deadlineAt) };
}

/** @param index position in the job */
export function chunkFile(index: number, bytes: Buffer): ChunkFile {
  const { path, destination, size } = decodeEntry(bytes);
  return { index, path: pathText(path), destination: destination && pathText(destination), size };
}
