import type { CopyResult } from './copy.js';
import type { LatencyResult } from './latency.js';
import type { ListenersResult } from './listeners.js';
import type { GaneshaResult, RawResult } from './raw.js';
import type { SharingResult } from './sharing.js';
import type { WholePathResult } from './whole-path.js';

/** What bench/store.ts prints, as far as a promise is about it. */
export interface StoreResult {
  /** Redis' memory for the job's own records, when it is queued and when it has ended. */
  storedMB: number;
  endedMB: number;
}

/** Of the parts that were measured. */
export interface BenchResults {
  machine: Record<string, unknown>;
  raw?: RawResult;
  latency?: LatencyResult;
  wholePath?: WholePathResult[];
  listeners?: ListenersResult[];
  sharing?: SharingResult[];
  store?: StoreResult;
  copy?: CopyResult;
  promises?: Verdict[];
}

export interface Verdict {
  what: string;
  promised: string;
  measured: number | null;
  verdict: 'pass' | 'FAIL' | 'not measured';
}

const MIB_TO_MB = 2 ** 20 / 1e6;

/** Holds every measurement against what the project promises of a machine with two cores. */
export function judge({
  raw,
  latency,
  wholePath = [],
  listeners = [],
  sharing,
  store,
  copy,
}: BenchResults): Verdict[] {
  const ganesha: Partial<GaneshaResult> = raw === undefined || 'skip' in raw.ganesha ? {} : raw.ganesha;
  const path = (server: WholePathResult['server'], files: number) =>
    wholePath.find((row) => row.server === server && row.files === files);
  const million = path('synthetic', 1_000_000);
  const watched = listeners.find(({ workload }) => workload === 'the cache');
  return [
    atLeast('5,000 files on NFS-Ganesha, new process: files/s', 6000, ganesha.clientCold),
    atLeast('5,000 files on NFS-Ganesha, warm: files/s', 6000, ganesha.clientWarm),
    atLeast('new process ÷ libnfs', 0.8, ganesha.coldToLibnfs),
    atLeast('warm ÷ libnfs', 0.8, ganesha.warmToLibnfs),
    atLeast('flush of 100 ms, 256 in flight: times the reference', 50, latency?.timesTheReference),
    atMost(
      'HTTP → done, 100,000 files on NFS-Ganesha: times the engine',
      1.5,
      path('ganesha', 100_000)?.timesTheEngine,
    ),
    atMost('1,000,000 files: seconds until the 202', 30, million?.ingestSeconds),
    atMost(
      '1,000,000 files: MB of the API process',
      300,
      million && Math.round(million.apiPeakMemoryMiB * MIB_TO_MB),
    ),
    atMost('1,000,000 various files: MB of Redis', 60, store && Math.max(store.storedMB, store.endedMB)),
    atMost('1,000,000 files: ms of a status poll, 99th percentile', 10, million?.statusPollMs.p99),
    atMost('500 clients poll, 200 listen: per cent of throughput lost', 10, watched?.lostPercent),
    atMost('500 clients poll, 200 listen: ms of a status poll, 99th percentile', 50, watched?.pollP99Ms),
    atMost(
      "ten files, submitted after another principal's million: seconds at most",
      10,
      sharing && Math.max(...sharing.map(({ secondsMax }) => secondsMax)),
    ),
    atLeast('a copy of 1 GiB: times cp and fsync', 0.8, copy?.large.copierToCp),
    atLeast('1 GiB by the SCR daemon: times cp and fsync', 0.8, copy?.large.daemonToCp),
    atMost(
      'a limit of 50 MiB/s: per cent beside it',
      5,
      copy && beside(copy.limited.measuredMebibytesPerSecond, copy.limited.mebibytesPerSecond),
    ),
  ];
}

/** Per cent. */
function beside(measured: number, wanted: number): number {
  return Math.round(Math.abs(measured / wanted - 1) * 1000) / 10;
}

function atLeast(what: string, limit: number, measured: number | null | undefined): Verdict {
  return verdict(what, `≥ ${limit}`, measured, (number) => number >= limit);
}

function atMost(what: string, limit: number, measured: number | null | undefined): Verdict {
  return verdict(what, `≤ ${limit}`, measured, (number) => number <= limit);
}

function verdict(
  what: string,
  promised: string,
  measured: number | null | undefined,
  holds: (measured: number) => boolean,
): Verdict {
  const number = measured ?? null;
  return {
    what,
    promised,
    measured: number,
    verdict: number === null ? 'not measured' : holds(number) ? 'pass' : 'FAIL',
  };
}
