import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import * as mount3 from '../../src/nfs/mount3.js';
import * as nfs3 from '../../src/nfs/nfs3.js';
import { PMAP_PROG, PMAP_V2 } from '../../src/nfs/portmap.js';
import { beginRecord, endRecord, RecordReader } from '../../src/nfs/record.js';
import {
  AUTH_ERROR,
  MSG_DENIED,
  REPLY,
  readCallHeader,
  SUCCESS,
  writeAcceptedReply,
} from '../../src/nfs/rpc.js';
import { XdrReader, XdrWriter } from '../../src/nfs/xdr.js';

/**
 * A TCP server that speaks port mapper, MOUNT3 and NFS3 on one port and does as its script says: answers late,
 * twice, in another order, in pieces, with nonsense, or not at all. What the script does not handle is answered
 * as a well server would: every name is a regular file, every COMMIT succeeds.
 */

const PROGRAM_NAMES: Readonly<Record<number, string>> = {
  [PMAP_PROG]: 'PMAP',
  [mount3.MOUNT_PROGRAM]: 'MOUNT3',
  [nfs3.NFS_PROGRAM]: 'NFS3',
};
const PROCEDURE_NAMES: Readonly<Record<string, string>> = {
  'NFS3 0': 'NULL',
  'NFS3 1': 'GETATTR',
  'NFS3 3': 'LOOKUP',
  'NFS3 4': 'ACCESS',
  'NFS3 5': 'READLINK',
  'NFS3 16': 'READDIR',
  'NFS3 17': 'READDIRPLUS',
  'NFS3 19': 'FSINFO',
  'NFS3 21': 'COMMIT',
  'MOUNT3 0': 'NULL',
  'MOUNT3 1': 'MNT',
  'MOUNT3 3': 'UMNT',
  'MOUNT3 5': 'EXPORT',
  'PMAP 3': 'GETPORT',
};

export const ROOT = Buffer.from('root-handle');

export interface FaultAttributes {
  type: number;
  size: number;
  mtimeSeconds: number;
  fileid: number;
}

export const REGULAR: FaultAttributes = {
  type: nfs3.NF3REG,
  size: 5,
  mtimeSeconds: 1_700_000_000,
  fileid: 7,
};
export const DIRECTORY: FaultAttributes = { ...REGULAR, type: nfs3.NF3DIR };

/** One call as it arrived, and the ways to answer it. */
export class FaultCall {
  readonly xid: number;
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  /** E.g. `NFS3 COMMIT`. */
  readonly name: string;
  /** The arguments' bytes. */
  readonly args: Buffer;
  readonly connection: FaultConnection;

  constructor(record: Buffer, connection: FaultConnection) {
    const reader = new XdrReader(record);
    const header = readCallHeader(reader);
    this.xid = header.xid;
    this.program = header.program;
    this.version = header.version;
    this.procedure = header.procedure;
    const program = PROGRAM_NAMES[header.program] ?? String(header.program);
    const number = `${program} ${header.procedure}`;
    this.name = `${program} ${PROCEDURE_NAMES[number] ?? header.procedure}`;
    this.args = record.subarray(reader.offset);
    this.connection = connection;
  }

  /** The name that a LOOKUP asks for. */
  get lookupName(): string {
    const reader = new XdrReader(this.args);
    reader.skipOpaque(64);
    return reader.opaque(4096).toString('latin1');
  }

  /** A whole successful reply, without record mark. */
  replyBody(results: (writer: XdrWriter) => void): Buffer {
    const writer = new XdrWriter();
    writeAcceptedReply(writer, this.xid, SUCCESS);
    results(writer);
    return writer.take();
  }

  reply(results: (writer: XdrWriter) => void = () => {}): void {
    this.connection.sendRecord(this.replyBody(results));
  }

  /** Answers with one word of results after it: enough for every NFS error that carries no attributes. */
  replyStatus(status: number): void {
    this.reply((writer) => writeFailure(writer, this.name, status));
  }

