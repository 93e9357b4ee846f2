import { type CommitReply, NfsClient } from './client.js';
import type { Endpoint } from './endpoint.js';
import { isDefinite, NfsError } from './errors.js';
import { mountExport, unmountExport } from './mounting.js';
import { type FileHandle, NFS3ERR_NOTSUPP } from './nfs3.js';
import {
  ACCESS,
  type AccessResult,
  COMMIT,
  type DirectoryCursor,
  type DirectoryPage,
  FSINFO,
  type FsinfoResult,
  GETATTR,
  type GetattrResult,
  LOOKUP,
  type LookupResult,
  READDIR,
  READDIRPLUS,
  READLINK,
  type ReadlinkResult,
} from './nfs3-procedures.js';
import { RpcRefused } from './refusal.js';
import type { CallLimit, NfsEvents, NfsTarget } from './target.js';

export { NfsError, type NfsErrorCode } from './errors.js';
export type { Fattr, FileBrief, FileHandle } from './nfs3.js';
export {
  type AccessResult,
  type DirectoryCursor,
  type DirectoryEntry,
  type DirectoryPage,
  type FsinfoResult,
  type GetattrResult,
  type LookupResult,
  type ReadlinkResult,
  START_OF_DIRECTORY,
} from './nfs3-procedures.js';
export type { CallLimit, NfsEvents, NfsTarget } from './target.js';

/** Bytes of one directory page that are asked for: some hundred entries with handle and attributes. */
const PAGE_BYTES = 65_536;

/**
 * A mounted export. NFS statuses come back as numbers, also unknown ones; what is no status is thrown as
 * {@link NfsError}. While the server is away calls wait, are sent again when it is back, and end by their own
 * deadline or signal; the events tell. Handles and buffers that come back are the caller's own.
 */
export class NfsExport {
  readonly #target: NfsTarget;
  readonly #path: Uint8Array;
  readonly #events: NfsEvents;
  readonly #client: NfsClient;
  #mountEndpoint: Endpoint;
  #root: FileHandle;
  #closed = false;

  private constructor(
    target: NfsTarget,
    path: Uint8Array,
    events: NfsEvents,
    root: FileHandle,
    mountEndpoint: Endpoint,
  ) {
    this.#target = target;
    this.#path = path;
    this.#events = events;
    this.#root = root;
    this.#mountEndpoint = mountEndpoint;
    this.#client = new NfsClient(target, events);
  }

  /**
   * Mounts `exportPath` (text is sent as UTF-8) and makes sure that the NFS service answers.
   * @throws {NfsError} EXPORT_NOT_FOUND (the message lists the exports), MOUNT_REFUSED, AUTH_REFUSED,
   *   PROGRAM_UNAVAILABLE at once; UNREACHABLE, NAME_NOT_RESOLVED, NOT_REGISTERED when that is still so at the
   *   deadline; ABORTED
   */
  static async mount(
    target: NfsTarget,
    exportPath: string | Uint8Array,
    limit: CallLimit,
    events: NfsEvents = {},
  ): Promise<NfsExport> {
    const path = typeof exportPath === 'string' ? Buffer.from(exportPath, 'utf8') : exportPath;
    const { root, endpoint } = await mountExport(target, path, limit, events);
    // A target that answers the mount but will never answer NFS calls is told at once, not at the deadline.
    const refused = new AbortController();
    const watched: NfsEvents = {
      down: (error) => {
        if (isDefinite(error)) refused.abort(error);
        events.down?.(error);
      },
      up: (address) => events.up?.(address),
      serverRestarted: (address) => events.serverRestarted?.(address),
      warning: (message) => events.warning?.(message),
      ...(events.replied && { replied: events.replied.bind(events) }),
    };
    const mounted = new NfsExport(target, path, watched, root, endpoint);
    const signals = limit.signal === undefined ? [refused.signal] : [limit.signal, refused.signal];
    try {
      await mounted.getattr(root, { deadlineAt: limit.deadlineAt, signal: AbortSignal.any(signals) });
    } catch (error) {
      await mounted.close();
      throw error instanceof NfsError && error.cause instanceof NfsError ? error.cause : error;
    }
    return mounted;
  }

