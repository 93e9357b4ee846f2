import { type Clock, systemClock } from './clock.js';

/**
 * A burst is at most this part of a second of the rate, and what was not used is kept for `SAVED_SECONDS`. Their
 * sum bounds what any window of time can see above the rate: 0.2 s is 4 % of 5 s. The savings make up for storage
 * and timers that answer late; more of them would let more through at once.
 */
const BURST_SECONDS = 0.05;
const SAVED_SECONDS = 0.15;

/** CPU time that may be saved up while nothing runs, as wall time: 0.25 s at 10 % are 25 ms of CPU. */
const CPU_SAVED_MS = 250;

/**
 * Bytes per second over everything that shares the object: a token bucket that starts empty, so that a copy of
 * n bytes never takes less than n / rate seconds.
 */
export class BandwidthLimit {
  readonly #clock: Clock;
  readonly #sleepers: Sleepers;
  #bytesPerSecond: number | null;
  #tokens = 0;
  #filledAtMs: number;

  /** @param bytesPerSecond null: no limit */
  constructor(bytesPerSecond: number | null = null, clock: Clock = systemClock) {
    this.#clock = clock;
    this.#sleepers = new Sleepers(clock);
    this.#filledAtMs = clock.nowMs();
    this.#bytesPerSecond = checkedLimit(bytesPerSecond, 'bytes per second');
  }

  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond;
  }

  /** Counts from now on, also for those that are waiting. */
  set bytesPerSecond(value: number | null) {
    if (value === this.#bytesPerSecond) return;
    this.#fill();
    this.#bytesPerSecond = checkedLimit(value, 'bytes per second');
    if (value !== null) this.#tokens = Math.min(this.#tokens, value * SAVED_SECONDS);
    this.#sleepers.wake();
  }

  /** Waits for the next burst. Resolves to its size in bytes, 1 to `maxBytes`; to 0 if `signal` was aborted. */
  async take(maxBytes: number, signal: AbortSignal): Promise<number> {
    for (;;) {
      if (signal.aborted) return 0;
      const rate = this.#bytesPerSecond;
      if (rate === null) return maxBytes;
      this.#fill();
      const burst = Math.min(maxBytes, Math.max(1, Math.floor(rate * BURST_SECONDS)));
      if (this.#tokens >= burst) {
        const taken = Math.min(maxBytes, Math.floor(this.#tokens));
        this.#tokens -= taken;
        return taken;
      }
      await this.#sleepers.sleep(((burst - this.#tokens) / rate) * 1000, signal);
    }
  }

  #fill(): void {
    const nowMs = this.#clock.nowMs();
    const rate = this.#bytesPerSecond;
    if (rate !== null) {
      const earned = ((nowMs - this.#filledAtMs) / 1000) * rate;
      // One byte at least, or a rate of a few bytes per second would never come to a burst.
      this.#tokens = Math.min(this.#tokens + earned, Math.max(1, rate * SAVED_SECONDS));
    }
    this.#filledAtMs = nowMs;
  }
}

/**
 * Per cent of one CPU that this process may use. Process CPU time is what is measured, so neither waiting for
 * storage nor a throttled pause counts as running. What a burst used too much, the next pause pays back.
 */
export class CpuLimit {
  readonly #clock: Clock;
  readonly #cpuMs: () => number;
  readonly #sleepers: Sleepers;
  #percent: number | null;
  #balanceMs = 0;
  #seenAtMs: number;
  #seenCpuMs: number;

  /**
   * @param percent null: no limit
   * @param cpuMs milliseconds of CPU time used so far, of all threads
   */
  constructor(percent: number | null = null, clock: Clock = systemClock, cpuMs: () => number = processCpuMs) {
    this.#clock = clock;
    this.#cpuMs = cpuMs;
    this.#sleepers = new Sleepers(clock);
    this.#percent = checkedLimit(percent, 'per cent');
    this.#seenAtMs = clock.nowMs();
    this.#seenCpuMs = cpuMs();
  }

  get percent(): number | null {
    return this.#percent;
  }

  /** Counts from now on, also for those that are waiting; what was used before is forgotten. */
  set percent(value: number | null) {
    if (value === this.#percent) return;
    this.#percent = checkedLimit(value, 'per cent');
    this.#settle();
    this.#balanceMs = 0;
    this.#sleepers.wake();
  }

  /** Resolves when the share is not used up, or when `signal` is aborted. */
  async ready(signal: AbortSignal): Promise<void> {
    for (;;) {
      const percent = this.#percent;
      if (percent === null || signal.aborted) return;
      this.#settle();
      if (this.#balanceMs >= 0) return;
      await this.#sleepers.sleep((-this.#balanceMs * 100) / percent, signal);
    }
  }

  #settle(): void {
    const nowMs = this.#clock.nowMs();
    const cpuMs = this.#cpuMs();
    const share = (this.#percent ?? 0) / 100;
    this.#balanceMs += (nowMs - this.#seenAtMs) * share - (cpuMs - this.#seenCpuMs);
    this.#balanceMs = Math.min(this.#balanceMs, CPU_SAVED_MS * share);
    this.#seenAtMs = nowMs;
    this.#seenCpuMs = cpuMs;
  }
}

/** Both limits, as a copy takes them. Any number of copies may share one. */
export class Throttle {
  readonly bandwidth: BandwidthLimit;
  readonly cpu: CpuLimit;
  readonly #within: Throttle | null;

  /** @param within limits that hold besides, shared with others */
  constructor(bandwidth = new BandwidthLimit(), cpu = new CpuLimit(), within: Throttle | null = null) {
    this.bandwidth = bandwidth;
    this.cpu = cpu;
    this.#within = within;
  }

  get limited(): boolean {
    return (
      this.bandwidth.bytesPerSecond !== null || this.cpu.percent !== null || (this.#within?.limited ?? false)
    );
  }

  /** Resolves when no share of CPU time is used up, or when `signal` is aborted. */
  async cpuReady(signal: AbortSignal): Promise<void> {
    await this.#within?.cpuReady(signal);
    await this.cpu.ready(signal);
  }

  /** Waits until all limits allow a burst. Resolves to its size in bytes; to 0 if `signal` was aborted. */
  async nextBurst(maxBytes: number, signal: AbortSignal): Promise<number> {
    await this.cpuReady(signal);
    const burst = await this.bandwidth.take(maxBytes, signal);
    return this.#within === null ? burst : this.#within.#takeAll(burst, signal);
  }

  /** Waits for exactly so much, however many bursts that are; 0 if `signal` was aborted. */
  async #takeAll(bytes: number, signal: AbortSignal): Promise<number> {
    for (let taken = 0; taken < bytes; ) {
      const burst = await this.bandwidth.take(bytes - taken, signal);
      if (burst === 0) return 0;
      taken += burst;
    }
    return this.#within === null ? bytes : this.#within.#takeAll(bytes, signal);
  }
}

/** Those who wait for time to pass, and may have to look again when a limit changes. */
class Sleepers {
  readonly #clock: Clock;
  readonly #asleep = new Set<AbortController>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const alarm = new AbortController();
    const ring = (): void => alarm.abort();
    this.#asleep.add(alarm);
    signal.addEventListener('abort', ring);
    try {
      await this.#clock.wait(ms, alarm.signal);
    } finally {
      signal.removeEventListener('abort', ring);
      this.#asleep.delete(alarm);
    }
  }

  wake(): void {
    for (const alarm of this.#asleep) alarm.abort();
  }
}

function checkedLimit(value: number | null, unit: string): number | null {
  if (value !== null && !(value > 0 && Number.isFinite(value))) {
    throw new RangeError(`a limit is a number of ${unit} above 0, or null; this is ${value}`);
  }
  return value;
}

function processCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
