import { Readable, Writable } from 'node:stream';
import { registerCaches } from '../../src/cli/caches.js';
import { registerCancel } from '../../src/cli/cancel.js';
import type { CliContext } from '../../src/cli/context.js';
import { registerDeliveries } from '../../src/cli/deliveries.js';
import { registerFiles } from '../../src/cli/files.js';
import { registerJobs } from '../../src/cli/jobs.js';
import { registerLater } from '../../src/cli/later.js';
import { registerNodes } from '../../src/cli/nodes.js';
import { runProgram } from '../../src/cli/program.js';
import { registerRetry } from '../../src/cli/retry.js';
import { registerSubmit } from '../../src/cli/submit.js';
import { registerWait } from '../../src/cli/wait.js';

export interface CliRun {
  code: number;
  stdout: Buffer;
  stderr: string;
}

export interface CliRunOptions {
  url?: string;
  env?: Record<string, string>;
  stdin?: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** Makes standard error a terminal of so many columns. */
  terminalColumns?: number;
  procFolder?: string;
  signal?: AbortSignal;
  becomeUser?: CliContext['becomeUser'];
  onStderr?: (text: string) => void;
}

/** Runs a client command in this process, as main.ts would. */
export async function runCli(args: readonly string[], options: CliRunOptions = {}): Promise<CliRun> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const context: CliContext = {
    stdin: Readable.from(options.stdin ?? [], { objectMode: false }),
    stdout: sink(stdout),
    stderr: Object.assign(
      sink(stderr, options.onStderr),
      options.terminalColumns === undefined ? {} : { isTTY: true, columns: options.terminalColumns },
    ),
    env: { ...(options.url !== undefined && { WRITEBACK_URL: options.url }), ...options.env },
    signal: options.signal ?? new AbortController().signal,
    version: '0.0.0-test',
    ...(options.procFolder !== undefined && { procFolder: options.procFolder }),
    ...(options.becomeUser !== undefined && { becomeUser: options.becomeUser }),
    setExitCode() {},
  };
  const code = await runProgram(args, context, [
    registerLater,
    registerSubmit,
    registerWait,
    registerJobs,
    registerFiles,
    registerCancel,
    registerRetry,
    registerDeliveries,
    registerCaches,
    registerNodes,
  ]);
  return { code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

function sink(parts: Buffer[], onText?: (text: string) => void): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      parts.push(chunk);
      onText?.(chunk.toString());
      done();
    },
  });
}
