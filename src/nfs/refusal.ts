import { NfsError } from './errors.js';
import { AUTH_STAT, type Procedure, type RpcFailure } from './rpc.js';

/** The server answered, but did not carry the call out; `failure` is what it said. */
export class RpcRefused extends NfsError {
  readonly failure: RpcFailure;

  constructor(failure: RpcFailure, procedure: Procedure<never, unknown>, peer: string) {
    const [code, message] = describe(failure, procedure, peer);
    super(code, message);
    this.failure = failure;
  }
}

function describe(
  failure: RpcFailure,
  procedure: Procedure<never, unknown>,
  peer: string,
): [NfsError['code'], string] {
  const { program, version, name } = procedure;
  const service = name.split(' ')[0];
  switch (failure.kind) {
    case 'auth-error':
      return [
        'AUTH_REFUSED',
        `${peer} refuses the AUTH_SYS credential of ${name} with ${AUTH_STAT[failure.authStat] ?? `auth_stat ${failure.authStat}`}. ` +
          'Check that the export allows sec=sys for this host, and whether it takes calls from privileged source ports only.',
      ];
    case 'rpc-mismatch':
      return [
        'PROGRAM_UNAVAILABLE',
        `${peer} speaks ONC RPC versions ${failure.low} to ${failure.high}, not 2. Check that the address and port are those of an NFS server.`,
      ];
    case 'prog-unavail':
      return [
        'PROGRAM_UNAVAILABLE',
        `${peer} does not offer ${service} (program ${program}). Check the port: a fixed one may be wrong, a registered one stale.`,
      ];
    case 'prog-mismatch':
      return [
        'PROGRAM_UNAVAILABLE',
        `${peer} offers ${service} in versions ${failure.low} to ${failure.high}, not ${version}. Enable NFS version 3 over TCP on the server.`,
      ];
    case 'proc-unavail':
      return [
        'PROGRAM_UNAVAILABLE',
        `${peer} does not implement ${name}. A complete NFS version 3 server is needed.`,
      ];
    case 'garbage-args':
      return [
        'PROTOCOL_ERROR',
        `${peer} could not read the arguments of ${name} (GARBAGE_ARGS). Check what stands between: a proxy, or a server of another kind.`,
      ];
    case 'system-err':
      return [
        'PROTOCOL_ERROR',
        `${peer} answered ${name} with SYSTEM_ERR: it lacks memory or the like. See its log.`,
      ];
  }
}
