import * as crypto from 'node:crypto';

const DIGEST_WORDS = 4;

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
    this.#digests.set([a, b, c, d], this.#size * DIGEST_WORDS);
    this.#indices[this.#size] = index;
    this.#size += 1;
    this.#slots[slot] = this.#size;
    if (this.#size * 2 > this.#slots.length) this.#growSlots();
    return -1;
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
