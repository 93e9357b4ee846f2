/**
 * `node scripts/run-tests.mjs FILES_AT_ONCE TIMEOUT_MS FILE…`: runs test files in the order given, which `node --test`
 * would sort. Options of Node itself are passed on to each file.
 */
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

const [filesAtOnce, timeoutMs, ...files] = process.argv.slice(2);

run({ files, concurrency: Number(filesAtOnce), timeout: Number(timeoutMs) })
  .on('test:fail', () => {
    process.exitCode = 1;
  })
  .compose(new spec())
  .pipe(process.stdout);
