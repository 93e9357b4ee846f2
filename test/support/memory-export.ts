import type {
  AttributesReply,
  ExportCalls,
  LookupReply,
  ReadlinkReply,
} from '../../src/flush/target-calls.js';
import { pathBytes } from '../../src/model/pathname.js';
import { NfsError } from '../../src/nfs/errors.js';
import { type FileHandle, NF3DIR, NF3FIFO, NF3LNK, NF3REG } from '../../src/nfs/nfs3.js';
import type { DirectoryCursor, DirectoryEntry, DirectoryPage } from '../../src/nfs/nfs3-procedures.js';
import type { CallLimit } from '../../src/nfs/target.js';

export type Procedure = 'LOOKUP' | 'GETATTR' | 'READLINK' | 'READDIRPLUS' | 'READDIR' | 'COMMIT' | 'REMOUNT';

export interface MemoryCall {
  procedure: Procedure;
  /** Of the file that the call is about; for LOOKUP the one looked up. */
  path: string;
  /** COMMIT's count: tells the intent of a magic one. */
  count: number;
  cursor: DirectoryCursor | null;
}

/** What to answer instead: a status, `hang` (until the caller's limit), or an error of the client. */
export type Answer = number | 'hang' | NfsError | undefined;

interface Node {
  type: number;
  handle: FileHandle;
  path: string;
  children: Map<string, Node>;
  target: string;
}

/** An export in memory that does what a test tells it; answers come at a later turn of the event loop. */
export class MemoryExport implements ExportCalls {
  readonly calls: MemoryCall[] = [];
  /** Asked before every call. */
  answer: (call: MemoryCall) => Answer | Promise<Answer> = () => undefined;
  /** Whether LOOKUP and READDIRPLUS tell attributes, and READDIRPLUS handles. */
  givesAttributes = true;
  givesHandles = true;
  /** Entries per page of a directory. */
  pageEntries = 1000;
  closed = false;
  /** Calls that were never answered and wait for their limit. */
  hanging = 0;
  #root: Node;
  #nodes = new Map<string, Node>();
  #handles = 0;
  #epoch = 0;

  constructor() {
    this.#root = this.#node(NF3DIR, '');
  }

  get root(): FileHandle {
    return this.#root.handle;
  }

  file(...paths: string[]): this {
    for (const path of paths) this.#add(path, NF3REG);
    return this;
  }

  directory(path: string): this {
    this.#add(path, NF3DIR);
    return this;
  }

  fifo(path: string): this {
    this.#add(path, NF3FIFO);
    return this;
  }

  link(path: string, target: string): this {
    this.#add(path, NF3LNK).target = target;
    return this;
  }

  remove(path: string): this {
    const at = path.lastIndexOf('/');
    const parent = this.#find(path.slice(0, Math.max(0, at)));
    const node = parent?.children.get(path.slice(at + 1));
    parent?.children.delete(path.slice(at + 1));
    if (node !== undefined) this.#forget(node);
    return this;
  }

