import net from 'node:net';
import { beginRecord, DEFAULT_RECORD_LIMITS, endRecord, RecordReader } from '../nfs/record.js';
import {
  AUTH_ERROR,
  AUTH_NONE,
  AUTH_SYS,
  type CallHeader,
  GARBAGE_ARGS,
  MSG_DENIED,
  PROC_UNAVAIL,
  PROG_MISMATCH,
  PROG_UNAVAIL,
  REPLY,
  RPC_MISMATCH,
  RPC_VERSION,
  readAuthSys,
  readCallHeader,
  SYSTEM_ERR,
  writeAcceptedReply,
} from '../nfs/rpc.js';
import { XdrError, XdrReader, XdrWriter } from '../nfs/xdr.js';
import type { Fate } from './faults.js';

/** ONC RPC over TCP (RFC 5531) as a server sees it: calls in, replies out, as many at once as the client likes. */

export interface Credential {
  uid: number;
  gid: number;
  gids: readonly number[];
}

/** One call, for the procedure that answers it. */
export interface Call {
  readonly credential: Credential;
  readonly localAddress: string;
  readonly remoteAddress: string;
  /** Set by the procedure when something else than an answer at once is wanted. */
  fate: Fate | null;
  /** Set by a procedure that answers later and with many bytes: about how many. */
  expectedBytes: number;
}

export type WriteResults = (results: XdrWriter) => void;

/**
 * Reads the arguments and writes the results, or promises to write them.
 * An XdrError is answered with GARBAGE_ARGS, any other error with SYSTEM_ERR.
 */
export type Procedure = (
  args: XdrReader,
  results: XdrWriter,
  call: Call,
) => undefined | Promise<WriteResults>;

export interface ProcedureEntry {
  readonly name: string;
  readonly run: Procedure;
  calls: number;
}

export interface RpcProgram {
  readonly program: number;
  /** Procedures by number, for each version. */
  readonly versions: ReadonlyMap<number, ReadonlyMap<number, ProcedureEntry>>;
}

export interface RpcServerOptions {
  program: RpcProgram;
  /** Who a caller without a credential is. */
  anonymous: Credential;
  /** Who a caller with this AUTH_SYS credential is. */
  mapCredential: (credential: Credential) => Credential;
  /** A record that was begun has to be whole by then; absent: 30 seconds. */
  recordTimeoutMs?: number;
}

const IDLE_TIMEOUT_MS = 600_000;
const RECORD_TIMEOUT_MS = 30_000;
const MAX_CONNECTIONS = 4096;
/** Above this many calls that are not answered yet, or bytes not taken by the client, no further call is looked at. */
const MAX_UNANSWERED = 16_384;
const MAX_UNSENT_BYTES = 4 << 20;
/** A segment may hold hundreds of calls: the limits are looked at again after this much of it. */
const SLICE_BYTES = 4 << 10;
const WRITTEN_AT_ONCE_BYTES = 256 << 10;
const RECORD_LIMITS = { ...DEFAULT_RECORD_LIMITS, maxRecordBytes: (1 << 20) + (64 << 10) };
const KEPT_WRITER_BYTES = 256 << 10;
const AUTH_BADCRED = 1;
const AUTH_TOOWEAK = 5;

/** One program on one port. */
export class RpcServer {
  readonly #options: RpcServerOptions;
  readonly #server: net.Server;
  readonly #connections = new Set<Connection>();

