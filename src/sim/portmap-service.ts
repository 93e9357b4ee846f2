import net from 'node:net';
import { MOUNT_PROGRAM, MOUNT_V3 } from '../nfs/mount3.js';
import { NFS_PROGRAM, NFS_V3 } from '../nfs/nfs3.js';
import {
  IPPROTO_TCP,
  PMAP_PROG,
  PMAP_V2,
  PMAPPROC_DUMP,
  PMAPPROC_GETPORT,
  PMAPPROC_NULL,
  RPCB_LIMITS,
  RPCB_V3,
  RPCB_V4,
  RPCBPROC_GETADDR,
} from '../nfs/portmap.js';
import type { XdrReader, XdrWriter } from '../nfs/xdr.js';
import type { FaultTable } from './faults.js';
import { doNothing, procedureEntry } from './procedure-entry.js';
import type { Call, Procedure, RpcProgram } from './rpc-server.js';

export interface Ports {
  portmap: number;
  mount: number;
  nfs: number;
}

interface Registration {
  program: number;
  version: number;
  port: number;
}

const RPCBPROC_NULL = 0;
const RPCBPROC_DUMP = 4;

/**
 * The port mapper (RFC 1833): PMAP version 2 and RPCBIND versions 3 and 4, for what this server offers over TCP.
 * Nothing can be registered from outside, and calls are not forwarded.
 * @param ports asked at each call: they are not known yet when the service is made
 * @param addresses that this server listens on
 */
export function portmapProgram(
  ports: () => Ports,
  addresses: readonly string[],
  faults: FaultTable,
): RpcProgram {
  const registrations = (): Registration[] => [
    { program: PMAP_PROG, version: PMAP_V2, port: ports().portmap },
    { program: PMAP_PROG, version: RPCB_V3, port: ports().portmap },
    { program: PMAP_PROG, version: RPCB_V4, port: ports().portmap },
    { program: MOUNT_PROGRAM, version: MOUNT_V3, port: ports().mount },
    { program: NFS_PROGRAM, version: NFS_V3, port: ports().nfs },
  ];
  const portOf = (program: number, version: number): number =>
    registrations().find((entry) => entry.program === program && entry.version === version)?.port ?? 0;

  const getport: Procedure = (args, results) => {
    const program = args.uint32();
    const version = args.uint32();
    const protocol = args.uint32();
    args.uint32();
    args.finish();
    results.uint32(protocol === IPPROTO_TCP ? portOf(program, version) : 0);
    return undefined;
  };

  const dump: Procedure = (args, results) => {
    args.finish();
    for (const entry of registrations()) {
      results.bool(true);
      results.uint32(entry.program);
      results.uint32(entry.version);
      results.uint32(IPPROTO_TCP);
      results.uint32(entry.port);
    }
    results.bool(false);
    return undefined;
  };

  const getaddr: Procedure = (args, results, call) => {
    const { program, version, netid } = readRpcb(args);
    const host = hostFor(netid, call, addresses);
    const port = portOf(program, version);
    results.text(host === null || port === 0 ? '' : universalAddress(host, port));
    return undefined;
  };

  const rpcbDump: Procedure = (args, results, call) => {
    args.finish();
    for (const netid of ['tcp', 'tcp6']) {
      const host = hostFor(netid, call, addresses);
      if (host === null) continue;
      for (const entry of registrations()) writeRpcb(results, entry, netid, host);
    }
    results.bool(false);
    return undefined;
  };

  const entry = (name: string, run: Procedure) => procedureEntry(name, faults, run);
  const pmap = new Map([
    [PMAPPROC_NULL, entry('PMAPPROC_NULL', doNothing)],
    [PMAPPROC_GETPORT, entry('GETPORT', getport)],
    [PMAPPROC_DUMP, entry('PMAPPROC_DUMP', dump)],
  ]);
  const rpcbind = new Map([
    [RPCBPROC_NULL, entry('RPCBPROC_NULL', doNothing)],
    [RPCBPROC_GETADDR, entry('GETADDR', getaddr)],
    [RPCBPROC_DUMP, entry('RPCBPROC_DUMP', rpcbDump)],
  ]);
  return {
    program: PMAP_PROG,
    versions: new Map([
      [PMAP_V2, pmap],
      [RPCB_V3, rpcbind],
      [RPCB_V4, rpcbind],
    ]),
  };
}

function readRpcb(args: XdrReader): { program: number; version: number; netid: string } {
  const program = args.uint32();
  const version = args.uint32();
  const netid = args.text(RPCB_LIMITS.netidBytes);
  args.skipOpaque(RPCB_LIMITS.uaddrBytes);
  args.skipOpaque(RPCB_LIMITS.uaddrBytes);
  args.finish();
  return { program, version, netid };
}

function writeRpcb(results: XdrWriter, entry: Registration, netid: string, host: string): void {
  results.bool(true);
  results.uint32(entry.program);
  results.uint32(entry.version);
  results.text(netid);
  results.text(universalAddress(host, entry.port));
  results.text('superuser');
}

/** The address to give for a transport: the one that the caller reached us by, if it is of that kind. */
function hostFor(netid: string, call: Call, addresses: readonly string[]): string | null {
  const family = netid === 'tcp' ? 4 : netid === 'tcp6' ? 6 : 0;
  return [call.localAddress, ...addresses].find((address) => net.isIP(address) === family) ?? null;
}

/** RFC 5665 §5.2.3.3 and §5.2.3.4. */
function universalAddress(host: string, port: number): string {
  return `${host}.${port >>> 8}.${port & 0xff}`;
}
