import net from 'node:net';

/**
 * A second, naive NFSv3 client: it shares no code with src/nfs, so that tests of a server do not prove a codec by
 * itself. One call after the other by default, every field read in the order of the RFC.
 */

export class Bytes {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  u32(): number {
    const value = this.#bytes.readUInt32BE(this.#at);
    this.#at += 4;
    return value;
  }

  u64(): bigint {
    const value = this.#bytes.readBigUInt64BE(this.#at);
    this.#at += 8;
    return value;
  }

  fixed(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new Error('short');
    const value = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += Math.ceil(length / 4) * 4;
    return value;
  }

  opaque(): Buffer {
    return this.fixed(this.u32());
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }
}

export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => {
    bytes.writeUInt32BE(value, 4 * i);
  });
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

export function opaque(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([u32(bytes.length), bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

export const AUTH_NONE = Buffer.concat([u32(0, 0)]);

export function authSys(uid: number, gid: number, gids: readonly number[] = []): Buffer {
  const body = Buffer.concat([u32(7), opaque('naive'), u32(uid, gid, gids.length, ...gids)]);
  return Buffer.concat([u32(1), opaque(body)]);
}

/** The connection was closed before the reply came. */
export class ConnectionClosed extends Error {}

export class NaiveRpc {
  readonly #socket: net.Socket;
  readonly #waiting = new Map<number, { resolve: (reply: Bytes) => void; reject: (error: Error) => void }>();
  #received: Buffer = Buffer.alloc(0);
  #xid = 1000;
  readonly closed: Promise<void>;
  credential = authSys(0, 0);

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#data(chunk));
    socket.on('error', () => {});
    this.closed = new Promise((resolve) =>
      socket.on('close', () => {
        for (const { reject } of this.#waiting.values()) reject(new ConnectionClosed('closed'));
        this.#waiting.clear();
        resolve();
      }),
    );
  }

  static connect(port: number, host = '127.0.0.1'): Promise<NaiveRpc> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ port, host }, () => resolve(new NaiveRpc(socket)));
      socket.once('error', reject);
    });
  }

  /** Resolves to the whole reply after the xid. */
  callRaw(program: number, version: number, procedure: number, args: Buffer, rpcVersion = 2): Promise<Bytes> {
    const xid = this.#xid++;
    const message = Buffer.concat([
      u32(xid, 0, rpcVersion, program, version, procedure),
      this.credential,
      AUTH_NONE,
      args,
    ]);
    this.#socket.write(Buffer.concat([u32((0x80000000 | message.length) >>> 0), message]));
    return new Promise((resolve, reject) => this.#waiting.set(xid, { resolve, reject }));
  }

  /** Resolves to the results of a call that was accepted and carried out. */
  async call(
    program: number,
    version: number,
    procedure: number,
    args: Buffer = Buffer.alloc(0),
  ): Promise<Bytes> {
    const reply = await this.callRaw(program, version, procedure, args);
    const head = [reply.u32(), reply.u32(), reply.u32(), reply.opaque().length, reply.u32()];
    if (head.join() !== '1,0,0,0,0') throw new Error(`not carried out: ${head.join()}`);
    return reply;
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  close(): Promise<void> {
    this.#socket.destroy();
    return this.closed;
  }

  #data(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    while (this.#received.length >= 4) {
      const length = this.#received.readUInt32BE(0) & 0x7fffffff;
      if (this.#received.length < 4 + length) return;
      const record = this.#received.subarray(4, 4 + length);
      this.#received = this.#received.subarray(4 + length);
      const xid = record.readUInt32BE(0);
      this.#waiting.get(xid)?.resolve(new Bytes(record.subarray(4)));
      this.#waiting.delete(xid);
    }
  }
}

export interface NaiveAttributes {
  type: number;
  mode: number;
  uid: number;
  size: bigint;
  fileid: bigint;
  mtimeNs: bigint;
}

export function readAttributes(reply: Bytes): NaiveAttributes {
  const [type, mode, , uid] = [reply.u32(), reply.u32(), reply.u32(), reply.u32(), reply.u32()];
  const size = reply.u64();
  for (let i = 0; i < 3; i++) reply.u64();
  const fileid = reply.u64();
  reply.u64();
  const mtimeNs = BigInt(reply.u32()) * 1_000_000_000n + BigInt(reply.u32());
  reply.u64();
  return { type: type as number, mode: mode as number, uid: uid as number, size, fileid, mtimeNs };
}

export function readPostOp(reply: Bytes): NaiveAttributes | null {
  return reply.u32() === 1 ? readAttributes(reply) : null;
}

export const MAGIC_OFFSET = 0x1234abcddeaddeadn;
export const MAGIC_SYNC = 0xabadbeef;
export const MAGIC_START = 0xadeadbe6;
export const MAGIC_STATUS = 0xadeadbe5;

export interface NaiveCommit {
  status: number;
  before: { size: bigint } | null;
  after: NaiveAttributes | null;
  verifier: string | null;
}

/** The calls of NFS, MOUNT and the port mapper that the tests need. */
export class NaiveNfs {
  readonly rpc: NaiveRpc;

