import picomatch from 'picomatch';
import { NFS3_OK, NFS3ERR_JUKEBOX, NFS3ERR_STALE } from '../nfs/nfs3.js';
import { nfsStatusFromText } from './status.js';

/**
 * What a simulated cache does wrong on request:
 *
 * - `jukebox`, `stale`, `error`: it answers with NFS3ERR_JUKEBOX, NFS3ERR_STALE or any status
 * - `still-dirty`: a flush takes its time and then leaves the file dirty, so that a status call answers 66
 * - `drop`: it closes the connection instead of answering
 * - `silent`: it never answers the call
 * - `slow`: it answers, but only after a delay
 */
export const FAULT_KINDS = ['jukebox', 'stale', 'still-dirty', 'drop', 'silent', 'slow', 'error'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** What faults and statistics call the procedures; COMMIT is also known by its intent, and `*` is any. */
export const FAULT_PROCEDURES = [
  '*',
  ...[
    'NULL',
    'GETATTR',
    'LOOKUP',
    'ACCESS',
    'READLINK',
    'READ',
    'READDIR',
    'READDIRPLUS',
    'FSSTAT',
    'FSINFO',
  ],
  ...['PATHCONF', 'COMMIT', 'COMMIT:start', 'COMMIT:status', 'COMMIT:sync', 'COMMIT:plain'],
  ...['MOUNTPROC3_NULL', 'MNT', 'DUMP', 'UMNT', 'UMNTALL', 'EXPORT'],
  ...['PMAPPROC_NULL', 'GETPORT', 'PMAPPROC_DUMP', 'RPCBPROC_NULL', 'GETADDR', 'RPCBPROC_DUMP'],
];

export interface FaultRule {
  kind: FaultKind;
  /** Glob over the path within the export, which begins with a slash: `/result/**`. Absent: every call, also those about no file. */
  path?: string;
  /**
   * Some of {@link FAULT_PROCEDURES}; absent: COMMIT. Without meaning for `still-dirty`.
   */
  procedures?: readonly string[];
  /** So often for each path; absent: for ever. */
  times?: number;
  /** 0 to 1; absent: 1. */
  probability?: number;
  /** For `slow`, milliseconds. */
  delayMs?: number;
  /** For `error`: an nfsstat3, or a mountstat3 where the procedure is MNT. */
  status?: number;
}

/** What is to happen to one call. */
export interface Fate {
  delayMs: number;
  /** Null: an ordinary answer. */
  instead: 'drop' | 'silent' | { status: number } | null;
}

interface ActiveRule {
  readonly rule: FaultRule;
  readonly matches: (path: string) => boolean;
  readonly procedures: ReadonlySet<string>;
  readonly used: Map<string, number>;
}

/** The rules in force, tried in their order: the first that applies decides, and delays of `slow` add up. */
export class FaultTable {
  #rules: ActiveRule[] = [];
  readonly #random: () => number;

  /** @param seed the same seed and the same calls give the same faults */
  constructor(rules: readonly FaultRule[], seed: number) {
    this.#random = mulberry32(seed);
    this.set(rules);
  }

  /** @throws {RangeError} for a rule that says too little or too much */
  set(rules: readonly FaultRule[]): void {
    this.#rules = rules.map(activate);
  }

  get empty(): boolean {
    return this.#rules.length === 0;
  }

  /**
   * @param names of the procedure, e.g. `COMMIT` and `COMMIT:start`
   * @param path within the export, or null for a call about no file
   */
  fateOf(names: readonly string[], path: Buffer | null): Fate | null {
    if (this.empty) return null;
    const text = path === null ? null : `/${path.toString()}`;
    let delayMs = 0;
    for (const active of this.#rules) {
      const { kind, status } = active.rule;
      if (kind === 'still-dirty' || !names.some((name) => active.procedures.has(name))) continue;
      if (!this.#applies(active, text)) continue;
      if (kind === 'slow') delayMs += active.rule.delayMs ?? 0;
      else if (kind === 'drop' || kind === 'silent') return { delayMs, instead: kind };
      else if (kind === 'jukebox') return { delayMs, instead: { status: NFS3ERR_JUKEBOX } };
      else if (kind === 'stale') return { delayMs, instead: { status: NFS3ERR_STALE } };
      else return { delayMs, instead: { status: status ?? NFS3_OK } };
    }
    return delayMs === 0 ? null : { delayMs, instead: null };
  }

  /** Whether a flush that begins now is to leave its file dirty. */
  failsFlush(path: Buffer): boolean {
    const text = `/${path.toString()}`;
    return this.#rules.some((active) => active.rule.kind === 'still-dirty' && this.#applies(active, text));
  }

  #applies(active: ActiveRule, path: string | null): boolean {
    const { rule, used } = active;
    if (rule.path !== undefined && (path === null || !active.matches(path))) return false;
    const key = path ?? '';
    const count = rule.times === undefined ? 0 : (used.get(key) ?? 0);
    if (rule.times !== undefined && count >= rule.times) return false;
    if (rule.probability !== undefined && this.#random() >= rule.probability) return false;
    if (rule.times !== undefined) used.set(key, count + 1);
    return true;
  }
}

function activate(rule: FaultRule): ActiveRule {
  if (rule.kind === 'slow' && !((rule.delayMs ?? 0) > 0)) {
    throw new RangeError('a fault "slow" needs a delay in milliseconds');
  }
  if (rule.kind === 'error' && (rule.status === undefined || rule.status === NFS3_OK)) {
    throw new RangeError('a fault "error" needs the status to answer with, and not 0');
  }
  if (rule.times !== undefined && !(Number.isInteger(rule.times) && rule.times >= 1)) {
    throw new RangeError('"times" of a fault is a whole number from 1');
  }
  if (rule.probability !== undefined && !(rule.probability >= 0 && rule.probability <= 1)) {
    throw new RangeError('"probability" of a fault lies between 0 and 1');
  }
  const procedures = rule.procedures ?? ['COMMIT'];
  const unknown = procedures.find((name) => !FAULT_PROCEDURES.includes(name));
  if (unknown !== undefined) throw new RangeError(`"${unknown}" is no procedure of this server`);
  return {
    rule,
    matches: rule.path === undefined ? () => true : picomatch(rule.path, { dot: true }),
    procedures: new Set(procedures),
    used: new Map(),
  };
}

/**
 * One rule as it is given on the command line: `KIND[,KEY=VALUE]…` with the keys times, probability, ms, status,
 * procedure (several with `+` between them) and path; path comes last, because a glob may hold commas.
 * @throws {RangeError} that says what is wrong with it
 */
export function parseFaultRule(text: string): FaultRule {
  const pathAt = text.search(/,path=/);
  const path = pathAt < 0 ? undefined : text.slice(pathAt + ',path='.length);
  const [kind, ...pairs] = (pathAt < 0 ? text : text.slice(0, pathAt)).split(',');
  if (!(FAULT_KINDS as readonly (string | undefined)[]).includes(kind)) {
    throw new RangeError(`"${kind}" is no fault; there are ${FAULT_KINDS.join(', ')}`);
  }
  const rule: FaultRule = { kind: kind as FaultKind };
  if (path !== undefined) rule.path = path;
  for (const pair of pairs) setKey(rule, pair);
  activate(rule);
  return rule;
}

function setKey(rule: FaultRule, pair: string): void {
  const equals = pair.indexOf('=');
  const key = pair.slice(0, equals);
  const value = pair.slice(equals + 1);
  const number = value.trim() === '' ? Number.NaN : Number(value);
  switch (key) {
    case 'times':
      rule.times = number;
      return;
    case 'probability':
      rule.probability = number;
      return;
    case 'ms':
      rule.delayMs = number;
      return;
    case 'procedure':
      rule.procedures = value.split('+');
      return;
    case 'status': {
      const status = nfsStatusFromText(value);
      if (status === null) throw new RangeError(`"${value}" is no nfsstat3`);
      rule.status = status;
      return;
    }
    default:
      throw new RangeError(
        `"${pair}" is not understood; a fault takes times=, probability=, ms=, status=, procedure= and path= (last)`,
      );
  }
}

/** A small generator with a seed, for faults that can be repeated; nothing that has to be unpredictable. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}
