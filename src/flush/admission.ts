import { Alarm, type TimerWheel } from './timer-wheel.js';

/** A file that wants to begin its flush. */
export interface Candidate {
  /** Whose file it is: those who wait take turns. */
  readonly run: object;
  /** It has a slot now, and must give it back with `leave`. */
  admitted(): void;
}

/** Gives out flush starts where the rate is limited elsewhere, for all processes together. */
export type StartSource = (wanted: number) => Promise<{
  /** Flushes that may begin now, 0 to `wanted`. */
  granted: number;
  /** When to ask again, if fewer were granted than asked. */
  waitMs: number;
}>;

/** How long to wait before a start source that failed is asked again. */
const SOURCE_RETRY_MS = 1000;
/** The bucket holds this much of a second's starts, and at least one. */
const BURST_SECONDS = 0.25;

/**
 * Lets flushes begin: as many at a time as there are slots, and no more per second than allowed. The runs of a session
 * take turns, a file each, so that who has many files waiting does not keep who has few; within a run it is first come
 * first served. Both limits may change at any time; lowering them ends nothing that has begun.
 */
export class Admission extends Alarm {
  outstanding = 0;
  maxOutstanding = 0;
  readonly #wheel: TimerWheel;
  #source: StartSource | null;
  /** By run; the one whose turn it is stands first. None is empty. */
  readonly #queues = new Map<object, Set<Candidate>>();
  #waiting = 0;
  #slots: number;
  #perSecond: number | null;
  /** Starts that may be used now. */
  #starts = 1;
  #refilledAt = performance.now();
  #asking = false;

  constructor(wheel: TimerWheel, slots: number, perSecond: number | null, source: StartSource | null) {
    super();
    this.#wheel = wheel;
    this.#slots = slots;
    this.#perSecond = perSecond;
    this.#source = source;
    if (source !== null) this.#starts = 0;
  }

  get slots(): number {
    return this.#slots;
  }

  set slots(slots: number) {
    this.#slots = slots;
    this.#admit();
  }

  get perSecond(): number | null {
    return this.#perSecond;
  }

  set perSecond(perSecond: number | null) {
    this.#refill();
    this.#perSecond = perSecond;
    this.#admit();
  }

  /** Null: starts are limited by `perSecond` alone. */
  set source(source: StartSource | null) {
    this.#source = source;
    this.#starts = 0;
    this.#refilledAt = performance.now();
    this.#admit();
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** True: it has a slot, and `admitted` is not called. False: it waits for `admitted`. */
  enter(candidate: Candidate): boolean {
    if (this.#waiting === 0 && this.outstanding < this.#slots && this.#takeStart()) {
      this.#occupy();
      return true;
    }
    const queue = this.#queues.get(candidate.run);
    if (queue === undefined) this.#queues.set(candidate.run, new Set([candidate]));
    else queue.add(candidate);
    this.#waiting++;
    this.#admit();
    return false;
  }

  /** It no longer waits. */
  withdraw(candidate: Candidate): void {
    const queue = this.#queues.get(candidate.run);
    if (!queue?.delete(candidate)) return;
    this.#waiting--;
    if (queue.size === 0) this.#queues.delete(candidate.run);
    if (this.#waiting === 0) this.#wheel.clear(this);
  }

  leave(): void {
    this.outstanding--;
    if (this.#waiting > 0) this.#admit();
  }

  override ring(): void {
    this.#admit();
  }

  #occupy(): void {
    this.outstanding++;
    if (this.outstanding > this.maxOutstanding) this.maxOutstanding = this.outstanding;
  }

  #admit(): void {
    while (this.#waiting > 0) {
      if (this.outstanding >= this.#slots) return;
      if (!this.#takeStart()) {
        this.#waitForStarts();
        return;
      }
      const next = this.#next();
      this.#occupy();
      next.admitted();
    }
    this.#wheel.clear(this);
  }

  /** Takes the one whose turn it is; its run is last now. */
  #next(): Candidate {
    const [run, queue] = this.#queues.entries().next().value as [object, Set<Candidate>];
    const candidate = queue.values().next().value as Candidate;
    queue.delete(candidate);
    this.#waiting--;
    // One that is alone stays where it is: this runs for each file.
    if (queue.size === 0 || this.#queues.size > 1) this.#queues.delete(run);
    if (queue.size > 0) this.#queues.set(run, queue);
    return candidate;
  }

  #takeStart(): boolean {
    if (this.#source === null) {
      if (this.#perSecond === null) return true;
      if (this.#starts < 1) this.#refill();
    }
    if (this.#starts < 1) return false;
    this.#starts--;
    return true;
  }

  #refill(): void {
    const now = performance.now();
    if (this.#source === null && this.#perSecond !== null) {
      const most = Math.max(1, this.#perSecond * BURST_SECONDS);
      const gained = ((now - this.#refilledAt) / 1000) * this.#perSecond;
      this.#starts = Math.min(most, this.#starts + gained);
    }
    this.#refilledAt = now;
  }

  #waitForStarts(): void {
    if (this.#source === null) {
      this.#wheel.set(this, ((1 - this.#starts) / (this.#perSecond ?? 1)) * 1000);
      return;
    }
    if (this.#asking || this.dueTick >= 0) return;
    this.#asking = true;
    const wanted = Math.min(this.#waiting, this.#slots - this.outstanding);
    this.#source(wanted).then(
      ({ granted, waitMs }) => {
        this.#asking = false;
        this.#starts += granted;
        if (this.#waiting === 0) return;
        if (granted === 0) this.#wheel.set(this, Math.max(1, waitMs));
        else this.#admit();
      },
      () => {
        this.#asking = false;
        if (this.#waiting > 0) this.#wheel.set(this, SOURCE_RETRY_MS);
      },
    );
  }
}
