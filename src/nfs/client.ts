import { AbortListeners } from './abort-listeners.js';
import { CallQueue } from './call-queue.js';
import { XidSource } from './connection.js';
import { NfsError } from './errors.js';
import { Lane, type LaneOwner, PendingCall } from './lane.js';
import { NFS3_OK, NFS3ERR_JUKEBOX } from './nfs3.js';
import { COMMIT, type CommitResult } from './nfs3-procedures.js';
import { RpcRefused } from './refusal.js';
import { encodeAuth, MAX_GIDS, type Procedure, type RpcFailure } from './rpc.js';
import type { CallLimit, NfsEvents, NfsTarget } from './target.js';
import { WriteVerifiers } from './write-verifiers.js';

const MAX_LANES = 4;
/** A call whose reply cannot be read this often fails: sending it once more would not help. */
const MAX_BAD_REPLIES = 3;
/** Deadlines are kept to this many milliseconds. */
const TIMER_STEP_MS = 20;

/** What came of a COMMIT, and what only the connection knows of its call. */
export interface CommitReply extends CommitResult {
  /** It was sent more than once, so that an earlier one may have been carried out as well. */
  resent?: boolean;
}

/**
 * NFS calls over the connections to one target: spreads them, queues what exceeds the windows, resends what a
 * lost connection left unanswered (with its old xid: all procedures used are idempotent, and the server may know
 * it), and gives up what is silent. A call ends with its result, or by its own deadline or signal.
 */