  /** Every handle, the root's too, becomes another one. */
  newHandles(): this {
    this.#nodes.clear();
    this.#epoch++;
    const renew = (node: Node): void => {
      node.handle = this.#handle(node);
      for (const child of node.children.values()) renew(child);
    };
    renew(this.#root);
    return this;
  }

  count(procedure: Procedure, path?: string): number {
    return this.calls.filter(
      (call) => call.procedure === procedure && (path === undefined || call.path === path),
    ).length;
  }

  async lookup(dir: FileHandle, name: Uint8Array, limit: CallLimit): Promise<LookupReply> {
    const parent = this.#nodes.get(dir.toString('hex'));
    const text = Buffer.from(name).toString('latin1');
    const path = parent === undefined ? `?/${text}` : join(parent.path, text);
    const status = await this.#ask('LOOKUP', path, limit);
    if (status !== 0) return { status, handle: null, attributes: null };
    if (parent === undefined) return { status: 70, handle: null, attributes: null };
    if (parent.type !== NF3DIR) return { status: 20, handle: null, attributes: null };
    const node = parent.children.get(text);
    if (node === undefined) return { status: 2, handle: null, attributes: null };
    return { status: 0, handle: node.handle, attributes: this.givesAttributes ? attributesOf(node) : null };
  }

  async getattr(handle: FileHandle, limit: CallLimit): Promise<AttributesReply> {
    return this.#onHandle('GETATTR', handle, limit);
  }

  async readlink(handle: FileHandle, limit: CallLimit): Promise<ReadlinkReply> {
    const { status, node } = await this.#reach('READLINK', handle, limit);
    return { status, target: node === null || status !== 0 ? null : pathBytes(node.target) };
  }

  async commit(
    handle: FileHandle,
    _offsetHigh: number,
    _offsetLow: number,
    count: number,
    limit: CallLimit,
  ): Promise<AttributesReply> {
    return this.#onHandle('COMMIT', handle, limit, count);
  }

  async readdirplus(dir: FileHandle, cursor: DirectoryCursor, limit: CallLimit): Promise<DirectoryPage> {
    return this.#page('READDIRPLUS', dir, cursor, limit);
  }

  async readdir(dir: FileHandle, cursor: DirectoryCursor, limit: CallLimit): Promise<DirectoryPage> {
    return this.#page('READDIR', dir, cursor, limit);
  }

  async remount(limit: CallLimit): Promise<FileHandle> {
    await this.#ask('REMOUNT', '', limit);
    return this.#root.handle;
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  async #page(
    procedure: 'READDIRPLUS' | 'READDIR',
    dir: FileHandle,
    cursor: DirectoryCursor,
    limit: CallLimit,
  ): Promise<DirectoryPage> {
    const { status, node } = await this.#reach(procedure, dir, limit, 0, cursor);
    if (status !== 0 || node === null) return { status, entries: [], next: null };
    const plus = procedure === 'READDIRPLUS';
    const all = [...node.children].map(([name, child]): DirectoryEntry => {
      return {
        name: Buffer.from(name, 'latin1'),
        fileid: '1',
        handle: plus && this.givesHandles ? child.handle : null,
        attributes: plus && this.givesAttributes ? attributesOf(child) : null,
      };
    });
    const dots = ['.', '..'].map((name) => ({
      name: Buffer.from(name),
      fileid: '1',
      handle: null,
      attributes: null,
    }));
    const from = cursor.cookieLow;
    const entries = [...dots, ...all].slice(from, from + this.pageEntries);
    const end = from + entries.length;
    const next = end >= all.length + 2 ? null : { cookieHigh: 0, cookieLow: end, verifier: Buffer.alloc(8) };
    return { status: 0, entries, next };
  }

  async #onHandle(
    procedure: Procedure,
    handle: FileHandle,
    limit: CallLimit,
    count = 0,
  ): Promise<AttributesReply> {
    const { status, node } = await this.#reach(procedure, handle, limit, count);
    return { status, attributes: status === 0 && node !== null ? attributesOf(node) : null };
  }

  async #reach(
    procedure: Procedure,
    handle: FileHandle,
    limit: CallLimit,
    count = 0,
    cursor: DirectoryCursor | null = null,
  ): Promise<{ status: number; node: Node | null }> {
    const key = handle.toString('hex');
    const status = await this.#ask(procedure, this.#nodes.get(key)?.path ?? '?', limit, count, cursor);
    const node = this.#nodes.get(key) ?? null;
    return { status: status === 0 && node === null ? 70 : status, node };
  }

  async #ask(
    procedure: Procedure,
    path: string,
    limit: CallLimit,
    count = 0,
    cursor: DirectoryCursor | null = null,
  ): Promise<number> {
    const call = { procedure, path, count, cursor };
    this.calls.push(call);
    await new Promise((resolve) => setImmediate(resolve));
    const answer = await this.answer(call);
    if (limit.signal?.aborted) throw new NfsError('ABORTED', `${procedure}: aborted`);
    if (answer === undefined) return 0;
    if (typeof answer === 'number') return answer;
    if (answer !== 'hang') throw answer;
    this.hanging++;
    try {
      await untilLimit(limit);
    } finally {
      this.hanging--;
    }
    throw new NfsError(limit.signal?.aborted ? 'ABORTED' : 'DEADLINE', `${procedure}: no answer`);
  }

  #add(path: string, type: number): Node {
    let node = this.#root;
    const names = path.split('/').filter((name) => name !== '');
    names.forEach((text, i) => {
      const name = pathBytes(text).toString('latin1');
      let child = node.children.get(name);
      if (child === undefined) {
        child = this.#node(i === names.length - 1 ? type : NF3DIR, join(node.path, name));
        node.children.set(name, child);
      }
      node = child;
    });
    return node;
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of path.split('/').filter((part) => part !== '')) node = node?.children.get(name);
    return node;
  }

  #node(type: number, path: string): Node {
    const node: Node = { type, path, handle: Buffer.alloc(0), children: new Map(), target: '' };
    node.handle = this.#handle(node);
    return node;
  }

  #handle(node: Node): FileHandle {
    const handle = Buffer.from(`${this.#epoch}-${this.#handles++}`);
    this.#nodes.set(handle.toString('hex'), node);
    return handle;
  }

  #forget(node: Node): void {
    this.#nodes.delete(node.handle.toString('hex'));
    for (const child of node.children.values()) this.#forget(child);
  }
}

function untilLimit(limit: CallLimit): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, Math.max(0, Math.min(limit.deadlineAt - Date.now(), 0x7fffffff)));
    function done(): void {
      clearTimeout(timer);
      limit.signal?.removeEventListener('abort', done);
      resolve();
    }
    limit.signal?.addEventListener('abort', done);
  });
}

function join(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}

function attributesOf(node: Node) {
  return { type: node.type, size: 10 + node.path.length, mtimeMs: 1_700_000_000_000, fileid: '1' };
}
