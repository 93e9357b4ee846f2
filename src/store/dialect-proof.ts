import { createHash } from 'node:crypto';
import type { CacheConfig } from '../model/cache.js';

/** Who has shown a dialect: a server, not the name that a configuration gives it. */
export interface DialectTarget {
  addresses: readonly string[];
  ports: CacheConfig['ports'];
}

/**
 * The field of a cache's record that says that this target has shown the hpc-cache dialect. With other addresses or
 * ports there may be a plain server behind the same name, and its OKs must not be believed.
 */
export function proofField({ addresses, ports: { portmap, mount, nfs } }: DialectTarget): string {
  const target = JSON.stringify([[...new Set(addresses)].sort(), portmap, mount, nfs]);
  return `proven:${createHash('sha256').update(target).digest('base64url').slice(0, 16)}`;
}
