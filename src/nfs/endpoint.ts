import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { type Call, type ConnectionOwner, peerText, RpcConnection, type XidSource } from './connection.js';
import { causeText, NfsError } from './errors.js';
import { GETADDR_V3, GETADDR_V4, GETPORT, universalAddressPort } from './portmap.js';
import { RpcRefused } from './refusal.js';
import { encodeAuth, type Procedure } from './rpc.js';
import type { CallLimit } from './target.js';

/** From a mount address to a connection: the name, the port mapper, the source port, and single calls. */

/** No step of getting a connection takes longer than this, whatever the caller's deadline. */
export const STEP_TIMEOUT_MS = 10_000;

const FIRST_PRIVILEGED_PORT = 665;
const LAST_PRIVILEGED_PORT = 1023;
const PRIVILEGED_PORT_TRIES = 64;

export interface Endpoint {
  /** An IP address. */
  host: string;
  port: number;
  privilegedPort: boolean;
}

/** Milliseconds that a step beginning now may take; throws when the caller's time is over. */
function stepTimeoutMs(limit: CallLimit): number {
  if (limit.signal?.aborted) throw new NfsError('ABORTED', 'aborted', { cause: limit.signal.reason });
  const left = limit.deadlineAt - Date.now();
  if (left <= 0) throw new NfsError('DEADLINE', 'the deadline passed');
  return Math.min(left, STEP_TIMEOUT_MS);
}

/**
 * The IP addresses of a mount address, in the resolver's order.
 * @throws {NfsError} NAME_NOT_RESOLVED
 */
export async function resolveAddress(address: string, limit: CallLimit): Promise<string[]> {
  const literal = /^\[(.*)\]$/.exec(address)?.[1] ?? address;
  if (isIP(literal) !== 0) return [literal];
  const timeoutMs = stepTimeoutMs(limit);
  try {
    // The resolver has no time-out of its own that is worth the name; its thread may go on, we do not wait.
    const found = await within(lookup(literal, { all: true, verbatim: true }), timeoutMs);
    return found.map((entry) => entry.address);
  } catch (error) {
    throw new NfsError(
      'NAME_NOT_RESOLVED',
      `the name ${address} does not resolve (${causeText(error)}). Check the address in the configuration, and the resolver of this host.`,
      { cause: error },
    );
  }
}

/**
 * Connects, from a privileged source port if the endpoint asks for it.
 * @throws {NfsError} UNREACHABLE; AUTH_REFUSED when privileged ports are not allowed to this process
 */
export async function openConnection<C extends Call>(
  endpoint: Endpoint,
  auth: Uint8Array,
  limit: CallLimit,
  owner: ConnectionOwner<C>,
  xids?: XidSource,
): Promise<RpcConnection<C>> {
  const { host, port } = endpoint;
  const span = LAST_PRIVILEGED_PORT - FIRST_PRIVILEGED_PORT + 1;
  const first = Math.floor(Math.random() * span);
  for (let i = 0; ; i++) {
    const localPort = endpoint.privilegedPort ? FIRST_PRIVILEGED_PORT + ((first + i) % span) : null;
    try {
      const connectTimeoutMs = stepTimeoutMs(limit);
      return await RpcConnection.open(
        { host, port, localPort, auth, connectTimeoutMs, signal: limit.signal },
        owner,
        xids,
      );
    } catch (error) {
      if (error instanceof NfsError) throw error;
      if (limit.signal?.aborted) throw new NfsError('ABORTED', 'aborted', { cause: limit.signal.reason });
      const code = (error as NodeJS.ErrnoException).code;
      if (localPort !== null && i < PRIVILEGED_PORT_TRIES) {
        if (code === 'EADDRINUSE' || code === 'EADDRNOTAVAIL') continue;
        if (code === 'EACCES' || code === 'EPERM') {
          throw new NfsError(
            'AUTH_REFUSED',
            `this process may not use the privileged source port ${localPort} (${code}). Run it as root or with CAP_NET_BIND_SERVICE, or set privilegedPort to false if the server allows that.`,
            { cause: error },
          );
        }
      }
      throw new NfsError(
        'UNREACHABLE',
        `no connection to ${peerText(host, port)} (${causeText(error)}). Check that the server runs there, and the network and firewall in between.`,
        { cause: error },
      );
    }
  }
}

/** Makes calls one after the other on a connection that lives as long as the function `use`. */
export async function withConnection<T>(
  endpoint: Endpoint,
  auth: Uint8Array,
  limit: CallLimit,
  use: (call: SingleCall) => Promise<T>,
): Promise<T> {
  const owner = new SingleCallOwner();
  const connection = await openConnection(endpoint, auth, limit, owner);
  try {
    return await use((procedure, args) => owner.call(connection, procedure, args, limit));
  } finally {
    connection.close(new Error('done'));
  }
}

export type SingleCall = <Args, Result>(procedure: Procedure<Args, Result>, args: Args) => Promise<Result>;

class SingleCallOwner implements ConnectionOwner<Call> {
  #waiting: { call: Call; peer: string; resolve(result: unknown): void; reject(error: Error): void } | null =
    null;
  #lost: Error | null = null;

