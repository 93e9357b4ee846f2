import type { Procedure } from './rpc.js';

/** The port mapper: PMAP version 2 and RPCBIND versions 3 and 4 (RFC 1833). */

export const PMAP_PROG = 100000;
export const PMAP_V2 = 2;
export const RPCB_V3 = 3;
export const RPCB_V4 = 4;

export const PMAPPROC_NULL = 0;
export const PMAPPROC_GETPORT = 3;
export const PMAPPROC_DUMP = 4;
/** The same number in versions 3 and 4. */
export const RPCBPROC_GETADDR = 3;

export const IPPROTO_TCP = 6;

const MAX_NETID_BYTES = 64;
const MAX_UADDR_BYTES = 256;

/** The port of a program over TCP; 0 means that it is not registered. */
export const GETPORT: Procedure<{ program: number; version: number }, number> = {
  program: PMAP_PROG,
  version: PMAP_V2,
  number: PMAPPROC_GETPORT,
  name: 'PMAP GETPORT',
  encode(writer, { program, version }) {
    writer.uint32(program);
    writer.uint32(version);
    writer.uint32(IPPROTO_TCP);
    writer.uint32(0);
  },
  decode(reader) {
    const port = reader.uint32();
    reader.finish();
    return port;
  },
};

export interface RpcbindEntry {
  program: number;
  version: number;
  /** `tcp` or `tcp6` */
  netid: string;
}

/** The universal address of a program; an empty text means that it is not registered. */
export const GETADDR_V4: Procedure<RpcbindEntry, string> = getaddr(RPCB_V4);
export const GETADDR_V3: Procedure<RpcbindEntry, string> = getaddr(RPCB_V3);

function getaddr(version: number): Procedure<RpcbindEntry, string> {
  return {
    program: PMAP_PROG,
    version,
    number: RPCBPROC_GETADDR,
    name: `RPCBIND${version} GETADDR`,
    encode(writer, entry) {
      writer.uint32(entry.program);
      writer.uint32(entry.version);
      writer.text(entry.netid);
      writer.text('');
      writer.text('');
    },
    decode(reader) {
      const address = reader.text(MAX_UADDR_BYTES);
      reader.finish();
      return address;
    },
  };
}

/** What a server reads as the arguments of GETADDR: `r_netid` tells the transport. */
export const RPCB_LIMITS = { netidBytes: MAX_NETID_BYTES, uaddrBytes: MAX_UADDR_BYTES } as const;

/** Port of a universal address such as `192.0.2.1.8.1` or `::1.8.1` (RFC 5665 §5.2.3.3), or null. */
export function universalAddressPort(uaddr: string): number | null {
  const match = /\.(\d{1,3})\.(\d{1,3})$/.exec(uaddr);
  if (match === null) return null;
  const high = Number(match[1]);
  const low = Number(match[2]);
  if (high > 255 || low > 255) return null;
  return high * 256 + low;
}
