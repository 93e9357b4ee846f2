/** Verifiers remembered per address; behind one address there may be several nodes. */
const MAX_VERIFIERS = 16;

/** The write verifiers that each address has given (RFC 1813 §3.3.21), the newest of them. */
export class WriteVerifiers {
  readonly #known = new Map<string, Set<string>>();

  /** Notes one; true if the address has given others before, and never this one. */
  isAnother(address: string, verifier: string): boolean {
    const known = this.#known.get(address);
    if (known === undefined) {
      this.#known.set(address, new Set([verifier]));
      return false;
    }
    if (known.has(verifier)) return false;
    for (const oldest of known) {
      if (known.size < MAX_VERIFIERS) break;
      known.delete(oldest);
    }
    known.add(verifier);
    return true;
  }
}