  /** The handle of the export's top directory; another one after {@link remount}. */
  get root(): FileHandle {
    return this.#root;
  }

  /** Connections to its addresses that calls can be sent on now. */
  get connections(): number {
    return this.#client.connections;
  }

  /** The entry `name` of a directory. `attributes` may be null where the server does not give them. */
  lookup(dir: FileHandle, name: Uint8Array, limit: CallLimit): Promise<LookupResult> {
    return this.#client.call(LOOKUP, { dir, name }, limit);
  }

  getattr(handle: FileHandle, limit: CallLimit): Promise<GetattrResult> {
    return this.#client.call(GETATTR, { handle }, limit);
  }

  readlink(handle: FileHandle, limit: CallLimit): Promise<ReadlinkResult> {
    return this.#client.call(READLINK, { handle }, limit);
  }

  /** @param access ACCESS3_* bits to ask for */
  access(handle: FileHandle, access: number, limit: CallLimit): Promise<AccessResult> {
    return this.#client.call(ACCESS, { handle, access }, limit);
  }

  fsinfo(handle: FileHandle, limit: CallLimit): Promise<FsinfoResult> {
    return this.#client.call(FSINFO, { handle }, limit);
  }

  /**
   * One page of a directory, with handles and attributes where the server gives them. Begin with
   * START_OF_DIRECTORY, go on with `next` until it is null. A server without the procedure: NFS3ERR_NOTSUPP.
   * @throws {NfsError} PROTOCOL_ERROR if the server's cookie does not advance
   */
  async readdirplus(dir: FileHandle, cursor: DirectoryCursor, limit: CallLimit): Promise<DirectoryPage> {
    try {
      return advancing(
        'READDIRPLUS',
        cursor,
        await this.#client.call(READDIRPLUS, { dir, cursor, maxBytes: PAGE_BYTES }, limit),
      );
    } catch (error) {
      if (error instanceof RpcRefused && error.failure.kind === 'proc-unavail') {
        return { status: NFS3ERR_NOTSUPP, entries: [], next: null };
      }
      throw error;
    }
  }

  /** As {@link readdirplus}, with names and file ids alone. A cursor of the one is not valid for the other. */
  async readdir(dir: FileHandle, cursor: DirectoryCursor, limit: CallLimit): Promise<DirectoryPage> {
    return advancing(
      'READDIR',
      cursor,
      await this.#client.call(READDIR, { dir, cursor, maxBytes: PAGE_BYTES }, limit),
    );
  }

  /** COMMIT with any offset, as two words, and count: what they mean is the target's dialect. */
  commit(
    handle: FileHandle,
    offsetHigh: number,
    offsetLow: number,
    count: number,
    limit: CallLimit,
  ): Promise<CommitReply> {
    return this.#client.call(COMMIT, { handle, offsetHigh, offsetLow, count }, limit);
  }

  /** Asks for the root handle again, after the old one became stale. Throws as {@link mount} does. */
  async remount(limit: CallLimit): Promise<FileHandle> {
    if (this.#closed) throw new NfsError('CLOSED', 'MOUNT3 MNT: the export was closed by this side.');
    const { root, endpoint } = await mountExport(this.#target, this.#path, limit, this.#events);
    this.#root = root;
    this.#mountEndpoint = endpoint;
    return root;
  }

  /** Ends the connections; calls that wait fail with CLOSED. Tells the server, for at most a second. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const reachable = this.#client.connected;
    this.#client.close();
    if (reachable) await unmountExport(this.#target, this.#path, this.#mountEndpoint);
  }
}

function advancing(name: string, cursor: DirectoryCursor, page: DirectoryPage): DirectoryPage {
  const { next } = page;
  if (next !== null && next.cookieHigh === cursor.cookieHigh && next.cookieLow === cursor.cookieLow) {
    throw new NfsError('PROTOCOL_ERROR', `NFS3 ${name}: the server's cookie does not advance.`);
  }
  return page;
}
