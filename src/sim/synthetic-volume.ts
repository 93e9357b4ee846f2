import { NF3DIR, NF3REG } from '../nfs/nfs3.js';
import { nameHash } from './handles.js';
import type { Attributes, DirectoryEntry, Located, Space, Volume } from './volume.js';

/**
 * An export without folders behind it, for measuring the throughput of what asks: one directory with `count`
 * empty-headed files `file-0000000`, `file-0000001`, … that are dirty at first. Nothing is ever moved: a flush
 * waits its latency and sets a flag.
 */

const LAYOUT = 2;
const HANDLE_BYTES = 12;
const ROOT_INDEX = 0xffffffff;
const NAME = /^file-(\d{7,8})$/;
const FIRST_COOKIE = 3;
const FILE_BYTES = 4096;

export class SyntheticVolume implements Volume {
  readonly exportPath: string;
  readonly volumeId: number;
  readonly count: number;
  readonly #clean: Uint8Array;
  readonly #startedAt = Math.floor(Date.now() / 1000);
  readonly #root: Located;

  constructor(exportPath: string, count: number) {
    this.exportPath = exportPath;
    this.volumeId = nameHash(Buffer.from(exportPath));
    this.count = count;
    this.#clean = new Uint8Array(count);
    this.#root = this.#locate(ROOT_INDEX);
  }

  root(): Located {
    return this.#root;
  }

  find(handle: Uint8Array): Located | null {
    if (handle.length !== HANDLE_BYTES || handle[0] !== LAYOUT) return null;
    const index = Buffer.from(handle.buffer, handle.byteOffset, handle.length).readUInt32BE(8);
    if (index === ROOT_INDEX) return this.#root;
    return index < this.count ? this.#locate(index) : null;
  }

  lookup(directory: Located, name: Buffer): Located | null {
    if (directory !== this.#root) return null;
    const match = NAME.exec(name.toString('latin1'));
    const index = match === null ? Number.NaN : Number(match[1]);
    return index < this.count && name.equals(nameOf(index)) ? this.#locate(index) : null;
  }

  parent(): Located {
    return this.#root;
  }

  *entries(directory: Located, after: number): Generator<DirectoryEntry> {
    if (directory !== this.#root) return;
    for (let index = Math.max(0, after - FIRST_COOKIE + 1); index < this.count; index++) {
      yield { name: nameOf(index), cookie: index + FIRST_COOKIE };
    }
  }

  readlink(): Buffer {
    throw Object.assign(new Error('there are no links here'), { code: 'EINVAL' });
  }

  async read(file: Located, offset: number, count: number): Promise<Buffer> {
    return Buffer.alloc(Math.max(0, Math.min(count, file.attributes.size - offset)));
  }

  async sync(): Promise<void> {}

  isDirty(file: Located): boolean {
    return this.#clean[indexOf(file)] === 0;
  }

  async writeBack(file: Located, visible: Promise<void>): Promise<number> {
    await visible;
    this.#clean[indexOf(file)] = 1;
    return 0;
  }

  space(): Space {
    const totalBytes = this.count * FILE_BYTES;
    return { totalBytes, freeBytes: 0, availableBytes: 0, totalFiles: this.count + 1, freeFiles: 0 };
  }

  #locate(index: number): Located {
    const handle = Buffer.alloc(HANDLE_BYTES);
    handle[0] = LAYOUT;
    handle.writeUInt32BE(this.volumeId, 4);
    handle.writeUInt32BE(index, 8);
    return {
      handle,
      key: handle.toString('latin1'),
      path: index === ROOT_INDEX ? Buffer.alloc(0) : nameOf(index),
      attributes: this.#attributes(index),
    };
  }

  #attributes(index: number): Attributes {
    const isRoot = index === ROOT_INDEX;
    const time = { seconds: this.#startedAt, nanoseconds: 0 };
    return {
      type: isRoot ? NF3DIR : NF3REG,
      mode: isRoot ? 0o755 : 0o644,
      nlink: isRoot ? 2 : 1,
      uid: 0,
      gid: 0,
      size: FILE_BYTES,
      used: FILE_BYTES,
      rdev: { major: 0, minor: 0 },
      fsid: { high: 0, low: this.volumeId },
      fileid: { high: 0, low: isRoot ? 1 : index + 2 },
      atime: time,
      mtime: time,
      ctime: time,
    };
  }
}

function nameOf(index: number): Buffer {
  return Buffer.from(`file-${String(index).padStart(7, '0')}`, 'latin1');
}

function indexOf(file: Located): number {
  return file.handle.readUInt32BE(8);
}
