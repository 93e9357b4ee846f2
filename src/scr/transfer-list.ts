import { posix } from 'node:path';
import { readValue, setValue, type Tree } from './tree.js';

/**
 * What the tree of a transfer file means:
 *
 *   FILES → source → DESTINATION, SIZE and WRITTEN (bytes, decimal), ERROR (ours: one sentence)
 *   BW (bytes per second), PERCENT (of the time of one CPU): 0 or absent is no limit
 *   COMMAND: RUN, STOP or EXIT (the library's), STATE: STOPPED, RUNNING or EXITING (the daemon's), FLAG: DONE
 */
export const COMMANDS = ['RUN', 'STOP', 'EXIT'] as const;
export type Command = (typeof COMMANDS)[number];
export type State = 'STOPPED' | 'RUNNING' | 'EXITING';

/** One entry of FILES. Paths are keys of the tree: text as in model/pathname.ts. */
export interface Entry {
  source: string;
  /** Null if the entry cannot be copied: `fault` says why. */
  destination: string | null;
  size: number;
  /** 0 also if what stands there means nothing: the file is then copied from its beginning. */
  written: number;
  /** What the source looked like when what is written was read; gone once the file is complete. */
  sourceVersion: string | null;
  error: string | null;
  fault: string | null;
}

export interface TransferList {
  command: Command | null;
  /** What stands under COMMAND if it is none of them. */
  unknownCommand: string | null;
  done: boolean;
  entries: Map<string, Entry>;
  /** Null: no limit. Undefined: what stands there is no number from 0 on. */
  bytesPerSecond: number | null | undefined;
  percent: number | null | undefined;
}

/** Our own keys in an entry; the library takes no notice of them. */
const SOURCE_VERSION = 'SOURCE_VERSION';

export function readTransferList(tree: Tree): TransferList {
  const command = readValue(tree, 'COMMAND');
  const known = COMMANDS.find((each) => each === command) ?? null;
  return {
    command: known,
    unknownCommand: known === null && tree.has('COMMAND') ? (command ?? '') : null,
    done: tree.get('FLAG')?.has('DONE') ?? false,
    entries: readEntries(tree.get('FILES') ?? new Map()),
    bytesPerSecond: readLimit(tree, 'BW'),
    percent: readLimit(tree, 'PERCENT'),
  };
}

/** True if that changed something, as for all below. */
export function writeState(tree: Tree, state: State): boolean {
  return setValue(tree, 'STATE', state);
}

export function writeCommand(tree: Tree, command: Command): boolean {
  return setValue(tree, 'COMMAND', command);
}

export function writeDone(tree: Tree, done: boolean): boolean {
  const flags = tree.get('FLAG') ?? new Map();
  if (flags.has('DONE') === done) return false;
  if (done) tree.set('FLAG', flags.set('DONE', null));
  else {
    flags.delete('DONE');
    if (flags.size === 0) tree.delete('FLAG');
  }
  return true;
}

/** @param sourceVersion null: the file is complete, or nothing of it is there */
export function writeProgress(
  tree: Tree,
  source: string,
  written: number,
  sourceVersion: string | null,
): boolean {
  const entry = tree.get('FILES')?.get(source);
  if (!entry) return false;
  const changed = setValue(entry, 'WRITTEN', String(written));
  if (sourceVersion === null) return entry.delete(SOURCE_VERSION) || changed;
  return setValue(entry, SOURCE_VERSION, sourceVersion) || changed;
}

/** @param error one sentence, or null: there is none any more */
export function writeError(tree: Tree, source: string, error: string | null): boolean {
  const files = tree.get('FILES');
  if (!files?.has(source)) return false;
  const entry = files.get(source) ?? new Map();
  files.set(source, entry);
  return error === null ? entry.delete('ERROR') : setValue(entry, 'ERROR', error.replaceAll('\0', '?'));
}

function readEntries(files: Tree): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  const sourceOf = new Map<string, string>();
  for (const [source, below] of files) {
    const entry = readEntry(source, below ?? new Map());
    entries.set(source, entry);
    if (entry.destination === null) continue;
    const place = posix.normalize(entry.destination);
    const other = sourceOf.get(place);
    if (other === undefined) sourceOf.set(place, source);
    else {
      entry.fault = `its DESTINATION is also that of ${other}`;
      entry.destination = null;
    }
  }
  return entries;
}

function readEntry(source: string, tree: Tree): Entry {
  const destination = readValue(tree, 'DESTINATION');
  const size = readCount(tree, 'SIZE');
  const written = readCount(tree, 'WRITTEN') ?? 0;
  let fault: string | null = null;
  if (!source.startsWith('/')) fault = 'the path of the source is not absolute';
  else if (destination === null) fault = 'the entry has no DESTINATION, or more than one';
  else if (!destination.startsWith('/')) fault = `its DESTINATION ${destination} is not absolute`;
  else if (size === null) fault = 'its SIZE is missing or no number of bytes';
  return {
    source,
    destination: fault === null ? destination : null,
    size: size ?? 0,
    written: written <= (size ?? 0) ? written : 0,
    sourceVersion: readValue(tree, SOURCE_VERSION),
    error: readValue(tree, 'ERROR'),
    fault,
  };
}

function readCount(tree: Tree, key: string): number | null {
  const text = readValue(tree, key);
  if (text === null || !/^\d{1,16}$/.test(text)) return null;
  const count = Number(text);
  return Number.isSafeInteger(count) ? count : null;
}

function readLimit(tree: Tree, key: string): number | null | undefined {
  if (!tree.has(key)) return null;
  const text = readValue(tree, key)?.trim() ?? '';
  const limit = text === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(limit) || limit < 0) return undefined;
  return limit === 0 ? null : limit;
}
