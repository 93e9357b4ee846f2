import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { NFS3_WRITEVERFSIZE } from '../nfs/nfs3.js';
import { CommitService, type SimulatedDialect } from './commit-service.js';
import { type FaultRule, FaultTable } from './faults.js';
import { type FlushCounts, type FlushLimits, FlushScheduler } from './flush-scheduler.js';
import { FolderVolume } from './folder-volume.js';
import { mountProgram } from './mount-service.js';
import { nfsProgram } from './nfs-service.js';
import type { Permissions } from './permissions.js';
import { type Ports, portmapProgram } from './portmap-service.js';
import { type Credential, type RpcProgram, RpcServer, type RpcServerOptions } from './rpc-server.js';
import { SyntheticVolume } from './synthetic-volume.js';
import type { Volume } from './volume.js';

/**
 * A simulated HPC Cache: an NFS version 3 server over two folders that writes files back when the magic COMMIT
 * asks for it. For demonstrations, development and tests; it serves no writes and guards no data.
 */

export interface SimulatedExport {
  /** What MNT asks for, e.g. `/cache`. */
  path: string;
  /** Folder below `cacheDir` and `filerDir`; absent: these themselves. */
  subdir?: string;
}

export const SQUASH = ['none', 'root', 'all'] as const;
export type Squash = (typeof SQUASH)[number];

export interface SimulatedCacheOptions {
  /** What clients wrote. Needed unless only `syntheticFiles` are served. */
  cacheDir?: string;
  /** The long-term store; made if it is not there. */
  filerDir?: string;
  /** Absent: one export, `/cache`. */
  exports?: readonly SimulatedExport[];
  /** Serves `/synthetic` with so many files that are nowhere: a flush of them moves nothing. */
  syntheticFiles?: number;
  /** Several are the mount addresses of one cache: the same ports, the same state. Absent: 127.0.0.1. */
  addresses?: readonly string[];
  /** 0 or absent: a free port. */
  ports?: Partial<Ports>;
  /** Milliseconds from a flush's turn until the file is on the filer; absent: 0. */
  flushLatencyMs?: number;
  /** Absent: 256. */
  flushConcurrency?: number;
  /** Absent: `hpc-cache`. */
  dialect?: SimulatedDialect;
  /** Absent: `enforced`. */
  permissions?: Permissions;
  /** Whose calls are made those of the anonymous user, besides those without a credential; absent: `none`. */
  squash?: Squash;
  /** Absent: uid and gid 65534. */
  anonymous?: { uid: number; gid: number };
  faults?: readonly FaultRule[];
  /** For faults with a probability; absent: 1. */
  seed?: number;
}

export interface SimulatedCacheStats {
  /** By procedure; `NULL`, `LOOKUP`, `COMMIT` … of NFS, `MNT`, `GETPORT` … of the others. */
  calls: Record<string, number>;
  flushes: FlushCounts;
  connections: number;
}

export interface SimulatedCache {
  /** The first of `addresses`. */
  readonly address: string;
  readonly addresses: readonly string[];
  readonly ports: Readonly<Ports>;
  readonly exports: readonly string[];
  stats(): SimulatedCacheStats;
  /**
   * Replaces the faults in force; their counts begin anew.
   * @throws {RangeError} for a rule that says too little or too much
   */
  setFaults(rules: readonly FaultRule[]): void;
  setFlushLimits(limits: Partial<FlushLimits>): void;
  /** Cuts all connections, gives up flushes that are not done, and resolves when nothing is written any more. */
  close(): Promise<void>;
}

const DEFAULT_EXPORT = '/cache';
export const SYNTHETIC_EXPORT = '/synthetic';
export const MAX_SYNTHETIC_FILES = 10_000_000;
const NOBODY = 65534;
/** With several addresses and free ports, a port that is free on the first may be taken on the next. */
const LISTEN_TRIES = 20;