  /** accept_stat other than SUCCESS; PROG_MISMATCH takes the range. */
  replyAccept(acceptStat: number, ...words: number[]): void {
    const writer = new XdrWriter();
    writeAcceptedReply(writer, this.xid, acceptStat);
    for (const word of words) writer.uint32(word);
    this.connection.sendRecord(writer.take());
  }

  denyAuth(authStat: number): void {
    const writer = new XdrWriter();
    for (const word of [this.xid, REPLY, MSG_DENIED, AUTH_ERROR, authStat]) writer.uint32(word);
    this.connection.sendRecord(writer.take());
  }
}

/** The server's side of one TCP connection. */
export class FaultConnection {
  /** From 1, in the order of connecting. */
  readonly number: number;
  readonly socket: Socket;

  constructor(number: number, socket: Socket) {
    this.number = number;
    this.socket = socket;
  }

  /** Sends a message as one fragment, or as fragments of the given sizes and the rest as the last one. */
  sendRecord(body: Uint8Array, fragmentSizes: readonly number[] = []): void {
    this.sendBytes(recordBytes(body, fragmentSizes));
  }

  sendBytes(bytes: Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(bytes);
  }

  /** Ends the connection by FIN. */
  end(): void {
    this.socket.end();
  }

  /** Ends the connection by RST. */
  reset(): void {
    this.socket.resetAndDestroy();
  }
}

/** A message with its record mark or marks. */
export function recordBytes(body: Uint8Array, fragmentSizes: readonly number[] = []): Buffer {
  const writer = new XdrWriter();
  let at = 0;
  for (const size of fragmentSizes) {
    writer.uint32(size);
    writer.raw(body.subarray(at, at + size));
    at += size;
  }
  const start = beginRecord(writer);
  writer.raw(body.subarray(at));
  endRecord(writer, start);
  return writer.take();
}

/** Handles a call and returns true, or leaves it to {@link FaultServer.answer}. */
export type FaultScript = (call: FaultCall) => boolean;

export class FaultServer {
  readonly host = '127.0.0.1';
  port = 0;
  /** Every call that came, in order. */
  readonly calls: FaultCall[] = [];
  readonly connections: FaultConnection[] = [];
  script: FaultScript;
  /** Called with every new connection, before anything is read. */
  onConnection: (connection: FaultConnection) => void = () => {};
  #server: Server | null = null;

  constructor(script: FaultScript = () => false) {
    this.script = script;
  }

  /** For NfsTarget.ports. */
  get ports(): { portmap: number; mount: number; nfs: number } {
    return { portmap: this.port, mount: this.port, nfs: this.port };
  }

  /** Listens, on the port that it had before if it was closed. */
  async listen(): Promise<void> {
    const server = createServer((socket) => this.#accept(socket));
    server.listen(this.port, this.host);
    await once(server, 'listening');
    const address = server.address();
    if (address !== null && typeof address === 'object') this.port = address.port;
    this.#server = server;
  }

  /** Refuses connections and resets those that are open. */
  async close(): Promise<void> {
    for (const { socket } of this.connections) socket.destroy();
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = once(server, 'close');
    server.close();
    await closed;
  }

  /** Calls of this name that came so far, e.g. `NFS3 COMMIT`. */
  count(name: string): number {
    return this.calls.filter((call) => call.name === name).length;
  }

  #accept(socket: Socket): void {
    const connection = new FaultConnection(this.connections.length + 1, socket);
    this.connections.push(connection);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    const records = new RecordReader((bytes, start, end) => {
      const call = new FaultCall(Buffer.from(bytes.subarray(start, end)), connection);
      this.calls.push(call);
      if (!this.script(call)) this.answer(call);
    });
    socket.on('data', (chunk) => records.push(chunk));
    this.onConnection(connection);
  }