  call<Args, Result>(
    connection: RpcConnection<Call>,
    procedure: Procedure<Args, Result>,
    args: Args,
    limit: CallLimit,
  ): Promise<Result> {
    const { peer } = connection;
    return new Promise<Result>((resolve, reject) => {
      if (this.#lost !== null) throw lostError(procedure.name, peer, this.#lost);
      const timeoutMs = stepTimeoutMs(limit);
      const call: Call = { procedure: procedure as Procedure<unknown, unknown>, args, xid: 0, sentAt: 0 };
      const settle = () => {
        clearTimeout(timer);
        limit.signal?.removeEventListener('abort', onAbort);
        this.#waiting = null;
      };
      const fail = (error: Error) => {
        settle();
        reject(error);
      };
      const timer = setTimeout(() => {
        fail(
          new NfsError(
            'UNREACHABLE',
            `${peer} did not answer ${procedure.name} within ${Math.round(timeoutMs)} ms. Check that the server is well.`,
          ),
        );
      }, timeoutMs);
      const onAbort = () => fail(new NfsError('ABORTED', 'aborted', { cause: limit.signal?.reason }));
      limit.signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting = {
        call,
        peer,
        resolve: (result) => {
          settle();
          resolve(result as Result);
        },
        reject: fail,
      };
      connection.send(call, Date.now());
    });
  }

  replied(call: Call, result: unknown): void {
    if (this.#waiting?.call === call) this.#waiting.resolve(result);
  }

  refused(call: Call, failure: RpcRefused['failure']): void {
    if (this.#waiting?.call === call) {
      this.#waiting.reject(new RpcRefused(failure, call.procedure, this.#waiting.peer));
    }
  }

  drained(): void {}

  closed(error: Error | null, _unanswered: Call[], fault: { protocol: boolean }): void {
    this.#lost = error ?? new Error('the server closed the connection');
    const waiting = this.#waiting;
    if (waiting === null) return;
    const what = waiting.call.procedure.name;
    waiting.reject(
      fault.protocol
        ? new NfsError(
            'PROTOCOL_ERROR',
            `${waiting.peer} answered ${what} with what is no valid reply (${this.#lost.message}). Check that the port is that of the right service.`,
            { cause: error },
          )
        : lostError(what, waiting.peer, this.#lost),
    );
  }
}

function lostError(what: string, peer: string, cause: Error): NfsError {
  return new NfsError(
    'UNREACHABLE',
    `the connection to ${peer} ended before ${what} was answered (${causeText(cause)}).`,
    {
      cause,
    },
  );
}

/**
 * Asks the port mapper of `host` for a program's TCP port: GETPORT of version 2, or GETADDR of version 4 or 3
 * where the address is IPv6 or version 2 is not offered.
 * @throws {NfsError} NOT_REGISTERED, UNREACHABLE …
 */
export async function registeredPort(
  portmapper: Endpoint,
  program: { program: number; version: number; name: string },
  limit: CallLimit,
): Promise<number> {
  const peer = peerText(portmapper.host, portmapper.port);
  let port: number | null;
  try {
    port = await withConnection(portmapper, encodeAuth(null), limit, (call) =>
      portmapper.host.includes(':')
        ? getaddr(call, program, 'tcp6')
        : otherwise(call(GETPORT, program), () => getaddr(call, program, 'tcp')),
    );
  } catch (error) {
    if (!(error instanceof NfsError) || error.code === 'ABORTED' || error.code === 'DEADLINE') throw error;
    throw new NfsError(
      error.code,
      `asking the port mapper for the port of ${program.name} failed: ${error.message} Fixed ports in the configuration make it unnecessary.`,
      { cause: error },
    );
  }
  if (port === null || port === 0) {
    throw new NfsError(
      'NOT_REGISTERED',
      `the port mapper at ${peer} does not know ${program.name} (program ${program.program} version ${program.version} over TCP). ` +
        'Is the NFS server running, with version 3 enabled? Fixed ports can be configured.',
    );
  }
  return port;
}

async function getaddr(
  call: SingleCall,
  { program, version }: { program: number; version: number },
  netid: string,
): Promise<number | null> {
  const entry = { program, version, netid };
  return universalAddressPort(await otherwise(call(GETADDR_V4, entry), () => call(GETADDR_V3, entry)));
}

/** The first answer, or the second try if the server does not offer that version or procedure. */
async function otherwise<T>(first: Promise<T>, second: () => Promise<T>): Promise<T> {
  try {
    return await first;
  } catch (error) {
    const kind = error instanceof RpcRefused ? error.failure.kind : null;
    if (kind === 'prog-mismatch' || kind === 'proc-unavail') return second();
    throw error;
  }
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${Math.round(timeoutMs)} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * How long to wait after so many failures in a row: a random part of what grows by half with each of them (full
 * jitter, so that clients do not return as one). By half and not twofold, because the pause in which the server
 * comes back is lost: it stays a fraction of the outage.
 */
export function backoffMs(failures: number): number {
  return Math.random() * Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 1.5 ** Math.min(failures, 50));
}

const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 30_000;
