import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/schema.js';

/** What a running service takes from a changed configuration, and what waits for its next start. */

/** Keys whose change is in force at once. */
const LIVE: readonly string[] = [
  'caches',
  'adHoc',
  'webhooks',
  'log.level',
  'access.principals',
  'access.unknownPrincipals',
];

export interface ConfigChanges {
  /** Keys that changed and are in force at once. */
  live: string[];
  /** Keys that changed and need a restart. */
  atRestart: string[];
}

/** Keys as in the documentation of the configuration, of at most two parts. */
export function configChanges(before: Config, after: Config): ConfigChanges {
  const changed = Object.keys(after).flatMap((section) => {
    const [old, now] = [before[section as keyof Config], after[section as keyof Config]];
    if (isDeepStrictEqual(old, now)) return [];
    if (LIVE.includes(section) || typeof now !== 'object' || now === null || Array.isArray(now))
      return [section];
    const members = new Map(Object.entries(old as object));
    return Object.entries(now)
      .filter(([name, value]) => !isDeepStrictEqual(value, members.get(name)))
      .map(([name]) => `${section}.${name}`);
  });
  return {
    live: changed.filter((key) => LIVE.includes(key)),
    atRestart: changed.filter((key) => !LIVE.includes(key)),
  };
}
