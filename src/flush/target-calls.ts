import type { Phase } from '../model/words.js';
import type { FileBrief, FileHandle } from '../nfs/nfs3.js';
import type { DirectoryCursor, DirectoryPage } from '../nfs/nfs3-procedures.js';
import type { CallLimit } from '../nfs/target.js';
import { type Fault, thrownFault } from './fault.js';

/** What a flush asks of a mounted export; `NfsExport` is one. */
export interface ExportCalls {
  readonly root: FileHandle;
  /** Connections open now, where there are any. */
  readonly connections?: number;
  lookup(dir: FileHandle, name: Uint8Array, limit: CallLimit): Promise<LookupReply>;
  getattr(handle: FileHandle, limit: CallLimit): Promise<AttributesReply>;
  readlink(handle: FileHandle, limit: CallLimit): Promise<ReadlinkReply>;
  readdirplus(dir: FileHandle, cursor: DirectoryCursor, limit: CallLimit): Promise<DirectoryPage>;
  readdir(dir: FileHandle, cursor: DirectoryCursor, limit: CallLimit): Promise<DirectoryPage>;
  commit(
    handle: FileHandle,
    offsetHigh: number,
    offsetLow: number,
    count: number,
    limit: CallLimit,
  ): Promise<CommitReply>;
  /** A new root handle, after the old one became stale. */
  remount(limit: CallLimit): Promise<FileHandle>;
  close(): Promise<void>;
}

/** What a flush wants to know of a file. */
export type FileAttributes = Pick<FileBrief, 'type' | 'size' | 'mtimeMs'>;

export interface AttributesReply {
  status: number;
  attributes: FileAttributes | null;
}
export interface CommitReply extends AttributesReply {
  /** The call was sent more than once, so that an earlier one may have been carried out as well. */
  resent?: boolean;
}
export interface LookupReply extends AttributesReply {
  handle: FileHandle | null;
}
export interface ReadlinkReply {
  status: number;
  target: Buffer | null;
}

/** The calls on one mounted export: counts them, notes when one was answered, and turns what they throw into faults. */
export class TargetCalls {
  readonly nfs: ExportCalls;
  /** Calls made. */
  calls = 0;
  /** Date.now() of the newest answer; 0: none yet. */
  answeredAt = 0;

  constructor(nfs: ExportCalls) {
    this.nfs = nfs;
  }

  async lookup(dir: FileHandle, name: Uint8Array, limit: CallLimit): Promise<LookupReply | Fault> {
    this.calls++;
    try {
      const reply = await this.nfs.lookup(dir, name, limit);
      this.answeredAt = Date.now();
      return reply;
    } catch (thrown) {
      return thrownFault(thrown, 'resolve');
    }
  }

  async getattr(handle: FileHandle, limit: CallLimit): Promise<AttributesReply | Fault> {
    this.calls++;
    try {
      const reply = await this.nfs.getattr(handle, limit);
      this.answeredAt = Date.now();
      return reply;
    } catch (thrown) {
      return thrownFault(thrown, 'resolve');
    }
  }

  async readlink(handle: FileHandle, limit: CallLimit): Promise<ReadlinkReply | Fault> {
    this.calls++;
    try {
      const reply = await this.nfs.readlink(handle, limit);
      this.answeredAt = Date.now();
      return reply;
    } catch (thrown) {
      return thrownFault(thrown, 'resolve');
    }
  }

  /** One page of a directory, with handles and attributes if `plus`. */
  async page(
    dir: FileHandle,
    cursor: DirectoryCursor,
    plus: boolean,
    limit: CallLimit,
  ): Promise<DirectoryPage | Fault> {
    this.calls++;
    try {
      const page = plus
        ? await this.nfs.readdirplus(dir, cursor, limit)
        : await this.nfs.readdir(dir, cursor, limit);
      this.answeredAt = Date.now();
      return page;
    } catch (thrown) {
      return thrownFault(thrown, 'expand');
    }
  }

  async commit(
    handle: FileHandle,
    offsetHigh: number,
    offsetLow: number,
    count: number,
    limit: CallLimit,
    phase: Phase,
  ): Promise<CommitReply | Fault> {
    this.calls++;
    try {
      const reply = await this.nfs.commit(handle, offsetHigh, offsetLow, count, limit);
      this.answeredAt = Date.now();
      return reply;
    } catch (thrown) {
      return thrownFault(thrown, phase);
    }
  }

  async remount(limit: CallLimit): Promise<FileHandle | Fault> {
    this.calls++;
    try {
      const root = await this.nfs.remount(limit);
      this.answeredAt = Date.now();
      return root;
    } catch (thrown) {
      return thrownFault(thrown, 'mount');
    }
  }
}
