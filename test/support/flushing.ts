import { flushFiles } from '../../src/flush/engine.js';
import { FlushSession, type FlushSessionOptions, type NfsTarget } from '../../src/flush/session.js';
import type { ExportCalls } from '../../src/flush/target-calls.js';
import type { FlushOptions } from '../../src/flush/types.js';
import type { FileResult } from '../../src/model/file-result.js';

/** A policy for tests that do not want to wait. */
export const QUICK = {
  laterMinMs: 10,
  laterMaxMs: 40,
  fewMinMs: 10,
  restartMinMs: 10,
  awayMinMs: 10,
  awayMaxMs: 40,
  pollMinMs: 10,
  pollMaxMs: 40,
};

export function targetAt(
  addresses: readonly string[],
  ports: Partial<NfsTarget['ports']>,
  more: Partial<NfsTarget> = {},
): NfsTarget {
  return {
    addresses,
    ports: { portmap: 111, mount: null, nfs: null, ...ports },
    credential: { uid: 0, gid: 0, gids: [] },
    machineName: 'test',
    privilegedPort: false,
    callTimeoutMs: 30_000,
    ...more,
  };
}

export function openSession(
  target: NfsTarget,
  exportPath: string,
  options: Partial<FlushSessionOptions> = {},
): Promise<FlushSession> {
  return FlushSession.open(target, exportPath, {
    inFlight: 256,
    filesPerSecond: null,
    dialectProven: false,
    retry: QUICK,
    ...options,
  });
}

export function openOn(nfs: ExportCalls, options: Partial<FlushSessionOptions> = {}): Promise<FlushSession> {
  return openSession(targetAt(['10.0.0.4'], {}), '/NAS', { mount: async () => nfs, ...options });
}

export function flushOptions(more: Partial<FlushOptions> = {}): FlushOptions {
  return {
    dialect: 'rfc1813',
    mode: 'async',
    pathsAre: 'export',
    clientMount: null,
    fileTimeoutMs: 20_000,
    deadlineAt: null,
    whenDown: 'wait',
    holdAfterMs: 1000,
    ...more,
  };
}

export function filesOf(paths: readonly string[]) {
  return paths.map((path, index) => ({ index, path }));
}

/** Outcomes by path; fails if one path ends twice. */
export async function flushAll(
  session: FlushSession,
  paths: readonly string[],
  options: Partial<FlushOptions> = {},
  signal: AbortSignal = new AbortController().signal,
): Promise<FileResult[]> {
  const outcomes: (FileResult | undefined)[] = paths.map(() => undefined);
  for await (const outcome of flushFiles(session, filesOf(paths), flushOptions(options), signal)) {
    if (outcomes[outcome.index] !== undefined) throw new Error(`${outcome.path} came out twice`);
    outcomes[outcome.index] = outcome;
  }
  return outcomes.map((outcome, i) => {
    if (outcome === undefined) throw new Error(`${paths[i]} did not come out`);
    return outcome;
  });
}

export async function flushOne(
  session: FlushSession,
  path: string,
  options: Partial<FlushOptions> = {},
): Promise<FileResult> {
  return (await flushAll(session, [path], options))[0] as FileResult;
}
