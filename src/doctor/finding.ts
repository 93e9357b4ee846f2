import type { Finding } from '../nfs/examination.js';

export function ok(message: string): Finding {
  return { level: 'ok', message };
}

export function warn(message: string): Finding {
  return { level: 'warn', message };
}

export function fail(message: string): Finding {
  return { level: 'fail', message };
}

/** Of an error, to be put into a sentence. */
export function messageOf(error: unknown): string {
  const told = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return (told instanceof Error ? told.message : String(told)).replace(/\.$/, '');
}

/** Days until then; negative: it is over. */
export function daysUntil(time: Date | string): number {
  return (new Date(time).getTime() - Date.now()) / 86_400_000;
}

/** What ends sooner than this is told. */
export const SOON_DAYS = 14;
