import type { PendingCall } from './lane.js';

/** Calls that wait for a place, first come, first served; those that were sent before go to the front again. */
export class CallQueue {
  #calls: (PendingCall | undefined)[] = [];
  #head = 0;

  /** May count calls that are done meanwhile; 0 is exact. */
  get length(): number {
    return this.#calls.length - this.#head;
  }

  push(call: PendingCall): void {
    this.#calls.push(call);
  }

  /** Puts calls back in front, in their order. */
  unshift(calls: readonly PendingCall[]): void {
    this.#calls = [...calls, ...this.#calls.slice(this.#head)];
    this.#head = 0;
  }

  /** The first call that is not done, left in its place. */
  peek(): PendingCall | undefined {
    while (this.#head < this.#calls.length) {
      const call = this.#calls[this.#head] as PendingCall;
      if (!call.done) return call;
      this.#drop();
    }
    return undefined;
  }

  shift(): PendingCall | undefined {
    const call = this.peek();
    if (call !== undefined) this.#drop();
    return call;
  }

  /** Forgets calls that are done, wherever they stand, and gives the others in order. */
  live(): readonly PendingCall[] {
    const calls = this.#calls.slice(this.#head).filter((call) => !(call as PendingCall).done);
    this.#calls = calls;
    this.#head = 0;
    return calls as PendingCall[];
  }

  #drop(): void {
    this.#calls[this.#head++] = undefined;
    if (this.#head === this.#calls.length) {
      this.#calls = [];
      this.#head = 0;
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#calls.length) {
      this.#calls.splice(0, this.#head);
      this.#head = 0;
    }
  }
}
