import { NF3DIR, NFS3ERR_ACCES } from '../nfs/nfs3.js';
import type { Credential } from './rpc-server.js';
import { NfsStatusError } from './status.js';
import type { Attributes } from './volume.js';

/**
 * Permissions by mode bits for the uid and gids of the call, as a server over a local file system has them: uid 0
 * may do everything, and the owner may always read and commit. Only the object itself is looked at, never the
 * directories above it: a handle is enough to get there (RFC 1813 §4.4).
 */
export const PERMISSIONS = ['enforced', 'ignored'] as const;
export type Permissions = (typeof PERMISSIONS)[number];

export const MAY_READ = 4;
export const MAY_WRITE = 2;
export const MAY_EXECUTE = 1;

/** @param wanted one of the MAY_ bits */
export function isAllowed(attributes: Attributes, credential: Credential, wanted: number): boolean {
  const { mode, uid, gid, type } = attributes;
  if (credential.uid === 0) return wanted !== MAY_EXECUTE || type === NF3DIR || (mode & 0o111) !== 0;
  if (credential.uid === uid) return ((mode >>> 6) & wanted) !== 0;
  if (credential.gid === gid || credential.gids.includes(gid)) return ((mode >>> 3) & wanted) !== 0;
  return (mode & wanted) !== 0;
}

/** Throws NFS3ERR_ACCES unless one of the `wanted` bits is granted. */
export function demand(
  permissions: Permissions,
  attributes: Attributes,
  credential: Credential,
  ...wanted: readonly number[]
): void {
  if (permissions === 'ignored') return;
  if (!wanted.some((bit) => isAllowed(attributes, credential, bit))) throw new NfsStatusError(NFS3ERR_ACCES);
}

/** The same for what is in the file; its owner is never refused (RFC 1813 §4.4). */
export function demandContent(
  permissions: Permissions,
  attributes: Attributes,
  credential: Credential,
  ...wanted: readonly number[]
): void {
  if (credential.uid !== attributes.uid) demand(permissions, attributes, credential, ...wanted);
}
