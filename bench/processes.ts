import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The parts of a benchmark run as processes of their own, so that each has its own event loop and memory. */

const MAIN = fileURLToPath(new URL('../src/main.js', import.meta.url));
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 15_000;
/** Of /proc, on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

export interface Program {
  readonly pid: number;
  /** Resolves to the first line of stdout, from now on, that `wanted` takes. */
  line(wanted: (line: string) => boolean, timeoutMs?: number): Promise<string>;
  /** Writes a line to its stdin. */
  tell(line: string): void;
  stop(): Promise<void>;
}

/** Starts `writeback ARGS`. What it writes to stderr is shown only if it ends unasked. */
export function startProgram(args: readonly string[], env: Record<string, string> = {}): Program {
  return start(MAIN, args, env);
}

/** Starts a program of this folder. */
export function startHelper(file: string, args: readonly string[]): Program {
  return start(fileURLToPath(new URL(file, import.meta.url)), args, {});
}

function start(file: string, args: readonly string[], env: Record<string, string>): Program {
  const child = spawn(process.execPath, ['--enable-source-maps', file, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  child.stdin.on('error', () => {});
  const errors: string[] = [];
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors.push(text);
    if (errors.length > 200) errors.shift();
  });
  const ended = once(child, 'exit');
  // A benchmark that fails halfway must leave nothing behind.
  const kill = () => void child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  const lines = createInterface({ input: child.stdout });
  const program: Program = {
    pid: child.pid as number,
    async line(wanted, timeoutMs = START_TIMEOUT_MS) {
      let timer: NodeJS.Timeout | undefined;
      let look: (line: string) => void = () => {};
      const found = new Promise<string>((resolve) => {
        look = (line) => {
          if (wanted(line)) resolve(line);
        };
        lines.on('line', look);
      });
      const late = new Promise<never>((_, reject) => {
        const tooLate = () => reject(new Error(`"${basename(file)} ${args.join(' ')}" said nothing in time`));
        timer = setTimeout(tooLate, timeoutMs);
      });
      const early = ended.then(() => {
        throw new Error(`"${basename(file)} ${args.join(' ')}" ended:\n${errors.join('')}`);
      });
      try {
        return await Promise.race([found, late, early]);
      } finally {
        clearTimeout(timer);
        lines.off('line', look);
      }
    },
    tell: (line) => void child.stdin.write(`${line}\n`),
    stop: () => stop(child, ended),
  };
  return program;
}

async function stop(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(force);
}

export interface SimulatedPorts {
  mount: number;
  nfs: number;
}

export interface SimulatedServer {
  program: Program;
  ports: SimulatedPorts;
}

/** A simulated cache with `/synthetic`, an export of `files` files. */
export function startSyntheticCache(files: number, latencyMs: number): Promise<SimulatedServer> {
  const latency = ['--flush-latency', String(latencyMs), '--flush-concurrency', '100000'];
  return startCache(['--synthetic', String(files), ...latency]);
}

/** A simulated cache with `/cache`, the files of a folder. */
export function startFolderCache(cacheDir: string, filerDir: string): Promise<SimulatedServer> {
  return startCache(['--cache-dir', cacheDir, '--filer-dir', filerDir, '--flush-latency', '0']);
}

async function startCache(options: string[]): Promise<SimulatedServer> {
  const program = startProgram(['simulate', ...options]);
  const { ports } = JSON.parse(await program.line((line) => line.startsWith('{'))) as SimulatedServer;
  return { program, ports };
}

/** Highest resident memory of a process so far, in bytes (Linux). */
export async function peakMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024;
}

/** User and system time of a process and its threads so far, in seconds (Linux). */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name of the program, in parentheses, may have blanks; utime and stime are the 14th and 15th field.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
