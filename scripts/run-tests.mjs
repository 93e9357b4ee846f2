/**
 * `node scripts/run-tests.mjs FILES_AT_ONCE TIMEOUT_MS FILE…`: runs test files in the order given, which `node --test`
 * would sort. Options of Node itself are passed on to each file.
 */
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

const PROGRESS_MS = 15_000;

const [filesAtOnce, timeoutMs, ...files] = process.argv.slice(2);
const endedFiles = new Set();

run({ files, concurrency: Number(filesAtOnce), timeout: Number(timeoutMs) })
  .on('test:fail', () => {
    process.exitCode = 1;
  })
  .on('test:complete', ({ name }) => {
    if (files.includes(name)) endedFiles.add(name);
  })
  .compose(new spec())
  .pipe(process.stdout);

// Results come in the order of the files, and the first of them take longest.
setInterval(
  () => console.log(`… ${endedFiles.size} of ${files.length} files have ended`),
  PROGRESS_MS,
).unref();
