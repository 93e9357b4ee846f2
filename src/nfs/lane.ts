import type { Call, ConnectionOwner, RpcConnection, XidSource } from './connection.js';
import { backoffMs, openConnection, registeredPort, resolveAddress, STEP_TIMEOUT_MS } from './endpoint.js';
import { causeText, NfsError } from './errors.js';
import { NFS_PROGRAM, NFS_V3 } from './nfs3.js';
import { NULL } from './nfs3-procedures.js';
import { RpcRefused } from './refusal.js';
import type { Procedure, RpcFailure } from './rpc.js';
import type { CallLimit, NfsTarget } from './target.js';
import { AdaptiveWindow } from './window.js';

/** A call of the client's, and all that decides about its further way. */
export class PendingCall implements Call {
  readonly procedure: Procedure<unknown, unknown>;
  readonly args: unknown;
  readonly limit: CallLimit;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
  xid = 0;
  sentAt = 0;
  sent = 0;
  /** How often it was given up for want of an answer on a connection that was well. */
  timeouts = 0;
  /** How often its reply, or the stream it should have come in, could not be read. */
  badReplies = 0;
  /** Where it was last sent without being answered: another address is tried first. */
  avoid: Lane | null = null;
  done = false;

  constructor(
    procedure: Procedure<unknown, unknown>,
    args: unknown,
    limit: CallLimit,
    resolve: (result: unknown) => void,
    reject: (error: Error) => void,
  ) {
    this.procedure = procedure;
    this.args = args;
    this.limit = limit;
    this.resolve = resolve;
    this.reject = reject;
  }
}

/** What a lane tells the client that it belongs to. */
export interface LaneOwner {
  laneOpened(lane: Lane): void;
  /** An attempt to connect failed, or the server stopped answering; the lane's `lastError` says how. */
  laneFailed(lane: Lane): void;
  /** The connection is gone; `unanswered` are the client's again. */
  laneLost(
    lane: Lane,
    unanswered: PendingCall[],
    fault: { protocol: boolean; culprit: PendingCall | null },
  ): void;
  replied(lane: Lane, call: PendingCall, result: unknown): void;
  refused(lane: Lane, call: PendingCall, failure: RpcFailure): void;
  /** A probe of an open connection came back. */
  probeAnswered(lane: Lane): void;
  drained(): void;
  /** True while there are calls, or the target is down: otherwise a lost connection is not sought again. */
  readonly busy: boolean;
}

const PROBE_TIMEOUT_MS = 5000;

/**
 * One mount address and the connection to it, if there is one: `idle` → `connecting` → `open`, and from there
 * by an idle close to `idle`, by any other end through `backoff` to `connecting` again. Connecting means: resolve
 * the name, ask the port mapper, connect, and have a NULL call answered; all of it again every time.
 */
export class Lane implements ConnectionOwner<PendingCall> {
  address: string;
  state: 'idle' | 'connecting' | 'open' | 'backoff' | 'closed' = 'idle';
  connection: RpcConnection<PendingCall> | null = null;
  window = new AdaptiveWindow();
  /** Calls in flight that take a place in the window. */
  inFlight = 0;
  /** True if the window was the limit when calls were last sent; stays so while one input's replies are handled. */
  full = false;
  /** Calls in flight that take none. */
  patientInFlight = 0;
  lastError: NfsError | null = null;
  /** True from a failure to connect or to answer until the address answers again. */
  suspect = false;

  readonly #target: NfsTarget;
  readonly #auth: Uint8Array;
  readonly #xids: XidSource;
  readonly #owner: LaneOwner;
  readonly #stop = new AbortController();
  /** Failures since the last reply to a real call. */
  #failures = 0;
  #backoffTimer: NodeJS.Timeout | undefined;
  #probe: PendingCall | null = null;

  constructor(address: string, target: NfsTarget, auth: Uint8Array, xids: XidSource, owner: LaneOwner) {
    this.address = address;
    this.#target = target;
    this.#auth = auth;
    this.#xids = xids;
    this.#owner = owner;
  }

  /** Places in the window that are free; 0 while there is no connection. */
  get free(): number {
    return this.state === 'open' ? this.window.size - this.inFlight : 0;
  }

  /** Date.now() by which the probe must be answered; Infinity while there is none. */
  get probeDueAt(): number {
    return this.#probe === null ? Number.POSITIVE_INFINITY : this.#probe.limit.deadlineAt;
  }

