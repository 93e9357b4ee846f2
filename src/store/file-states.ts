import type { FileOutcome, FileState, TerminalFileState } from '../model/words.js';

/**
 * One byte per file. Succeeded has two, so that "already clean" needs no detail record. Index numbers that no file
 * has (the rest of a chunk that an expansion left short) hold 0.
 */
export const STATE_BYTES = {
  pending: 'p',
  active: 'a',
  succeeded: 's',
  failed: 'f',
  skipped: 'k',
  canceled: 'x',
  expired: 'e',
} as const satisfies Record<FileState, string>;

export const ALREADY_CLEAN_BYTE = 'c';

const STATES = new Map<number, FileState>([
  ...Object.entries(STATE_BYTES).map(([state, byte]) => [byte.charCodeAt(0), state as FileState] as const),
  [ALREADY_CLEAN_BYTE.charCodeAt(0), 'succeeded'],
]);

/** Undefined for the byte of an index that no file has. */
export function stateOfByte(byte: number): FileState | undefined {
  return STATES.get(byte);
}

/** `identical` is to a copy what `already_clean` is to a flush: there was nothing to write. */
export function stateByte(state: TerminalFileState, outcome: FileOutcome | null): number {
  const clean = state === 'succeeded' && (outcome === 'already_clean' || outcome === 'identical');
  return (clean ? ALREADY_CLEAN_BYTE : STATE_BYTES[state]).charCodeAt(0);
}
