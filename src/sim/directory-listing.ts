import fs from 'node:fs';
import { nameHash } from './handles.js';
import type { DirectoryEntry } from './volume.js';

/**
 * The names of one directory in the order of their hashes. An entry's cookie comes from its name alone, so it
 * stays good whatever else is made or removed in the directory between two pages.
 */
export class DirectoryListing {
  readonly #names: Buffer[];
  readonly #hashes: Uint32Array;

  constructor(names: readonly Buffer[]) {
    const order = names.map((name) => ({ name, hash: nameHash(name) }));
    order.sort((a, b) => a.hash - b.hash || Buffer.compare(a.name, b.name));
    this.#names = order.map((entry) => entry.name);
    this.#hashes = Uint32Array.from(order, (entry) => entry.hash);
  }

  /** @param after a cookie; 0 for all */
  *entriesAfter(after: number): Generator<DirectoryEntry> {
    let i = this.#firstAtOrAbove(Math.max(0, Math.floor(after / SAME_HASH) - FIRST_COOKIE));
    let sameHash = 0;
    for (let previous = -1; i < this.#names.length; i++) {
      const hash = this.#hashes[i] as number;
      sameHash = hash === previous ? sameHash + 1 : 0;
      previous = hash;
      const cookie = (hash + FIRST_COOKIE) * SAME_HASH + sameHash;
      if (cookie > after) yield { name: this.#names[i] as Buffer, cookie };
    }
  }

  /** The names whose hash begins with these 16 bits. */
  namesWithHint(hint: number): Buffer[] {
    const names: Buffer[] = [];
    for (let i = this.#firstAtOrAbove(hint * 0x10000); i < this.#names.length; i++) {
      if ((this.#hashes[i] as number) >>> 16 !== hint) break;
      names.push(this.#names[i] as Buffer);
    }
    return names;
  }

  #firstAtOrAbove(hash: number): number {
    let low = 0;
    let high = this.#hashes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#hashes[middle] as number) < hash) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Cookies fit 53 bits: 32 of hash, 16 to tell names with one hash apart; above those of "." and "..". */
const SAME_HASH = 0x10000;
const FIRST_COOKIE = 1;

const KEPT_LISTINGS = 16;
const REUSED_WITHOUT_LOOKING_MS = 1_000;

interface KeptListing {
  listing: DirectoryListing;
  mtimeNs: bigint;
  readAt: number;
}

/** The listings read last. Paging through a directory that others write to must not read it anew for each page. */
export class ListingCache {
  readonly #kept = new Map<string, KeptListing>();

  /**
   * @param key tells directories apart
   * @param mtimeNs of the directory; another one than before means that it changed
   * @param continuing true while paging: a listing up to a second old is good enough then
   */
  get(key: string, path: Buffer, mtimeNs: bigint, continuing: boolean): DirectoryListing {
    const now = Date.now();
    const kept = this.#kept.get(key);
    // Directory times tick with the kernel's clock: one read within a tick of the change may lack what came later in it.
    const settled =
      kept !== undefined && kept.mtimeNs === mtimeNs && kept.readAt > Number(mtimeNs / 1_000_000n) + 20;
    if (kept && (settled || (continuing && now - kept.readAt < REUSED_WITHOUT_LOOKING_MS))) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return kept.listing;
    }
    const listing = new DirectoryListing(fs.readdirSync(path, { encoding: 'buffer' }));
    this.#kept.delete(key);
    if (this.#kept.size >= KEPT_LISTINGS) {
      const oldest = this.#kept.keys().next();
      if (!oldest.done) this.#kept.delete(oldest.value);
    }
    this.#kept.set(key, { listing, mtimeNs, readAt: now });
    return listing;
  }
}
