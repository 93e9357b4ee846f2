import * as crypto from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';

const DIGEST_WORDS = 4;
/** Entries looked at before others have their turn: some milliseconds. */
const SLICE = 1 << 16;
const MAX_BUCKET_BITS = 20;

/**
 * Finds entries of a list that are byte for byte the same, by 128 bits of their SHA-256: a million entries need some
 * 30 MB whatever their length, and an accidental or forged clash is out of reach. An open-addressing table in typed
 * arrays, because a Map of a million strings costs hundreds of megabytes.
 */
export class Duplicates {
  /** Entry number + 1 by slot; 0 is a free slot. */
  #slots = new Uint32Array(1024);
  #digests = new Uint32Array(512 * DIGEST_WORDS);
  #size = 0;
  /** Entries that were no duplicates, in order: slot values point here, and this to the caller's index. */
  #indices = new Uint32Array(512);

  get size(): number {
    return this.#size;
  }

  /** @returns the index of the first entry with the same bytes, or -1 if this is the first (it is then remembered) */
  add(bytes: Uint8Array, index: number): number {
    const digest = crypto.hash('sha256', bytes, 'buffer');
    const a = digest.readUInt32LE(0);
    const b = digest.readUInt32LE(4);
    const c = digest.readUInt32LE(8);
    const d = digest.readUInt32LE(12);
    const mask = this.#slots.length - 1;
    let slot = a & mask;
    for (;;) {
      const entry = this.#slots[slot] as number;
      if (entry === 0) break;
      const at = (entry - 1) * DIGEST_WORDS;
      const digests = this.#digests;
      if (digests[at] === a && digests[at + 1] === b && digests[at + 2] === c && digests[at + 3] === d)
        return this.#indices[entry - 1] as number;
      slot = (slot + 1) & mask;
    }
    if (this.#size === this.#indices.length) this.#growEntries();
    const at = this.#size * DIGEST_WORDS;
    this.#digests[at] = a;
    this.#digests[at + 1] = b;
    this.#digests[at + 2] = c;
    this.#digests[at + 3] = d;
    this.#indices[this.#size] = index;
    this.#size += 1;
    this.#slots[slot] = this.#size;
    if (this.#size * 2 > this.#slots.length) this.#growSlots();
    return -1;
  }

  /**
   * One digest of all entries, whatever their order. Over the sorted digests, because a sum of them could be hit on
   * purpose: with a million entries to choose, other lists with the same 128-bit sum are cheap to find.
   */
  async digestOfSet(): Promise<Buffer> {
    const order = await this.#sorted();
    const hash = crypto.createHash('sha256');
    const block = new Uint32Array(Math.min(SLICE, this.#size) * DIGEST_WORDS);
    for (let start = 0; start < order.length; start += SLICE) {
      const entries = order.subarray(start, start + SLICE);
      entries.forEach((entry, i) => {
        const at = entry * DIGEST_WORDS;
        for (let word = 0; word < DIGEST_WORDS; word++)
          block[i * DIGEST_WORDS + word] = this.#digests[at + word] as number;
      });
      hash.update(new Uint8Array(block.buffer, 0, entries.length * DIGEST_WORDS * 4));
      if (entries.length === SLICE) await nextTurn();
    }
    return hash.digest();
  }

  /** Entries by digest: put into buckets by its first bits, of which each holds some four, then moved into place. */
  async #sorted(): Promise<Uint32Array> {
    const size = this.#size;
    const bits = Math.min(MAX_BUCKET_BITS, Math.max(1, Math.ceil(Math.log2(size / 4 + 1))));
    const bucketOf = (entry: number) => (this.#digests[entry * DIGEST_WORDS] as number) >>> (32 - bits);
    const next = new Uint32Array((1 << bits) + 1);
    for (let entry = 0; entry < size; entry++) {
      const bucket = bucketOf(entry) + 1;
      next[bucket] = (next[bucket] as number) + 1;
      if (entry % SLICE === SLICE - 1) await nextTurn();
    }
    for (let bucket = 1; bucket < next.length; bucket++)
      next[bucket] = (next[bucket] as number) + (next[bucket - 1] as number);
    const order = new Uint32Array(size);
    for (let entry = 0; entry < size; entry++) {
      const bucket = bucketOf(entry);
      order[next[bucket] as number] = entry;
      next[bucket] = (next[bucket] as number) + 1;
      if (entry % SLICE === SLICE - 1) await nextTurn();
    }
    for (let i = 1; i < size; i++) {
      const entry = order[i] as number;
      let to = i;
      for (; to > 0 && this.#compare(order[to - 1] as number, entry) > 0; to--)
        order[to] = order[to - 1] as number;
      order[to] = entry;
      if (i % SLICE === 0) await nextTurn();
    }
    return order;
  }

  #compare(one: number, other: number): number {
    for (let word = 0; word < DIGEST_WORDS; word++) {
      const difference =
        (this.#digests[one * DIGEST_WORDS + word] as number) -
        (this.#digests[other * DIGEST_WORDS + word] as number);
      if (difference !== 0) return difference;
    }
    return 0;
  }

  #growEntries(): void {
    const indices = new Uint32Array(this.#indices.length * 2);
    indices.set(this.#indices);
    this.#indices = indices;
    const digests = new Uint32Array(this.#digests.length * 2);
    digests.set(this.#digests);
    this.#digests = digests;
  }

  #growSlots(): void {
    const slots = new Uint32Array(this.#slots.length * 2);
    const mask = slots.length - 1;
    for (let entry = 1; entry <= this.#size; entry++) {
      let slot = (this.#digests[(entry - 1) * DIGEST_WORDS] as number) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = entry;
    }
    this.#slots = slots;
  }
}
