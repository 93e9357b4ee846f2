/** Something that can be woken by a wheel. It is its own node in the wheel's lists: a waiting file allocates nothing. */
export abstract class Alarm {
  /** Tick at which it is due; -1 while it is not in a wheel. */
  dueTick = -1;
  previousAlarm: Alarm | null = null;
  nextAlarm: Alarm | null = null;

  /** Called once per `set`, never from within it. Must not throw. */
  abstract ring(): void;
}

const TICK_MS = 10;
/** About 5 s: the longest of the usual waits lies within one turn. */
const SLOTS = 512;
const LONGEST_MS = 0x7fff_ffff;

/**
 * One timer for everything that waits: a hashed timing wheel with ticks of 10 ms. Due times are rounded up, so
 * nothing rings early. The one Node timer runs only while something waits, and is set for the next slot in use.
 */
export class TimerWheel {
  readonly #slots: (Alarm | null)[] = new Array<Alarm | null>(SLOTS).fill(null);
  #waiting = 0;
  /** Every tick up to this one has been dealt with. */
  #tick = 0;
  readonly #origin = performance.now();
  #timer: NodeJS.Timeout | null = null;
  #timerTick = 0;
  #advancing = false;

  get waiting(): number {
    return this.#waiting;
  }

  /** Rings `alarm` after `delayMs`. An alarm that is set already is moved. */
  set(alarm: Alarm, delayMs: number): void {
    if (alarm.dueTick >= 0) this.clear(alarm);
    const now = performance.now() - this.#origin;
    // With nothing waiting, no tick needs to be dealt with: a long pause costs no walk over empty slots.
    if (this.#waiting === 0 && !this.#advancing) this.#tick = Math.floor(now / TICK_MS);
    alarm.dueTick = Math.max(this.#tick + 1, Math.ceil((now + delayMs) / TICK_MS));
    const slot = alarm.dueTick % SLOTS;
    const head = this.#slots[slot] ?? null;
    alarm.previousAlarm = null;
    alarm.nextAlarm = head;
    if (head !== null) head.previousAlarm = alarm;
    this.#slots[slot] = alarm;
    this.#waiting++;
    if (!this.#advancing) this.#arm(alarm.dueTick);
  }

  /** Takes `alarm` out, if it is in: it will not ring. */
  clear(alarm: Alarm): void {
    if (alarm.dueTick < 0) return;
    if (alarm.previousAlarm === null) this.#slots[alarm.dueTick % SLOTS] = alarm.nextAlarm;
    else alarm.previousAlarm.nextAlarm = alarm.nextAlarm;
    if (alarm.nextAlarm !== null) alarm.nextAlarm.previousAlarm = alarm.previousAlarm;
    alarm.previousAlarm = null;
    alarm.nextAlarm = null;
    alarm.dueTick = -1;
    this.#waiting--;
    if (this.#waiting === 0) this.#disarm();
  }

  #arm(tick: number): void {
    if (this.#timer !== null) {
      if (this.#timerTick <= tick) return;
      clearTimeout(this.#timer);
    }
    this.#timerTick = tick;
    const delayMs = tick * TICK_MS - (performance.now() - this.#origin);
    // Node takes a delay of more than 2^31 ms for one of 1 ms.
    this.#timer = setTimeout(() => this.#advance(), Math.max(1, Math.min(Math.ceil(delayMs), LONGEST_MS)));
  }

  #disarm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #advance(): void {
    this.#timer = null;
    this.#advancing = true;
    const nowTick = Math.floor((performance.now() - this.#origin) / TICK_MS);
    // After a pause longer than a turn every slot is looked at once, which finds all that is due.
    let tick = Math.max(this.#tick, nowTick - SLOTS);
    this.#tick = nowTick;
    while (tick < nowTick && this.#waiting > 0) {
      tick++;
      let alarm = this.#slots[tick % SLOTS] ?? null;
      while (alarm !== null) {
        // Ringing may clear or set any alarm, this one's neighbour too: the walk starts anew after it.
        if (alarm.dueTick <= nowTick) {
          this.clear(alarm);
          alarm.ring();
          alarm = this.#slots[tick % SLOTS] ?? null;
        } else {
          alarm = alarm.nextAlarm;
        }
      }
    }
    this.#advancing = false;
    if (this.#waiting > 0) this.#arm(this.#nextTick(nowTick));
  }

  /** The next tick whose slot is in use. It may hold only alarms of a later turn: then it is a wake-up for nothing. */
  #nextTick(after: number): number {
    for (let tick = after + 1; tick < after + SLOTS; tick++) {
      if (this.#slots[tick % SLOTS] !== null) return tick;
    }
    return after + SLOTS;
  }
}
