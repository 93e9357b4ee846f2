import { connect, type Socket } from 'node:net';
import { beginRecord, DEFAULT_RECORD_LIMITS, endRecord, RecordReader } from './record.js';
import { type Procedure, type RpcFailure, readReplyHeader, writeCallHeader } from './rpc.js';
import { XdrReader, XdrWriter } from './xdr.js';

/** One call from the moment somebody wants it until it is answered, on whatever connections it travels. */
export interface Call {
  readonly procedure: Procedure<unknown, unknown>;
  readonly args: unknown;
  /** Transaction id; 0 until the call is first sent, and again when its reply is no longer wanted. */
  xid: number;
  /** In Date.now() milliseconds, of the newest try. */
  sentAt: number;
}

/**
 * Whom a connection tells what happens. None of these is called after `closed`, and `closed` is called once.
 * `replied` and `refused` mean that the call is no longer the connection's.
 */
export interface ConnectionOwner<C extends Call> {
  replied(call: C, result: unknown): void;
  /** The server answered that it did not carry the call out. */
  refused(call: C, failure: RpcFailure): void;
  /** All that one piece of input held was handled: the moment to send more. */
  drained(): void;
  /**
   * @param error null if the server closed while nothing was in flight, which every server does after a while
   * @param unanswered calls that were sent and have no answer, oldest first
   * @param culprit the call whose reply could not be read; `protocol` is true for that and for a broken stream
   */
  closed(error: Error | null, unanswered: C[], fault: { protocol: boolean; culprit: C | null }): void;
}

export interface ConnectionOptions {
  /** An IP address. */
  host: string;
  port: number;
  /** Source port, or null for any. */
  localPort: number | null;
  /** Credential and verifier of every call, from `encodeAuth`. */
  auth: Uint8Array;
  connectTimeoutMs: number;
  signal?: AbortSignal | undefined;
}

/**
 * xids stay below 2^30: such numbers need no heap object in V8, and a Map finds them faster. A restart of ours
 * begins at a random place so that a server's duplicate-request cache does not mistake new calls for old ones.
 */
const XID_LIMIT = 0x3fff_ffff;

/** Gives out transaction ids; one for all connections of a client, so that a call keeps its xid when it moves. */
export class XidSource {
  #last = 1 + Math.floor(Math.random() * (XID_LIMIT - 1));

  /** Never 0. May repeat after 2^30 calls; the connection skips what is pending. */
  next(): number {
    this.#last = this.#last >= XID_LIMIT ? 1 : this.#last + 1;
    return this.#last;
  }
}

const READ_BUFFER_BYTES = 65536;
const KEEP_ALIVE_MS = 30_000;
/** About half of the widest window: the server can begin with it while the other half is still being made. */
const BATCH_BYTES = 4096;

/**
 * ONC RPC over one TCP connection: sends calls, matches replies by xid, knows neither deadlines nor retries.
 * Calls of one tick go out in one write; a reply is decoded in place, in the buffer the socket reads into.
 */
export class RpcConnection<C extends Call> {
  /** `192.0.2.1:2049` or `[2001:db8::1]:2049` */
  readonly peer: string;
  /** Date.now() of the newest bytes from the server. */
  receivedAt = 0;
  /** Date.now() when the record that is only partly there began to arrive; 0: there is none. */
  partialSince = 0;

  readonly #socket: Socket;
  readonly #owner: ConnectionOwner<C>;
  readonly #xids: XidSource;
  readonly #auth: Uint8Array;
  readonly #pending = new Map<number, C>();
  readonly #templates = new Map<Procedure<unknown, unknown>, Buffer>();
  readonly #out = new XdrWriter(16_384);
  readonly #records: RecordReader;
  readonly #reader = new XdrReader(new Uint8Array(0));
  #flushScheduled = false;
  #closed = false;
  #culprit: C | null = null;

