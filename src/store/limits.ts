import type { CacheLimits } from '../model/cache.js';

/** What is kept of a cache wins over its configuration. */
export function limitsInForce(row: Readonly<Record<string, string>>, configured: CacheLimits): CacheLimits {
  const { 'limit:inFlight': inFlight, 'limit:filesPerSecond': perSecond } = row;
  return {
    inFlight: inFlight === undefined ? configured.inFlight : Number(inFlight),
    filesPerSecond: perSecond === undefined ? configured.filesPerSecond : filesPerSecondOf(perSecond),
  };
}

/** As it is stored: empty for any number. */
export function filesPerSecondOf(stored: string): number | null {
  return stored === '' ? null : Number(stored);
}
