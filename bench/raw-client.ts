import { hostname } from 'node:os';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { NfsExport } from '../src/nfs/export.js';

export interface RawClientOptions {
  host: string;
  mountPort: number;
  nfsPort: number;
  /** As MOUNT names it; holds the files f000000, f000001 and so on. */
  exportPath: string;
  files: number;
  /** Files that are worked on at a time; the client's own window decides about the calls in flight. */
  inFlight: number;
  /** Files that are worked on before the clock starts, so that V8 has compiled what a long-lived worker has. */
  warmUpFiles?: number;
}

export interface RawClientResult {
  client: 'ours';
  files: number;
  failed: number;
  inFlight: number;
  seconds: number;
  filesPerSecond: number;
}

/** LOOKUP and COMMIT of every file of a flat list, over one connection: the counterpart of libnfs-flush.c. */
export async function runRawClient(options: RawClientOptions): Promise<RawClientResult> {
  const target = {
    addresses: [options.host],
    ports: { portmap: 111, mount: options.mountPort, nfs: options.nfsPort },
    credential: { uid: 0, gid: 0, gids: [] },
    machineName: hostname(),
    privilegedPort: false,
    callTimeoutMs: 30_000,
  };
  const limit = { deadlineAt: Date.now() + 60_000 };
  const mounted = await NfsExport.mount(target, options.exportPath, limit);
  let next = 0;
  let end = 0;
  let failed = 0;
  const worker = async () => {
    while (next < end) {
      const name = Buffer.from(`f${String(next++ % options.files).padStart(6, '0')}`);
      const { status, handle } = await mounted.lookup(mounted.root, name, limit);
      if (status !== 0 || handle === null) failed++;
      else if ((await mounted.commit(handle, 0, 0, 0, limit)).status !== 0) failed++;
    }
  };
  const run = async (files: number) => {
    next = 0;
    end = files;
    await Promise.all(Array.from({ length: options.inFlight }, worker));
  };
  try {
    await run(options.warmUpFiles ?? 0);
    const begin = performance.now();
    await run(options.files);
    const seconds = (performance.now() - begin) / 1000;
    return {
      client: 'ours',
      files: options.files,
      failed,
      inFlight: options.inFlight,
      seconds: Number(seconds.toFixed(3)),
      filesPerSecond: Math.round(options.files / seconds),
    };
  } finally {
    await mounted.close();
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      host: { type: 'string', default: '127.0.0.1' },
      'mount-port': { type: 'string' },
      'nfs-port': { type: 'string' },
      export: { type: 'string' },
      files: { type: 'string', default: '5000' },
      'in-flight': { type: 'string', default: '256' },
      'warm-up': { type: 'string', default: '0' },
    },
  });
  const result = await runRawClient({
    host: values.host,
    mountPort: Number(values['mount-port']),
    nfsPort: Number(values['nfs-port']),
    exportPath: values.export ?? '',
    files: Number(values.files),
    inFlight: Number(values['in-flight']),
    warmUpFiles: Number(values['warm-up']),
  });
  console.log(JSON.stringify(result));
}
