import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/**
 * Bearer tokens: `wbt_ID_SECRET`. The prefix lets scanners of source code and logs find one that leaked; the id, which
 * is no secret, says which one it is; the secret is 256 random bits, so its digest needs no salt and no slow hash.
 */

const TOKEN = /^wbt_([a-z2-7]{12})_([A-Za-z0-9_-]{43})$/;
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';
export const TOKEN_PREFIX = 'wbt_';

export interface NewToken {
  /** For its bearer, and nobody else: it is not kept. */
  token: string;
  id: string;
  digest: string;
}

export function newToken(): NewToken {
  const id = [...randomBytes(12)].map((byte) => BASE32[byte & 31]).join('');
  const secret = randomBytes(32).toString('base64url');
  return { token: `${TOKEN_PREFIX}${id}_${secret}`, id, digest: digestOf(secret) };
}

/** The parts of a token, or null if it is none. */
export function parseToken(text: string): { id: string; secret: string } | null {
  const [, id, secret] = TOKEN.exec(text) ?? [];
  return id === undefined || secret === undefined ? null : { id, secret };
}

/** SHA-256 as hexadecimal digits. */
export function digestOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** Takes the same time wherever the two differ. `digest` is what `digestOf` made. */
export function matchesDigest(secret: string, digest: string): boolean {
  return timingSafeEqual(Buffer.from(digestOf(secret)), Buffer.from(digest));
}
