import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const PREFIX = 'job_';
const PATTERN = /^job_[0-7][0-9abcdefghjkmnpqrstvwxyz]{25}$/;

/** A ULID in lower case: 48 bits of milliseconds, 80 random bits. Ids sort by time of creation, as text. */
export function newJobId(nowMs: number = Date.now()): string {
  const random = randomBytes(16);
  let id = timePart(nowMs);
  for (let i = 0; i < 16; i++) id += ALPHABET[(random[i] as number) & 31];
  return PREFIX + id;
}

/** What is not of this form can be no job, and must not become part of a key. */
export function isJobId(text: string): boolean {
  return PATTERN.test(text);
}

/** Sorts before every id made at `ms` or later, and after every earlier one. */
export function firstIdAt(ms: number): string {
  return PREFIX + timePart(ms);
}

/** When a job was made, in milliseconds since the epoch, by an id or by what begins with one; null if it is none. */
export function timeOfId(text: string): number | null {
  if (!isJobId(text.slice(0, 30))) return null;
  let ms = 0;
  for (const letter of text.slice(PREFIX.length, PREFIX.length + 10)) ms = ms * 32 + ALPHABET.indexOf(letter);
  return ms;
}

function timePart(ms: number): string {
  let text = '';
  let rest = Math.min(Math.max(0, Math.floor(ms)), 2 ** 48 - 1);
  for (let i = 0; i < 10; i++) {
    text = ALPHABET[rest % 32] + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}