export class NfsClient implements LaneOwner {
  readonly #target: NfsTarget;
  readonly #events: NfsEvents;
  readonly #lanes: Lane[];
  /** Addresses beyond the fourth: a lane that cannot connect tries the next of them. */
  readonly #spares: string[];
  readonly #queue = new CallQueue();
  readonly #signals = new AbortListeners(
    (signal) => this.#abort(signal),
    () => this.#signalsInUse(),
  );
  readonly #verifiers = new WriteVerifiers();
  /** Calls that wait or are in flight. */
  #active = 0;
  #down = false;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(target: NfsTarget, events: NfsEvents = {}) {
    this.#target = target;
    this.#events = events;
    const { uid, gid, gids } = target.credential;
    if (gids.length > MAX_GIDS) {
      events.warning?.(
        `AUTH_SYS carries at most ${MAX_GIDS} supplementary groups: of the ${gids.length} configured, the server sees the first ${MAX_GIDS}.`,
      );
    }
    const stamp = Math.floor(Math.random() * 0x1_0000_0000);
    const auth = encodeAuth({ stamp, machineName: target.machineName, uid, gid, gids });
    const addresses = shuffled([...new Set(target.addresses)]);
    const xids = new XidSource();
    this.#lanes = addresses.slice(0, MAX_LANES).map((address) => new Lane(address, target, auth, xids, this));
    this.#spares = addresses.slice(MAX_LANES);
  }

  /** True if at least one address answers. */
  get connected(): boolean {
    return this.#lanes.some((lane) => lane.state === 'open');
  }

  /** Connections that calls can be sent on now. */
  get connections(): number {
    return this.#lanes.reduce((open, lane) => open + (lane.state === 'open' ? 1 : 0), 0);
  }

  get busy(): boolean {
    // Who was told "down" may wait for "up" before making calls again.
    return this.#active > 0 || this.#down;
  }

  /**
   * Makes one call and returns its result, with whatever status it has.
   * @throws {NfsError} DEADLINE, ABORTED, CLOSED, AUTH_REFUSED, PROGRAM_UNAVAILABLE, PROTOCOL_ERROR
   */
  call<Args, Result>(procedure: Procedure<Args, Result>, args: Args, limit: CallLimit): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const { signal } = limit;
      const now = Date.now();
      if (this.#closed) return reject(closedError(procedure.name));
      if (signal?.aborted) return reject(abortedError(procedure.name, signal));
      if (now >= limit.deadlineAt) {
        return reject(this.#deadlineError(procedure.name, 'it was over before the call'));
      }
      const call = new PendingCall(
        procedure as unknown as Procedure<unknown, unknown>,
        args,
        limit,
        resolve as (result: unknown) => void,
        reject,
      );
      if (signal !== undefined) this.#signals.add(signal);
      this.#active++;
      this.#wakeAt(Math.min(limit.deadlineAt, now + this.#target.callTimeoutMs));
      const lane = this.#queue.length === 0 ? this.#pick(call) : null;
      if (lane !== null) {
        lane.send(call, now);
        return;
      }
      this.#queue.push(call);
      for (const idle of this.#lanes) idle.start();
    });
  }

  /** Closes the connections; whatever waits fails with CLOSED. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#signals.clear();
    const waiting = [...this.#queue.live()];
    for (const lane of this.#lanes) {
      for (const call of lane.calls()) waiting.push(call);
      lane.close();
    }
    for (const call of waiting) this.#fail(call, closedError(call.procedure.name));
  }

  // What the lanes tell.

  laneOpened(lane: Lane): void {
    if (this.#down) {
      this.#down = false;
      this.#events.up?.(lane.address);
    }
    this.drained();
  }

  laneFailed(lane: Lane): void {
    if (this.#closed) return;
    const spare = this.#spares.shift();
    if (spare !== undefined) {
      this.#spares.push(lane.address);
      lane.address = spare;
    }
    if (!this.#down && this.#lanes.every((each) => each.state !== 'open' && each.suspect)) {
      this.#down = true;
      this.#events.down?.(lane.lastError as NfsError);
    }
  }

  laneLost(
    lane: Lane,
    unanswered: PendingCall[],
    fault: { protocol: boolean; culprit: PendingCall | null },
  ): void {
    if (fault.culprit !== null) fault.culprit.badReplies++;
    else if (fault.protocol) for (const call of unanswered) call.badReplies++;
    const again: PendingCall[] = [];
    for (const call of unanswered) {
      if (call.badReplies < MAX_BAD_REPLIES) again.push(call);
      else {
        this.#fail(
          call,
          new NfsError(
            'PROTOCOL_ERROR',
            `${call.procedure.name}: ${MAX_BAD_REPLIES} times no reply that could be read, lastly: ${lane.lastError?.message}`,
            { cause: lane.lastError },
          ),
        );
      }
    }
    this.#requeue(again);
    this.drained();
  }

  replied(lane: Lane, call: PendingCall, result: unknown): void {
    this.#events.replied?.(call.procedure.name, Date.now() - call.sentAt);
    const isCommit = call.procedure === (COMMIT as unknown);
    const status = (result as { status?: number } | null)?.status;
    if (status === NFS3ERR_JUKEBOX) lane.window.congested();
    else if (!call.limit.patient) {
      lane.window.replied(lane.full, isCommit ? null : Date.now() - call.sentAt);
    }
    if (isCommit) {
      const commit = result as CommitReply;
      if (status === NFS3_OK && this.#verifiers.isAnother(lane.address, commit.verifier)) {
        this.#events.serverRestarted?.(lane.address);
      }
      if (call.sent > 1) commit.resent = true;
    }
    if (call.done) return;
    call.done = true;
    this.#active--;
    call.resolve(result);
  }

  refused(lane: Lane, call: PendingCall, failure: RpcFailure): void {
    this.#fail(call, new RpcRefused(failure, call.procedure, lane.connection?.peer ?? lane.address));
  }

  /** The server is there: the calls that it has not answered for too long, it will not answer. */
  probeAnswered(lane: Lane): void {
    const now = Date.now();
    const again: PendingCall[] = [];
    for (const call of lane.calls()) {
      if (call.limit.patient || now < this.#silentAt(lane, call)) continue;
      lane.abandon(call);
      call.timeouts++;
      call.avoid = lane;
      again.push(call);
    }
    if (again.length > 0) {
      lane.window.congested();
      this.#requeue(again);
    }
    this.#wakeAt(now + this.#target.callTimeoutMs);
  }

  #requeue(calls: readonly PendingCall[]): void {
    this.#queue.unshift(calls);
    for (const call of calls) this.#wakeAt(call.limit.deadlineAt);
  }

  /** Sends what waits, as far as there are places. */
  drained(): void {
    if (this.#queue.length === 0) return;
    const now = Date.now();
    // Whatever is sent from here on may be silent, and the timer may have been set without regard to that.
    this.#wakeAt(now + this.#target.callTimeoutMs);
    for (let call = this.#queue.peek(); call !== undefined; call = this.#queue.peek()) {
      const lane = this.#pick(call);
      if (lane === null) return;
      this.#queue.shift();
      lane.send(call, now);
    }
  }

  /** The open lane with most room, or null; one that did not answer this call only if there is no other. */
  #pick(call: PendingCall): Lane | null {
    const patient = call.limit.patient === true;
    let best: Lane | null = null;
    let bestRoom = Number.NEGATIVE_INFINITY;
    for (const lane of this.#lanes) {
      if (lane.state !== 'open') {
        if (lane.state === 'idle') lane.start();
        continue;
      }
      const room = patient ? -lane.patientInFlight : lane.free;
      if (!patient && room <= 0) continue;
      if (best === null || best === call.avoid || (lane !== call.avoid && room > bestRoom)) {
        best = lane;
        bestRoom = room;
      }
    }
    return best;
  }

  #fail(call: PendingCall, error: Error): void {
    if (call.done) return;
    call.done = true;
    this.#active--;
    call.reject(error);
  }

  // Deadlines and silence: one timer, set to the earliest moment at which anything may be due.

  #wakeAt(at: number): void {
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    // setTimeout takes at most 2^31 - 1 ms; waking up early does no harm.
    const delayMs = Math.min(Math.max(at - Date.now(), TIMER_STEP_MS), 0x7fff_ffff);
    // Through setImmediate, so that replies which lie in the sockets already are read before anything is given up.
    this.#timer = setTimeout(() => setImmediate(() => this.#onTimer()), delayMs);
  }

  #onTimer(): void {
    if (this.#closed) return;
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = Date.now();
    let next = Number.POSITIVE_INFINITY;
    for (const call of this.#queue.live()) {
      if (now >= call.limit.deadlineAt) this.#expire(call);
      else next = Math.min(next, call.limit.deadlineAt);
    }
    for (const lane of this.#lanes) next = Math.min(next, this.#checkLane(lane, now));
    this.#signals.sweep();
    this.drained();
    if (next !== Number.POSITIVE_INFINITY) this.#wakeAt(next);
  }

  /** Expires, gives up, or probes for what is due on a connection; returns when something may be due next. */
  #checkLane(lane: Lane, now: number): number {
    const { connection } = lane;
    if (connection === null || lane.state !== 'open') return Number.POSITIVE_INFINITY;
    const { callTimeoutMs } = this.#target;
    if (now >= lane.probeDueAt) {
      lane.giveUp(`${connection.peer} answers neither calls nor NFS3 NULL. Check that the server is well.`);
      return Number.POSITIVE_INFINITY;
    }
    if (connection.partialSince !== 0 && now - connection.partialSince >= callTimeoutMs) {
      lane.giveUp(`${connection.peer} began a reply and did not end it within ${callTimeoutMs} ms.`);
      return Number.POSITIVE_INFINITY;
    }
    let next = lane.probeDueAt;
    if (connection.partialSince !== 0) next = Math.min(next, connection.partialSince + callTimeoutMs);
    let silent = false;
    for (const call of lane.calls()) {
      const { deadlineAt } = call.limit;
      if (now >= deadlineAt) {
        lane.abandon(call);
        this.#expire(call);
        continue;
      }
      const silentAt = this.#silentAt(lane, call);
      if (now >= silentAt) silent = true;
      else next = Math.min(next, silentAt);
      next = Math.min(next, deadlineAt);
    }
    if (silent) {
      lane.probe(now);
      next = Math.min(next, lane.probeDueAt);
    }
    return next;
  }

  /**
   * When a call has been without an answer for too long. A call that was given up before gets twice the time, up
   * to eight times: a server that is slow, not deaf, must not be buried under copies of the same call.
   */
  #silentAt(lane: Lane, call: PendingCall): number {
    const { callTimeoutMs } = this.#target;
    if (call.limit.patient) {
      return Math.max(call.sentAt, lane.connection?.receivedAt ?? 0) + callTimeoutMs;
    }
    return call.sentAt + callTimeoutMs * Math.min(8, 2 ** call.timeouts);
  }

  #expire(call: PendingCall): void {
    const tries = call.timeouts > 0 ? `, given up and sent again ${call.timeouts} times` : '';
    this.#fail(call, this.#deadlineError(call.procedure.name, `no answer in time${tries}`));
  }

  #deadlineError(what: string, why: string): NfsError {
    const open = this.#lanes.filter((lane) => lane.state === 'open');
    const trouble = this.#lanes.find((lane) => lane.state !== 'open' && lane.lastError !== null)?.lastError;
    const where = this.#lanes.map((lane) => lane.connection?.peer ?? lane.address).join(', ');
    const state =
      open.length > 0 || trouble == null
        ? ''
        : ` The server could not be reached, lastly: ${trouble.message}`;
    return new NfsError('DEADLINE', `${what} to ${where}: the deadline passed, ${why}.${state}`, {
      cause: open.length > 0 ? undefined : trouble,
    });
  }

  #abort(signal: AbortSignal): void {
    for (const call of this.#queue.live()) {
      if (call.limit.signal === signal) this.#fail(call, abortedError(call.procedure.name, signal));
    }
    for (const lane of this.#lanes) {
      for (const call of lane.calls()) {
        if (call.limit.signal !== signal) continue;
        lane.abandon(call);
        this.#fail(call, abortedError(call.procedure.name, signal));
      }
    }
    this.drained();
  }

  #signalsInUse(): Set<AbortSignal | undefined> {
    const used = new Set<AbortSignal | undefined>();
    for (const call of this.#queue.live()) used.add(call.limit.signal);
    for (const lane of this.#lanes) for (const call of lane.calls()) used.add(call.limit.signal);
    return used;
  }
}

function abortedError(what: string, signal: AbortSignal): NfsError {
  return new NfsError('ABORTED', `${what} was aborted.`, { cause: signal.reason });
}

function closedError(what: string): NfsError {
  return new NfsError('CLOSED', `${what}: the connection to the export was closed by this side.`);
}

function shuffled<T>(items: T[]): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [items[i], items[j]] = [items[j] as T, items[i] as T];
  }
  return items;
}