  /** Answers as a well server does. */
  answer(call: FaultCall): void {
    call.reply((writer) => this.#results(call, writer));
  }

  /** The results that {@link answer} would send. */
  results(call: FaultCall): (writer: XdrWriter) => void {
    return (writer) => this.#results(call, writer);
  }

  #results(call: FaultCall, writer: XdrWriter): void {
    switch (call.name) {
      case 'PMAP GETPORT':
        if (call.version === PMAP_V2) writer.uint32(this.port);
        else writer.text(`127.0.0.1.${this.port >> 8}.${this.port & 255}`);
        break;
      case 'MOUNT3 MNT':
        writer.uint32(mount3.MNT3_OK);
        writer.opaque(ROOT);
        writer.uint32(1);
        writer.uint32(1);
        break;
      case 'MOUNT3 EXPORT':
        writeExports(writer, ['/export']);
        break;
      case 'NFS3 GETATTR':
        writer.uint32(nfs3.NFS3_OK);
        writeFattr(writer, DIRECTORY);
        break;
      case 'NFS3 LOOKUP':
        writeLookup(writer, Buffer.from(`handle of ${call.lookupName}`).subarray(0, 64), REGULAR);
        break;
      case 'NFS3 COMMIT':
        writeCommit(writer, nfs3.NFS3_OK, REGULAR, 1);
        break;
    }
  }
}

export async function startFaultServer(script?: FaultScript): Promise<FaultServer> {
  const server = new FaultServer(script);
  await server.listen();
  return server;
}

export function writeFattr(writer: XdrWriter, { type, size, mtimeSeconds, fileid }: FaultAttributes): void {
  for (const word of [type, 0o644, 1, 0, 0]) writer.uint32(word);
  writer.uint64Number(size);
  writer.uint64Number(4096);
  writer.uint64(0, 0);
  writer.uint64Number(1);
  writer.uint64Number(fileid);
  for (let i = 0; i < 3; i++) {
    writer.uint32(mtimeSeconds);
    writer.uint32(500_000_000);
  }
}

export function writePostOpAttr(writer: XdrWriter, attributes: FaultAttributes | null): void {
  writer.bool(attributes !== null);
  if (attributes !== null) writeFattr(writer, attributes);
}

export function writeLookup(writer: XdrWriter, handle: Uint8Array, attributes: FaultAttributes | null): void {
  writer.uint32(nfs3.NFS3_OK);
  writer.opaque(handle);
  writePostOpAttr(writer, attributes);
  writePostOpAttr(writer, DIRECTORY);
}

/** @param verifier low word of the write verifier */
export function writeCommit(
  writer: XdrWriter,
  status: number,
  attributes: FaultAttributes | null,
  verifier: number,
): void {
  writer.uint32(status);
  writer.bool(false);
  writePostOpAttr(writer, attributes);
  if (status === nfs3.NFS3_OK) writer.uint64(0, verifier);
}

export function writeExports(
  writer: XdrWriter,
  paths: readonly string[],
  groups: readonly string[] = [],
): void {
  for (const path of paths) {
    writer.bool(true);
    writer.text(path);
    for (const group of groups) {
      writer.bool(true);
      writer.text(group);
    }
    writer.bool(false);
  }
  writer.bool(false);
}

export interface FaultEntry {
  name: string;
  cookie: number;
  attributes: FaultAttributes | null;
  handle: Uint8Array | null;
}

export function writeDirectoryPage(
  writer: XdrWriter,
  plus: boolean,
  entries: readonly FaultEntry[],
  eof: boolean,
): void {
  writer.uint32(nfs3.NFS3_OK);
  writePostOpAttr(writer, DIRECTORY);
  writer.fixedOpaque(Buffer.from('verifier'));
  for (const entry of entries) {
    writer.bool(true);
    writer.uint64Number(entry.cookie);
    writer.text(entry.name);
    writer.uint64Number(entry.cookie);
    if (!plus) continue;
    writePostOpAttr(writer, entry.attributes);
    writer.bool(entry.handle !== null);
    if (entry.handle !== null) writer.opaque(entry.handle);
  }
  writer.bool(false);
  writer.bool(eof);
}

function writeFailure(writer: XdrWriter, name: string, status: number): void {
  writer.uint32(status);
  if (name === 'NFS3 COMMIT') writer.bool(false);
  if (name !== 'NFS3 GETATTR' && name !== 'MOUNT3 MNT') writePostOpAttr(writer, null);
}
