import type { Job, Progress } from '../model/job.js';
import { bytesText, countText, filesText } from '../model/text.js';

/** What a bar, and the sentence beside it, say of a job's progress. */

export interface Share {
  /** State of the files; for a transfer's bytes also `moved`. */
  name: 'succeeded' | 'moved' | 'failed' | 'expired' | 'canceled' | 'skipped';
  /** 0 to 1, of the whole bar. */
  part: number;
}

function filesEnded(progress: Progress): number {
  const { filesSucceeded, filesFailed, filesSkipped, filesCanceled, filesExpired } = progress;
  return filesSucceeded + filesFailed + filesSkipped + filesCanceled + filesExpired;
}

export function filesBad({ filesFailed, filesCanceled, filesExpired }: Progress): number {
  return filesFailed + filesCanceled + filesExpired;
}

/** By bytes for a transfer whose sizes are known: one large file is no jump at the end. Else by files. */
export function sharesOf({ kind, progress }: Job): Share[] {
  const total = Math.max(1, progress.filesTotal);
  const rest: Share[] = [
    { name: 'failed', part: progress.filesFailed / total },
    { name: 'expired', part: progress.filesExpired / total },
    { name: 'canceled', part: progress.filesCanceled / total },
    { name: 'skipped', part: progress.filesSkipped / total },
  ];
  const { bytesTotal, bytesDone } = progress;
  const left = 1 - rest.reduce((sum, { part }) => sum + part, 0);
  const first: Share =
    kind === 'transfer' && bytesTotal !== null && bytesTotal > 0
      ? { name: 'moved', part: Math.min(left, bytesDone / bytesTotal) }
      : { name: 'succeeded', part: progress.filesSucceeded / total };
  return [first, ...rest].filter(({ part }) => part > 0);
}

/** 0 to 100, whole; 100 only when it is all. Null while it is not known how much there is. */
export function percentDone(job: Job): number | null {
  const { progress } = job;
  if (!progress.filesTotalFinal || progress.filesTotal === 0) return null;
  if (filesEnded(progress) === progress.filesTotal) return 100;
  return Math.min(99, Math.floor(sharesOf(job).reduce((sum, { part }) => sum + part, 0) * 100));
}

/** `12 of 40 files`, `12 of 40 files known so far`. */
export function filesProgressText({ progress }: Job): string {
  const known = progress.filesTotalFinal ? '' : ' known so far';
  return `${countText(filesEnded(progress))} of ${filesText(progress.filesTotal)}${known}`;
}

/** `3.0 MiB of 12.0 MiB`; without a total what is done. */
export function bytesProgressText({ bytesDone, bytesTotal }: Progress): string {
  return bytesTotal === null ? bytesText(bytesDone) : `${bytesText(bytesDone)} of ${bytesText(bytesTotal)}`;
}