  /** The client's calls that are in flight here, oldest first; calls may be abandoned meanwhile. */
  *calls(): Generator<PendingCall> {
    if (this.connection === null) return;
    for (const call of this.connection.pending()) if (call !== this.#probe) yield call;
  }

  /** Begins to connect, if the lane is idle. */
  start(): void {
    if (this.state !== 'idle') return;
    this.state = 'connecting';
    void this.#connect();
  }

  send(call: PendingCall, now: number): void {
    if (call.limit.patient) this.patientInFlight++;
    else if (++this.inFlight >= this.window.size) this.full = true;
    call.sent++;
    this.connection?.send(call, now);
  }

  /** Frees the call's place and drops its reply, should it still come. */
  abandon(call: PendingCall): void {
    this.#free(call);
    this.connection?.abandon(call);
  }

  /** Asks by a NULL call whether the server still answers. */
  probe(now: number): void {
    if (this.#probe !== null || this.connection === null) return;
    const timeoutMs = Math.min(PROBE_TIMEOUT_MS, this.#target.callTimeoutMs);
    this.#probe = nullCall(
      now + timeoutMs,
      () => {},
      () => {},
    );
    this.connection.send(this.#probe, now);
  }

  /** The server did not answer: the connection is given up, and the address counts as down until it answers. */
  giveUp(message: string): void {
    this.suspect = true;
    this.connection?.close(new NfsError('UNREACHABLE', message));
  }

  close(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    clearTimeout(this.#backoffTimer);
    this.#stop.abort();
    this.connection?.close(new NfsError('CLOSED', 'closed'));
  }

  replied(call: PendingCall, result: unknown): void {
    if (this.#settleProbe(call)) return;
    this.#failures = 0;
    this.#free(call);
    this.#owner.replied(this, call, result);
  }

  refused(call: PendingCall, failure: RpcFailure): void {
    if (this.#settleProbe(call, failure)) return;
    this.#free(call);
    this.#owner.refused(this, call, failure);
  }

  drained(): void {
    this.#owner.drained();
    this.full = this.inFlight >= this.window.size;
  }

  closed(
    error: Error | null,
    unanswered: PendingCall[],
    fault: { protocol: boolean; culprit: PendingCall | null },
  ): void {
    const probe = this.#probe;
    const peer = this.connection?.peer ?? this.address;
    this.#probe = null;
    this.connection = null;
    this.inFlight = 0;
    this.full = false;
    this.patientInFlight = 0;
    // While connecting the probe is all there is, and whoever waits for it handles the failure.
    probe?.reject(error ?? new Error('the server closed the connection'));
    if (this.state !== 'open') return;
    const calls = probe === null ? unanswered : unanswered.filter((call) => call !== probe);
    if (calls.length === 0 && !fault.protocol && !this.suspect) {
      this.state = 'idle';
      return;
    }
    this.#failed(
      error instanceof NfsError
        ? error
        : new NfsError(
            fault.protocol ? 'PROTOCOL_ERROR' : 'UNREACHABLE',
            fault.protocol
              ? `${peer} sent what is no valid reply (${causeText(error)}).`
              : `the connection to ${peer} was lost (${causeText(error)}).`,
            { cause: error },
          ),
    );
    this.#owner.laneLost(this, calls, fault);
    if (this.suspect) this.#owner.laneFailed(this);
  }

  async #connect(): Promise<void> {
    const limit: CallLimit = {
      deadlineAt: Date.now() + 3 * STEP_TIMEOUT_MS,
      signal: this.#stop.signal,
    };
    let failure: unknown;
    try {
      for (const host of await resolveAddress(this.address, limit)) {
        try {
          await this.#connectTo(host, limit);
          return;
        } catch (error) {
          failure = error;
        }
      }
    } catch (error) {
      failure = error;
    }
    if (this.state === 'closed') return;
    this.suspect = true;
    this.#failed(
      failure instanceof NfsError
        ? failure
        : new NfsError('UNREACHABLE', `${this.address} cannot be reached (${causeText(failure)}).`),
    );
    this.#owner.laneFailed(this);
  }

  async #connectTo(host: string, limit: CallLimit): Promise<void> {
    const { ports, privilegedPort, callTimeoutMs } = this.#target;
    const nfs = { program: NFS_PROGRAM, version: NFS_V3, name: 'NFS' };
    const port =
      ports.nfs ?? (await registeredPort({ host, port: ports.portmap, privilegedPort }, nfs, limit));
    const connection = await openConnection(
      { host, port, privilegedPort },
      this.#auth,
      limit,
      this,
      this.#xids,
    );
    if (this.state === 'closed') {
      connection.close(new NfsError('CLOSED', 'closed'));
      return;
    }
    this.connection = connection;
    const timeoutMs = Math.min(STEP_TIMEOUT_MS, callTimeoutMs);
    let silent: NodeJS.Timeout | undefined;
    try {
      await new Promise<unknown>((resolve, reject) => {
        this.#probe = nullCall(Number.POSITIVE_INFINITY, resolve, reject);
        silent = setTimeout(() => {
          reject(
            new NfsError(
              'UNREACHABLE',
              `${connection.peer} accepted the connection but did not answer NFS3 NULL within ${timeoutMs} ms. Check that the server is well.`,
            ),
          );
        }, timeoutMs);
        connection.send(this.#probe, Date.now());
      });
    } catch (error) {
      connection.close(error as Error);
      throw error;
    } finally {
      clearTimeout(silent);
      this.#probe = null;
    }
    if (connection.closed) throw new Error('the server closed the connection');
    this.state = 'open';
    this.suspect = false;
    this.window = new AdaptiveWindow();
    this.#owner.laneOpened(this);
  }

  /** Waits before the next attempt, the longer the more failed. */
  #failed(error: NfsError): void {
    this.lastError = error;
    this.#failures++;
    this.state = 'backoff';
    this.#backoffTimer = setTimeout(() => {
      this.state = 'idle';
      if (this.#owner.busy) this.start();
    }, backoffMs(this.#failures));
  }

  #settleProbe(call: PendingCall, failure?: RpcFailure): boolean {
    const probe = this.#probe;
    if (probe === null || call !== probe) return false;
    this.#probe = null;
    // A server that is starting may answer before it has registered its programs; then it is not yet up.
    if (failure === undefined) probe.resolve(null);
    else probe.reject(new RpcRefused(failure, NULL, this.connection?.peer ?? this.address));
    if (this.state === 'open') this.#owner.probeAnswered(this);
    return true;
  }

  #free(call: PendingCall): void {
    if (call.limit.patient) this.patientInFlight--;
    else this.inFlight--;
  }
}

function nullCall(
  deadlineAt: number,
  resolve: (result: unknown) => void,
  reject: (error: Error) => void,
): PendingCall {
  return new PendingCall(NULL as Procedure<unknown, unknown>, null, { deadlineAt }, resolve, reject);
}
