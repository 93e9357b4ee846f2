import type { Job, Progress } from '../model/job.js';
import { bytesText, countText, durationText, printable, rateText } from '../model/text.js';
import { isTerminalJobState } from '../model/words.js';
import type { CliContext, CliOutput } from './context.js';

/** Where the state of a job is shown while a command waits for it. */
export interface ProgressView {
  /** How the waiting side should ask: on every change of the job, or only this often until it has ended. */
  readonly refresh: 'changes' | { everyMs: number } | 'end';
  update(job: Job): void;
  /** A sentence of its own line, which stays. */
  note(sentence: string): void;
  /** Leaves the cursor at the start of a line. */
  close(): void;
}

const REDRAW_MS = 100;
const FIRST_LINE_MS = 1000;
const LINE_EVERY_MS = 10_000;

/** A bar on a terminal, a line now and then elsewhere, nothing but notes when `quiet`. */
export function openProgress(context: CliContext, quiet: boolean): ProgressView {
  const out = context.stderr;
  if (quiet) return notesOnly(out);
  if (!out.isTTY || context.env.TERM === 'dumb') return plainLines(out);
  return bar(out, !context.env.NO_COLOR);
}

function notesOnly(out: CliOutput): ProgressView {
  return {
    refresh: 'end',
    update() {},
    note: (sentence) => void out.write(`${sentence}\n`),
    close() {},
  };
}

function plainLines(out: CliOutput): ProgressView {
  let last = '';
  let everyMs = FIRST_LINE_MS;
  return {
    // A short job shows that it moves, a long one does not fill the log.
    get refresh() {
      return { everyMs };
    },
    update(job) {
      // The final state is the command's result, and not progress.
      if (isTerminalJobState(job.state)) return;
      const line = `${job.id} ${job.state}${pausedText(job)}: ${progressText(job.progress)}${detailText(job)}`;
      if (line === last) return;
      if (last !== '') everyMs = Math.min(LINE_EVERY_MS, everyMs * 2);
      out.write(`${line}\n`);
      last = line;
    },
    note: (sentence) => void out.write(`${sentence}\n`),
    close() {},
  };
}

function bar(out: CliOutput, colors: boolean): ProgressView {
  let drawn = '';
  let drawnAt = 0;
  let newest: Job | null = null;
  const draw = (): void => {
    if (!newest) return;
    drawnAt = Date.now();
    const line = barText(newest, (out.columns ?? 80) - 1);
    if (line === drawn) return;
    drawn = line;
    const failed = newest.progress.filesFailed > 0;
    out.write(`\r${colors && failed ? line.replace(/\d[\d,]* failed/, '\x1b[31m$&\x1b[39m') : line}\x1b[K`);
  };
  return {
    refresh: 'changes',
    update(job) {
      newest = job;
      if (Date.now() - drawnAt >= REDRAW_MS || isTerminalJobState(job.state)) draw();
    },
    note(sentence) {
      out.write(`${drawn === '' ? '' : '\r\x1b[K'}${sentence}\n`);
      drawn = '';
    },
    close() {
      draw();
      if (drawn !== '') out.write('\n');
      drawn = '';
      newest = null;
    },
  };
}

/** One line of at most `width` columns: bar, per cent, counts; what does not fit is left out from the right. */
export function barText(job: Job, width: number): string {
  const progress = job.progress;
  // A transfer knows its bytes, and they tell more: its files differ in size.
  const inBytes = progress.bytesTotal !== null && progress.bytesTotal > 0;
  const done = inBytes ? progress.bytesDone : filesDone(progress);
  const whole = Math.max((inBytes ? progress.bytesTotal : progress.filesTotal) ?? 1, 1);
  const known = progress.filesTotalFinal && progress.filesTotal > 0;
  const head = known
    ? `${Math.min(100, Math.floor((100 * done) / whole))} %`.padStart(5)
    : job.state.padStart(5);
  const parts = [`${countText(filesDone(progress))}/${totalText(progress)}`];
  if (inBytes) parts.push(amountText(progress));
  if (job.paused) parts.push('paused');
  if (progress.filesFailed > 0) parts.push(`${countText(progress.filesFailed)} failed`);
  if (progress.filesPerSecond !== null && !inBytes)
    parts.push(`${rateText(progress.filesPerSecond)} files/s`);
  if (progress.bytesPerSecond !== null) parts.push(`${bytesText(progress.bytesPerSecond)}/s`);
  if (progress.etaSeconds !== null && !isTerminalJobState(job.state)) {
    parts.push(`${durationText(progress.etaSeconds)} left`);
  }
  if (job.paused && job.pausedReason !== null) parts.push(printable(job.pausedReason));
  else if (job.statusDetail !== null && !isTerminalJobState(job.state))
    parts.push(printable(job.statusDetail));
  let text = head;
  for (const part of parts) {
    if (text.length + 2 + part.length > width - 14) break;
    text += `  ${part}`;
  }
  const room = Math.min(30, width - text.length - 3);
  if (room < 8 || !known) return text.slice(0, Math.max(0, width));
  const filled = Math.min(room, Math.floor((room * done) / whole));
  return `[${'#'.repeat(filled)}${'.'.repeat(room - filled)}] ${text}`;
}

/** `90 of 200 files, 3 failed, 120 files/s, 12.3 MiB/s, 4.0 s left`. */
export function progressText(progress: Progress): string {
  const parts = [`${countText(filesDone(progress))} of ${totalText(progress)} files`];
  if (progress.bytesTotal !== null && progress.bytesTotal > 0) parts.push(amountText(progress));
  if (progress.filesFailed > 0) parts.push(`${countText(progress.filesFailed)} failed`);
  if (progress.filesPerSecond !== null) parts.push(`${rateText(progress.filesPerSecond)} files/s`);
  if (progress.bytesPerSecond !== null) parts.push(`${bytesText(progress.bytesPerSecond)}/s`);
  if (progress.etaSeconds !== null) parts.push(`${durationText(progress.etaSeconds)} left`);
  return parts.join(', ');
}

/** `12.3 of 100.0 MiB`, each with its own unit. */
function amountText({ bytesDone, bytesTotal }: Progress): string {
  return `${bytesText(bytesDone)} of ${bytesText(bytesTotal ?? 0)}`;
}

function filesDone(progress: Progress): number {
  return (
    progress.filesSucceeded +
    progress.filesFailed +
    progress.filesSkipped +
    progress.filesCanceled +
    progress.filesExpired
  );
}

function totalText(progress: Progress): string {
  return `${countText(progress.filesTotal)}${progress.filesTotalFinal ? '' : '+'}`;
}

function pausedText(job: Job): string {
  return job.paused ? ` (paused${job.pausedReason ? `: ${printable(job.pausedReason)}` : ''})` : '';
}

function detailText(job: Job): string {
  return job.statusDetail === null ? '' : ` (${printable(job.statusDetail)})`;
}
