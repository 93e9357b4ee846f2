import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { CliContext } from '../../src/cli/context.js';
import { barText, openProgress, progressText } from '../../src/cli/progress.js';
import { jobOf } from '../support/scripted-service.js';

const COUNTS = {
  filesTotal: 200,
  filesSucceeded: 87,
  filesFailed: 3,
  filesPerSecond: 123.4,
  bytesPerSecond: 12.34 * 1024 * 1024,
  etaSeconds: 0.94,
};
const RUNNING = jobOf('f1', 'running', COUNTS);

function outputOf(
  terminal: { columns: number; env?: Record<string, string> } | null,
  jobs = [RUNNING],
): string {
  let text = '';
  const stderr = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  const context = {
    stderr: Object.assign(stderr, terminal && { isTTY: true, columns: terminal.columns }),
    env: terminal?.env ?? {},
  } as unknown as CliContext;
  const view = openProgress(context, false);
  for (const job of jobs) view.update(job);
  view.note('a note');
  for (const job of jobs) view.update(job);
  view.close();
  return text;
}

describe('the progress bar', () => {
  test('has per cent, counts, rates and what is left', () => {
    assert.equal(
      barText(RUNNING, 120),
      '[#############.................]  45 %  90/200  3 failed  123 files/s  12.3 MiB/s  0.9 s left',
    );
  });

  test('leaves out what does not fit, the rates first', () => {
    assert.equal(barText(RUNNING, 50), '[####.......]  45 %  90/200  3 failed  123 files/s');
  });

  test('shows no per cent of a total that is still being counted', () => {
    const job = jobOf('f1', 'expanding', { ...COUNTS, filesTotalFinal: false });
    assert.equal(barText(job, 60), 'expanding  90/200+  3 failed  123 files/s');
  });

  test('says that the cache is paused, and why', () => {
    const job = { ...jobOf('f1', 'queued'), paused: true, pausedReason: 'upgrade' };
    assert.equal(barText(job, 80), '[..............................]   0 %  0/2  paused  upgrade');
  });

  test('is never wider than the terminal', () => {
    const count = fc.nat(10_000_000);
    const rate = fc.option(fc.double({ min: 0, max: 1e12, noNaN: true }));
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), count, count, rate, rate, (width, total, done, a, b) => {
        const job = jobOf('f1', 'running', {
          filesTotal: total + done,
          filesSucceeded: done,
          filesPerSecond: a,
          bytesPerSecond: b,
          etaSeconds: a,
        });
        assert.ok(barText(job, width).length <= width);
      }),
    );
  });

  test('is drawn over itself, makes room for notes, and ends its line', () => {
    const text = outputOf({ columns: 60, env: { NO_COLOR: '1' } });
    const line = barText(RUNNING, 59);
    assert.ok(text.startsWith(`\r${line}\u001b[K\r\u001b[Ka note\n`), JSON.stringify(text));
    assert.ok(text.endsWith(`${line}\u001b[K\n`), JSON.stringify(text));
  });

  test('is drawn at most ten times a second', () => {
    const jobs = Array.from({ length: 100 }, (_, i) =>
      jobOf('f1', 'running', { filesTotal: 100, filesSucceeded: i }),
    );
    const text = outputOf({ columns: 60 }, jobs);
    assert.ok(text.split('\r').length < 20);
  });

  test('has colors only where they are wanted', () => {
    assert.ok(outputOf({ columns: 80 }).includes('\u001b[31m3 failed\u001b[39m'));
    assert.ok(!outputOf({ columns: 80, env: { NO_COLOR: '1' } }).includes('\u001b[3'));
  });
});

describe('without a terminal', () => {
  test('progress is plain lines without any control character, and none twice in a row', () => {
    const line = 'f1 running: 90 of 200 files, 3 failed, 123 files/s, 12.3 MiB/s, 0.9 s left';
    assert.equal(outputOf(null, [RUNNING, RUNNING]), `${line}\na note\n`);
  });

  test('and on a dumb terminal as well', () => {
    assert.doesNotMatch(outputOf({ columns: 80, env: { TERM: 'dumb' } }), /\p{Cc}(?<!\n)/u);
  });

  test('a pause and the reason of a delay are told', () => {
    const job = { ...RUNNING, paused: true, pausedReason: 'upgrade', statusDetail: 'The cache\n is away.' };
    assert.match(outputOf(null, [job]), /^f1 running \(paused: upgrade\): .* \(The cache\\n is away\.\)\n/);
  });
});

test('progress says nothing of what is unknown', () => {
  assert.equal(progressText(jobOf('f1', 'queued').progress), '0 of 2 files');
});
