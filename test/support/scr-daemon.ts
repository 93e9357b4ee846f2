/** `node scr-daemon.js ARG…`: the command `scr-transfer` in a process of its own, so that a test can kill it. */
import { runProgram } from '../../src/cli/program.js';
import { registerScrTransfer } from '../../src/cli/scr-transfer.js';

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
process.exitCode = await runProgram(
  ['scr-transfer', ...process.argv.slice(2)],
  {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    signal: stop.signal,
    version: '0.0.0',
    setExitCode: () => undefined,
  },
  [registerScrTransfer],
);