  constructor(options: RpcServerOptions) {
    this.#options = options;
    this.#server = net.createServer({ noDelay: true }, (socket) => {
      const connection = new Connection(socket, this.#options, () => this.#connections.delete(connection));
      this.#connections.add(connection);
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Resolves to the port. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host, port }, () => {
        this.#server.off('error', reject);
        // Such as running out of descriptors in accept(): the client's side of it is a closed connection.
        this.#server.on('error', () => {});
        resolve((this.#server.address() as net.AddressInfo).port);
      });
    });
  }

  /** Cuts all connections, as a server that goes down does. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.destroy();
    await closed;
  }
}

class Connection {
  readonly #socket: net.Socket;
  readonly #options: RpcServerOptions;
  readonly #records: RecordReader;
  readonly #args = new XdrReader(new Uint8Array(0));
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #localAddress: string;
  readonly #remoteAddress: string;
  #results = new XdrWriter(16 << 10);
  #recordTimer: NodeJS.Timeout | null = null;
  #recordsSeen = 0;
  #flushScheduled = false;
  #unanswered = 0;
  #expectedBytes = 0;
  /** What was received and not looked at yet; the socket is paused while there is something. */
  #backlog: Buffer | null = null;
  #lastAuthBody: Buffer = Buffer.alloc(0);
  #lastCredential: Credential | null = null;

  constructor(socket: net.Socket, options: RpcServerOptions, onClose: () => void) {
    this.#socket = socket;
    this.#options = options;
    this.#localAddress = plainAddress(socket.localAddress);
    this.#remoteAddress = plainAddress(socket.remoteAddress);
    this.#records = new RecordReader((bytes, start, end) => this.#record(bytes, start, end), RECORD_LIMITS);
    socket.setTimeout(IDLE_TIMEOUT_MS, () => this.destroy());
    socket.on('data', (chunk: Buffer) => this.#data(chunk));
    socket.on('drain', () => this.#resume());
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#records.stop();
      for (const timer of this.#timers) clearTimeout(timer);
      this.#timers.clear();
      if (this.#recordTimer !== null) clearTimeout(this.#recordTimer);
      onClose();
    });
  }

  destroy(): void {
    this.#records.stop();
    this.#socket.destroy();
  }

  #data(chunk: Buffer): void {
    const bytes = this.#backlog === null ? chunk : Buffer.concat([this.#backlog, chunk]);
    this.#backlog = null;
    let at = 0;
    try {
      while (at < bytes.length && !this.#isOverloaded(1)) {
        const end = Math.min(at + SLICE_BYTES, bytes.length);
        this.#records.push(bytes, at, end);
        at = end;
        if (this.#results.length > WRITTEN_AT_ONCE_BYTES) this.#flush();
      }
    } catch {
      // A record over the caps, or a message that is no call: nothing after it can be trusted.
      this.destroy();
      return;
    }
    this.#flush();
    this.#watchRecord();
    if (at < bytes.length) {
      this.#backlog = bytes.subarray(at);
      this.#socket.pause();
    }
  }

  /** @param share of the limits: reading stops at all of them and goes on at half */
  #isOverloaded(share: number): boolean {
    return (
      this.#unanswered > MAX_UNANSWERED * share ||
      this.#socket.writableLength + this.#expectedBytes > MAX_UNSENT_BYTES * share
    );
  }

  #watchRecord(): void {
    if (!this.#records.partial) {
      if (this.#recordTimer !== null) clearTimeout(this.#recordTimer);
      this.#recordTimer = null;
    } else if (this.#recordTimer === null && !this.#socket.destroyed) {
      const seen = this.#recordsSeen;
      this.#recordTimer = setTimeout(() => {
        this.#recordTimer = null;
        // With a backlog it is us who do not read on.
        if (this.#recordsSeen === seen && this.#backlog === null) this.destroy();
        else this.#watchRecord();
      }, this.#options.recordTimeoutMs ?? RECORD_TIMEOUT_MS);
    }
  }

  #record(bytes: Uint8Array, start: number, end: number): void {
    this.#recordsSeen++;
    this.#args.reset(bytes, start, end);
    const header = readCallHeader(this.#args);
    const at = this.#results.length;
    const record = beginRecord(this.#results);
    const answered = this.#answer(header, record);
    if (answered) endRecord(this.#results, record);
    else this.#results.length = at;
  }

  /** False: there is no reply now, whatever was written is to be taken back. */
  #answer(header: CallHeader, record: number): boolean {
    const results = this.#results;
    if (header.rpcVersion !== RPC_VERSION) {
      writeDenied(results, header.xid, RPC_MISMATCH, [RPC_VERSION, RPC_VERSION]);
      return true;
    }
    const { program } = this.#options;
    if (header.program !== program.program) {
      writeAcceptedReply(results, header.xid, PROG_UNAVAIL);
      return true;
    }
    const procedures = program.versions.get(header.version);
    if (procedures === undefined) {
      const versions = [...program.versions.keys()];
      writeAcceptedReply(results, header.xid, PROG_MISMATCH);
      results.uint32(Math.min(...versions));
      results.uint32(Math.max(...versions));
      return true;
    }
    const entry = procedures.get(header.procedure);
    if (entry === undefined) {
      writeAcceptedReply(results, header.xid, PROC_UNAVAIL);
      return true;
    }
    const credential = this.#credential(header);
    if (typeof credential === 'number') {
      writeDenied(results, header.xid, AUTH_ERROR, [credential]);
      return true;
    }
    entry.calls++;
    return this.#run(entry, header.xid, credential, record);
  }

  #run(entry: ProcedureEntry, xid: number, credential: Credential, record: number): boolean {
    const results = this.#results;
    const call: Call = {
      credential,
      localAddress: this.#localAddress,
      remoteAddress: this.#remoteAddress,
      fate: null,
      expectedBytes: 0,
    };
    writeAcceptedReply(results, xid);
    let later: undefined | Promise<WriteResults>;
    try {
      later = entry.run(this.#args, results, call);
    } catch (error) {
      results.length = record;
      writeAcceptedReply(results, xid, error instanceof XdrError ? GARBAGE_ARGS : SYSTEM_ERR);
      return true;
    }
    if (call.fate?.instead === 'silent') return false;
    if (call.fate?.instead === 'drop') {
      this.destroy();
      return false;
    }
    const delayMs = call.fate?.delayMs ?? 0;
    if (later !== undefined) {
      void this.#answerLater(xid, later, delayMs, call.expectedBytes);
      return false;
    }
    if (delayMs > 0) {
      const reply = Buffer.from(results.bytes.subarray(record, results.length));
      this.#after(delayMs, () => this.#send((writer) => writer.raw(reply)));
      return false;
    }
    return true;
  }

  async #answerLater(
    xid: number,
    later: Promise<WriteResults>,
    delayMs: number,
    expectedBytes: number,
  ): Promise<void> {
    this.#unanswered++;
    this.#expectedBytes += expectedBytes;
    const write = await later.then(
      (writeResults): WriteResults =>
        (writer) => {
          writeAcceptedReply(writer, xid);
          writeResults(writer);
        },
      (): WriteResults => (writer) => writeAcceptedReply(writer, xid, SYSTEM_ERR),
    );
    this.#unanswered--;
    this.#expectedBytes -= expectedBytes;
    if (delayMs > 0) this.#after(delayMs, () => this.#send(write));
    else this.#send(write);
  }

  #after(delayMs: number, action: () => void): void {
    if (this.#socket.destroyed) return;
    this.#unanswered++;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#unanswered--;
      action();
      this.#resume();
    }, delayMs);
    this.#timers.add(timer);
  }

  #send(write: WriteResults): void {
    if (this.#socket.destroyed) return;
    const record = beginRecord(this.#results);
    write(this.#results);
    endRecord(this.#results, record);
    if (this.#flushScheduled) return;
    // Replies that become ready in the same turn leave in one write.
    this.#flushScheduled = true;
    setImmediate(() => {
      this.#flushScheduled = false;
      this.#flush();
      this.#resume();
    });
  }

  #flush(): void {
    if (this.#results.length > 0 && !this.#socket.destroyed) this.#socket.write(this.#results.take());
    if (this.#results.bytes.length > KEPT_WRITER_BYTES) this.#results = new XdrWriter(16 << 10);
    else this.#results.clear();
  }

  #resume(): void {
    if (this.#backlog === null || this.#socket.destroyed || this.#isOverloaded(0.5)) return;
    this.#data(Buffer.alloc(0));
    if (this.#backlog === null) this.#socket.resume();
  }

  /** A number is the auth_stat of a refusal. */
  #credential(header: CallHeader): Credential | number {
    if (header.authFlavor === AUTH_NONE) return this.#options.anonymous;
    if (header.authFlavor !== AUTH_SYS) return AUTH_TOOWEAK;
    if (this.#lastCredential !== null && header.authBody.equals(this.#lastAuthBody)) {
      return this.#lastCredential;
    }
    try {
      const { uid, gid, gids } = readAuthSys(header.authBody);
      this.#lastCredential = this.#options.mapCredential({ uid, gid, gids });
      this.#lastAuthBody = header.authBody;
      return this.#lastCredential;
    } catch {
      return AUTH_BADCRED;
    }
  }
}

function writeDenied(results: XdrWriter, xid: number, rejectStat: number, details: readonly number[]): void {
  results.uint32(xid);
  results.uint32(REPLY);
  results.uint32(MSG_DENIED);
  results.uint32(rejectStat);
  for (const detail of details) results.uint32(detail);
}

/** IPv4 connections on an IPv6 socket have addresses like `::ffff:192.0.2.1`. */
function plainAddress(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/, '');
}