/** @throws Error with words for people, for folders, options and ports that cannot be used */
export async function startSimulatedCache(options: SimulatedCacheOptions): Promise<SimulatedCache> {
  const addresses = options.addresses?.length ? [...options.addresses] : ['127.0.0.1'];
  const volumes = openVolumes(options);
  const faults = new FaultTable(options.faults ?? [], options.seed ?? 1);
  const flushes = new FlushScheduler(
    { latencyMs: options.flushLatencyMs ?? 0, concurrency: options.flushConcurrency ?? 256 },
    (file) => faults.failsFlush(file.path),
  );
  const permissions = options.permissions ?? 'enforced';
  const commits = new CommitService({
    dialect: options.dialect ?? 'hpc-cache',
    flushes,
    permissions,
    writeVerifier: randomBytes(NFS3_WRITEVERFSIZE),
  });
  let ports: Ports = { portmap: 0, mount: 0, nfs: 0 };
  const programs: Record<keyof Ports, RpcProgram> = {
    portmap: portmapProgram(() => ports, addresses, faults),
    mount: mountProgram(volumes, faults),
    nfs: nfsProgram({ volumes, commits, faults, permissions }),
  };
  const servers: RpcServer[] = [];
  ports = await listenEverywhere(addresses, options.ports ?? {}, programs, callers(options), servers);
  let closing: Promise<void> | null = null;
  return {
    address: addresses[0] as string,
    addresses,
    ports,
    exports: volumes.map((volume) => volume.exportPath),
    stats: () => ({
      calls: callCounts(Object.values(programs)),
      flushes: flushes.counts(),
      connections: servers.reduce((sum, server) => sum + server.connections, 0),
    }),
    setFaults: (rules) => faults.set(rules),
    setFlushLimits: (limits) => flushes.setLimits(limits),
    close() {
      closing ??= Promise.all([...servers.map((server) => server.close()), flushes.close()]).then(() => {});
      return closing;
    },
  };
}

function openVolumes(options: SimulatedCacheOptions): Volume[] {
  const volumes: Volume[] = [];
  const { cacheDir, filerDir, syntheticFiles } = options;
  if (cacheDir !== undefined && filerDir !== undefined) {
    for (const { path: exportPath, subdir } of options.exports ?? [{ path: DEFAULT_EXPORT }]) {
      const filer = within(filerDir, subdir);
      fs.mkdirSync(filer, { recursive: true });
      volumes.push(new FolderVolume(exportPath, within(cacheDir, subdir), filer));
    }
  } else if (cacheDir !== undefined || filerDir !== undefined || syntheticFiles === undefined) {
    throw new Error('a simulated cache needs two folders: the one of the cache and the one of the filer');
  }
  if (syntheticFiles !== undefined) {
    if (!(Number.isInteger(syntheticFiles) && syntheticFiles >= 1 && syntheticFiles <= MAX_SYNTHETIC_FILES)) {
      throw new Error(`the number of synthetic files lies between 1 and ${MAX_SYNTHETIC_FILES}`);
    }
    volumes.push(new SyntheticVolume(SYNTHETIC_EXPORT, syntheticFiles));
  }
  const ids = new Set<number>();
  for (const { exportPath, volumeId } of volumes) {
    if (!exportPath.startsWith('/'))
      throw new Error(`the path of an export begins with a slash: ${exportPath}`);
    if (ids.has(volumeId)) throw new Error(`the export ${exportPath} is there twice; give one another path`);
    ids.add(volumeId);
  }
  return volumes;
}

function within(folder: string, subdir = ''): string {
  const inner = path.resolve(folder, subdir);
  const relative = path.relative(path.resolve(folder), inner);
  if (relative === '..' || relative.startsWith(`..${path.sep}`) || path.isAbsolute(relative)) {
    throw new Error(`${subdir} leads out of ${folder}`);
  }
  return inner;
}

function callers({
  squash = 'none',
  anonymous = { uid: NOBODY, gid: NOBODY },
}: SimulatedCacheOptions): Omit<RpcServerOptions, 'program'> {
  const nobody: Credential = { ...anonymous, gids: [] };
  return {
    anonymous: nobody,
    mapCredential: (credential) =>
      squash === 'all' || (squash === 'root' && credential.uid === 0) ? nobody : credential,
  };
}

async function listenEverywhere(
  addresses: readonly string[],
  wanted: Partial<Ports>,
  programs: Record<keyof Ports, RpcProgram>,
  callerOptions: Omit<RpcServerOptions, 'program'>,
  servers: RpcServer[],
): Promise<Ports> {
  for (let attempt = 1; ; attempt++) {
    const ports: Ports = { portmap: 0, mount: 0, nfs: 0, ...wanted };
    const isFree = Object.values(ports).includes(0);
    try {
      for (const address of addresses) {
        for (const name of ['portmap', 'mount', 'nfs'] as const) {
          const server = new RpcServer({ program: programs[name], ...callerOptions });
          ports[name] = await server.listen(address, ports[name]);
          servers.push(server);
        }
      }
      return ports;
    } catch (error) {
      await Promise.all(servers.splice(0).map((server) => server.close()));
      const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      if (!taken || !isFree || attempt === LISTEN_TRIES) throw error;
    }
  }
}

function callCounts(programs: readonly RpcProgram[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { versions } of programs) {
    // RPCBIND's two versions share their entries.
    const entries = new Set([...versions.values()].flatMap((procedures) => [...procedures.values()]));
    for (const { name, calls } of entries) if (calls > 0) counts[name] = calls;
  }
  return counts;
}