  private constructor(
    socket: Socket,
    options: ConnectionOptions,
    owner: ConnectionOwner<C>,
    xids: XidSource,
    input: Input,
  ) {
    this.peer = peerText(options.host, options.port);
    this.#socket = socket;
    this.#owner = owner;
    this.#xids = xids;
    this.#auth = options.auth;
    this.#records = new RecordReader(
      (bytes, start, end) => this.#onRecord(bytes, start, end),
      DEFAULT_RECORD_LIMITS,
    );
    this.receivedAt = Date.now();
    input.receive = (bytes, length) => this.#onBytes(bytes, length);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on('error', (error) => this.#end(error, false));
    socket.on('end', () => this.#onEnd());
    socket.on('close', () => this.#end(new Error('the connection was closed'), false));
  }

  /**
   * Connects over TCP.
   * @throws the system's error (`ECONNREFUSED` …), `ETIMEDOUT` after `connectTimeoutMs`, or the signal's reason
   */
  static open<C extends Call>(
    options: ConnectionOptions,
    owner: ConnectionOwner<C>,
    xids: XidSource = new XidSource(),
  ): Promise<RpcConnection<C>> {
    return new Promise((resolve, reject) => {
      if (options.signal?.aborted) {
        reject(options.signal.reason);
        return;
      }
      const input: Input = { receive: () => {} };
      const socket = connect({
        host: options.host,
        port: options.port,
        ...(options.localPort === null ? {} : { localPort: options.localPort }),
        onread: {
          buffer: Buffer.alloc(READ_BUFFER_BYTES),
          callback: (length, bytes) => {
            input.receive(bytes, length);
            return true;
          },
        },
      });
      const fail = (error: unknown) => {
        settle();
        // A socket that fails a second time while it is destroyed must not bring the process down.
        socket.on('error', () => {});
        socket.destroy();
        reject(error);
      };
      const onAbort = () => fail(options.signal?.reason);
      const timer = setTimeout(() => {
        fail(
          Object.assign(new Error(`connect ETIMEDOUT: no answer within ${options.connectTimeoutMs} ms`), {
            code: 'ETIMEDOUT',
          }),
        );
      }, options.connectTimeoutMs);
      const onConnect = () => {
        settle();
        resolve(new RpcConnection(socket, options, owner, xids, input));
      };
      const settle = () => {
        clearTimeout(timer);
        options.signal?.removeEventListener('abort', onAbort);
        socket.off('error', fail);
        socket.off('connect', onConnect);
      };
      options.signal?.addEventListener('abort', onAbort, { once: true });
      socket.once('error', fail);
      socket.once('connect', onConnect);
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls that were sent and have no answer, oldest first. */
  pending(): IterableIterator<C> {
    return this.#pending.values();
  }

  /** Sends a call, with the xid that it has or a new one. The bytes leave at the end of the tick. */
  send(call: C, now: number): void {
    if (call.xid === 0 || this.#pending.has(call.xid)) {
      do call.xid = this.#xids.next();
      while (this.#pending.has(call.xid));
    }
    call.sentAt = now;
    this.#pending.set(call.xid, call);
    const out = this.#out;
    const start = out.length;
    out.raw(this.#template(call.procedure));
    out.patchUint32(start + 4, call.xid);
    call.procedure.encode(out, call.args);
    endRecord(out, start + 4);
    if (out.length >= BATCH_BYTES) this.#flush();
    else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      setImmediate(this.#onTickEnd);
    }
  }

  /** The reply of this call is no longer wanted; when it comes it is dropped. */
  abandon(call: C): void {
    if (this.#pending.get(call.xid) === call) this.#pending.delete(call.xid);
    call.xid = 0;
  }

  /** Closes the connection; `closed` of the owner gets the error and the calls that have no answer. */
  close(error: Error): void {
    this.#end(error, false);
  }

  /** Mark, xid and header with credential, as every call of the procedure begins. */
  #template(procedure: Procedure<unknown, unknown>): Buffer {
    let template = this.#templates.get(procedure);
    if (template === undefined) {
      const writer = new XdrWriter(128);
      beginRecord(writer);
      writeCallHeader(writer, 0, procedure, this.#auth);
      template = writer.take();
      this.#templates.set(procedure, template);
    }
    return template;
  }

  readonly #onTickEnd = () => {
    this.#flushScheduled = false;
    this.#flush();
  };

  #flush(): void {
    if (this.#closed || this.#out.length === 0) return;
    // A copy, because the socket keeps what it could not yet hand to the kernel.
    this.#socket.write(this.#out.take());
    this.#out.clear();
  }

  #onBytes(bytes: Uint8Array, length: number): void {
    if (this.#closed) return;
    this.receivedAt = Date.now();
    try {
      this.#records.push(bytes, 0, length);
    } catch (error) {
      this.#end(error as Error, true);
      return;
    }
    if (this.#closed) return;
    if (!this.#records.partial) this.partialSince = 0;
    else if (this.partialSince === 0) this.partialSince = this.receivedAt;
    this.#owner.drained();
  }

  #onRecord(bytes: Uint8Array, start: number, end: number): void {
    this.partialSince = 0;
    const reader = this.#reader;
    reader.reset(bytes, start, end);
    const xid = reader.uint32();
    const call = this.#pending.get(xid);
    // A late reply to a call that was given up, or a second one to a call that is done.
    if (call === undefined) return;
    let result: unknown = null;
    this.#culprit = call;
    const failure = readReplyHeader(reader);
    if (failure === null) result = call.procedure.decode(reader);
    this.#culprit = null;
    this.#pending.delete(xid);
    if (failure === null) this.#owner.replied(call, result);
    else this.#owner.refused(call, failure);
  }

  #onEnd(): void {
    if (this.#pending.size === 0 && this.#out.length === 0 && !this.#records.partial) this.#end(null, false);
    else this.#end(new Error('the server closed the connection with calls unanswered'), false);
  }

  #end(error: Error | null, protocol: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#records.stop();
    this.#socket.destroy();
    const unanswered = [...this.#pending.values()];
    this.#pending.clear();
    const culprit = this.#culprit;
    this.#culprit = null;
    this.#owner.closed(error, unanswered, { protocol, culprit });
  }
}

interface Input {
  receive(bytes: Uint8Array, length: number): void;
}

/** An address and port as text, an IPv6 address in brackets (RFC 3986 §3.2.2). */
export function peerText(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