  constructor(rpc: NaiveRpc) {
    this.rpc = rpc;
  }

  async lookup(directory: Buffer, name: string | Buffer): Promise<{ status: number; handle: Buffer | null }> {
    const reply = await this.rpc.call(100003, 3, 3, Buffer.concat([opaque(directory), opaque(name)]));
    const status = reply.u32();
    const handle = status === 0 ? Buffer.from(reply.opaque()) : null;
    readPostOp(reply);
    if (status === 0) readPostOp(reply);
    done(reply);
    return { status, handle };
  }

  async getattr(handle: Buffer): Promise<{ status: number; attributes: NaiveAttributes | null }> {
    const reply = await this.rpc.call(100003, 3, 1, opaque(handle));
    const status = reply.u32();
    const attributes = status === 0 ? readAttributes(reply) : null;
    done(reply);
    return { status, attributes };
  }

  async read(
    handle: Buffer,
    offset: bigint,
    count: number,
  ): Promise<{ status: number; data: Buffer; eof: boolean }> {
    const reply = await this.rpc.call(100003, 3, 6, Buffer.concat([opaque(handle), u64(offset), u32(count)]));
    const status = reply.u32();
    readPostOp(reply);
    let data: Buffer = Buffer.alloc(0);
    let eof = false;
    if (status === 0) {
      const length = reply.u32();
      eof = reply.u32() === 1;
      data = Buffer.from(reply.opaque());
      if (data.length !== length) throw new Error('count and data differ');
    }
    done(reply);
    return { status, data, eof };
  }

  async commit(handle: Buffer, offset = 0n, count = 0): Promise<NaiveCommit> {
    const reply = await this.rpc.call(
      100003,
      3,
      21,
      Buffer.concat([opaque(handle), u64(offset), u32(count)]),
    );
    const status = reply.u32();
    let before: { size: bigint } | null = null;
    if (reply.u32() === 1) {
      before = { size: reply.u64() };
      reply.u64();
      reply.u64();
    }
    const after = readPostOp(reply);
    const verifier = status === 0 ? reply.fixed(8).toString('hex') : null;
    done(reply);
    return { status, before, after, verifier };
  }

  async start(handle: Buffer): Promise<number> {
    return (await this.commit(handle, MAGIC_OFFSET, MAGIC_START)).status;
  }

  async status(handle: Buffer): Promise<number> {
    return (await this.commit(handle, MAGIC_OFFSET, MAGIC_STATUS)).status;
  }

  async sync(handle: Buffer): Promise<number> {
    return (await this.commit(handle, MAGIC_OFFSET, MAGIC_SYNC)).status;
  }

  /** Every page, with the names of "." and ".." left out. */
  async list(directory: Buffer, plus: boolean, maxBytes = 8192): Promise<Map<string, bigint>> {
    const names = new Map<string, bigint>();
    let cookie = 0n;
    let verifier: Buffer = Buffer.alloc(8);
    for (let eof = false; !eof; ) {
      const sizes = plus ? u32(maxBytes, maxBytes) : u32(maxBytes);
      const args = Buffer.concat([opaque(directory), u64(cookie), verifier, sizes]);
      const reply = await this.rpc.call(100003, 3, plus ? 17 : 16, args);
      const status = reply.u32();
      readPostOp(reply);
      if (status !== 0) throw new Error(`status ${status}`);
      verifier = Buffer.from(reply.fixed(8));
      while (reply.u32() === 1) {
        const fileid = reply.u64();
        const name = reply.opaque().toString('latin1');
        cookie = reply.u64();
        if (plus) {
          if (readPostOp(reply)?.fileid !== fileid) throw new Error('fileid and attributes differ');
          if (reply.u32() === 1) reply.opaque();
        }
        if (name === '.' || name === '..') continue;
        if (names.has(name)) throw new Error(`${name} is listed twice`);
        names.set(name, fileid);
      }
      eof = reply.u32() === 1;
      done(reply);
    }
    return names;
  }
}

function done(reply: Bytes): void {
  if (reply.left !== 0) throw new Error(`${reply.left} bytes too many`);
}

/** portmap GETPORT; 0 if it is not registered. */
export async function getport(portmapPort: number, program: number, host?: string): Promise<number> {
  const rpc = await NaiveRpc.connect(portmapPort, host);
  rpc.credential = AUTH_NONE;
  const reply = await rpc.call(100000, 2, 3, u32(program, 3, 6, 0));
  await rpc.close();
  return reply.u32();
}

/** MNT: the status, and the root's handle if it is 0. */
export async function mnt(
  mountPort: number,
  path: string,
  host?: string,
): Promise<{ status: number; handle: Buffer; flavors: number[] }> {
  const rpc = await NaiveRpc.connect(mountPort, host);
  const reply = await rpc.call(100005, 3, 1, opaque(path));
  await rpc.close();
  const status = reply.u32();
  if (status !== 0) return { status, handle: Buffer.alloc(0), flavors: [] };
  const handle = Buffer.from(reply.opaque());
  const flavors = Array.from({ length: reply.u32() }, () => reply.u32());
  return { status, handle, flavors };
}
