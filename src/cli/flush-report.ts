import type { FlushSession } from '../flush/session.js';
import type { FileError } from '../model/errors.js';
import { endedUntried, type FileResult } from '../model/file-result.js';
import { durationText, filesText, printable, rateText } from '../model/text.js';
import type { FileState } from '../model/words.js';
import type { CliOutput } from './context.js';
import { write } from './output.js';

/** Text of so many characters may wait for a slow reader of standard output before the flushing waits too. */
const MAX_BUFFERED = 65_536;

export interface ReportOptions {
  /** Attempts, evidence and calls too. */
  verbose?: boolean;
  /** One JSON document per line instead of text. */
  json?: boolean;
}

/** Counts what became of the files and writes a line about each. */
export class FlushReport {
  files = 0;
  succeeded = 0;
  /** Succeeded with no more evidence than `accepted`. */
  accepted = 0;
  targetDown = false;
  readonly #stdout: CliOutput;
  readonly #options: ReportOptions;
  readonly #startedAt = Date.now();
  readonly #states = new Map<FileState | 'already_clean', number>();
  #bytes = 0;
  #buffered = '';
  #writing: Promise<void> | null = null;

  constructor(stdout: CliOutput, options: ReportOptions) {
    this.#stdout = stdout;
    this.#options = options;
  }

  /** @throws {CliError} when the reader of standard output is gone */
  async file(outcome: FileResult): Promise<void> {
    this.#count(outcome);
    if (this.#buffered.length >= MAX_BUFFERED) await this.#writing;
  }

  /** A line of the list that is too long to be a path. */
  refused(index: number, start: string, maxBytes: number): void {
    const message = `the path has more than ${maxBytes} bytes`;
    const error: FileError = { code: 'ENAMETOOLONG', nfsStatus: null, phase: 'intake', message };
    this.#count(endedUntried(index, `${start}…`, error));
  }

  async summary(run: {
    interrupted: boolean;
    complete: boolean;
    session: FlushSession | null;
  }): Promise<void> {
    const seconds = (Date.now() - this.#startedAt) / 1000;
    const counts = {
      files: this.files,
      flushed: this.#of('succeeded') - this.#of('already_clean'),
      alreadyClean: this.#of('already_clean'),
      failed: this.#of('failed'),
      expired: this.#of('expired'),
      canceled: this.#of('canceled'),
    };
    const rest = { ...run, session: undefined, targetDown: this.targetDown };
    const counters = this.#options.verbose && run.session !== null ? run.session.counters() : undefined;
    if (this.#options.json) {
      this.#line(JSON.stringify({ summary: { ...counts, bytes: this.#bytes, seconds, ...rest, counters } }));
    } else {
      const parts = [`${filesText(this.files)}: ${counts.flushed} flushed`];
      if (counts.alreadyClean > 0) parts.push(`${counts.alreadyClean} already clean`);
      if (counts.failed > 0) parts.push(`${counts.failed} failed`);
      if (counts.expired > 0) parts.push(`${counts.expired} timed out`);
      if (counts.canceled > 0) parts.push(`${counts.canceled} canceled`);
      const speed = seconds > 0 ? ` (${rateText(this.files / seconds)} files/s)` : '';
      const end = run.interrupted
        ? '; interrupted'
        : run.complete
          ? ''
          : '; the list was not read to its end';
      this.#line(`${parts.join(', ')}, in ${durationText(seconds)}${speed}${end}`);
      if (counters !== undefined) {
        const { calls, retries, maxOutstanding } = counters;
        this.#line(`${calls} calls, ${retries} tries again, at most ${maxOutstanding} flushes in flight`);
      }
    }
    while (this.#writing !== null) await this.#writing;
  }

  #of(state: FileState | 'already_clean'): number {
    return this.#states.get(state) ?? 0;
  }

  #count(outcome: FileResult): void {
    this.files++;
    this.#states.set(outcome.state, this.#of(outcome.state) + 1);
    if (outcome.state === 'succeeded') {
      this.succeeded++;
      this.#bytes += outcome.size ?? 0;
      if (outcome.outcome === 'already_clean')
        this.#states.set('already_clean', this.#of('already_clean') + 1);
      if (outcome.evidence === 'accepted') this.accepted++;
    }
    this.#line(this.#options.json ? jsonLine(outcome) : textLine(outcome, this.#options.verbose ?? false));
  }

  /** Lines that come while a write is under way go out together with the next. */
  #line(line: string): void {
    this.#buffered += `${line}\n`;
    if (this.#writing !== null) return;
    this.#writing = this.#drain();
    // Whoever waits for it sees the error; a run that is about to end anyway must not crash on it.
    this.#writing.catch(() => {});
  }

  async #drain(): Promise<void> {
    // One turn of the event loop gathers what ends together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#buffered !== '') {
      const text = this.#buffered;
      this.#buffered = '';
      await write(this.#stdout, text);
    }
    this.#writing = null;
  }
}

function textLine(outcome: FileResult, verbose: boolean): string {
  const { path, lastError } = outcome;
  const word = outcome.state === 'succeeded' ? (outcome.outcome ?? 'flushed') : outcome.state;
  const mtime = outcome.mtimeMs === null ? '-' : new Date(outcome.mtimeMs).toISOString();
  const parts = [word, mtime, `${(outcome.durationMs / 1000).toFixed(3)} s`, printable(path)];
  if (verbose) parts.splice(3, 0, `attempts ${outcome.attempts}`, outcome.evidence ?? '-');
  const line = parts.join('  ');
  if (lastError === null || (outcome.state === 'succeeded' && !verbose)) return line;
  return `${line}: ${lastError.code}: ${printable(lastError.message)}`;
}

function jsonLine({ mtimeMs, ...outcome }: FileResult): string {
  return JSON.stringify({ ...outcome, mtime: mtimeMs === null ? null : new Date(mtimeMs).toISOString() });
}
