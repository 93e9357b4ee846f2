import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose';
import type { JwtAlgorithm, JwtIssuer } from '../model/access.js';
import type { Credential } from '../model/cache.js';
import { BrokerError } from '../model/errors.js';
import { WatchedFiles } from './watched-files.js';

/** JSON Web Tokens (RFC 7519) of the issuers that the configuration names. */

const JWKS_TIMEOUT_MS = 5000;
const JWKS_AGE_MS = 10 * 60_000;
/** How soon after a read an unknown key makes us look for new ones: whoever sends nonsense must not set the pace. */
const JWKS_COOLDOWN_MS = 30_000;
/** RFC 7518 §3.2: no shorter than the output of the hash. */
const SECRET_BYTES = { HS256: 32, HS384: 48, HS512: 64 };

export interface JwtIdentity {
  principal: string;
  /** What the claims say; null: they are not asked. */
  identity: Credential | null;
}

interface Verifier {
  issuer: JwtIssuer;
  algorithms: readonly JwtAlgorithm[];
  /** Read anew for each token: it may have changed. */
  key(): Uint8Array | JWTVerifyGetKey;
  close(): void;
}

export class JwtVerifiers {
  readonly #verifiers: Verifier[];

  private constructor(verifiers: Verifier[]) {
    this.#verifiers = verifiers;
  }

  /** `onError`: a file has changed and cannot be used. @throws {Error} for the operator, if a file cannot be used */
  static async open(issuers: readonly JwtIssuer[], onError: (error: Error) => void): Promise<JwtVerifiers> {
    const verifiers: Verifier[] = [];
    try {
      for (const issuer of issuers) verifiers.push(await openVerifier(issuer, onError));
    } catch (error) {
      for (const verifier of verifiers) verifier.close();
      throw error;
    }
    return new JwtVerifiers(verifiers);
  }

  /** @throws {BrokerError} UNAUTHENTICATED, KEYS_UNAVAILABLE */
  async verify(token: string): Promise<JwtIdentity> {
    const candidates = this.#candidates(token);
    let refusal: BrokerError | null = null;
    for (const verifier of candidates) {
      try {
        const { issuer, algorithms } = verifier;
        const { payload } = await jwtVerify(token, verifier.key() as JWTVerifyGetKey, {
          algorithms: [...algorithms],
          requiredClaims: ['exp', issuer.principalClaim],
          clockTolerance: issuer.clockToleranceSeconds,
          ...(issuer.issuer !== null && { issuer: issuer.issuer }),
          ...(issuer.audience !== null && { audience: issuer.audience }),
        });
        return { principal: principalOf(payload, issuer), identity: identityOf(payload, issuer) };
      } catch (error) {
        // A JWT says of itself that it is over: for that no key is needed, which may be away for long.
        const next = isOver(token, verifier.issuer) ? refused('it has expired') : refusalOf(error);
        // That one issuer's keys are away says more than that another one did not sign it.
        if (refusal === null || next.code === 'KEYS_UNAVAILABLE') refusal = next;
      }
    }
    throw refusal ?? refused('no issuer that this service trusts has signed it');
  }

  close(): void {
    for (const verifier of this.#verifiers) verifier.close();
  }

  /** Those who may have issued it, by what it says of itself; nothing of that is believed yet. */
  #candidates(token: string): Verifier[] {
    let algorithm: string | undefined;
    let issuedBy: string | undefined;
    try {
      algorithm = decodeProtectedHeader(token).alg;
      issuedBy = decodeJwt(token).iss;
    } catch {
      throw refused('it cannot be read');
    }
    return this.#verifiers.filter(({ issuer, algorithms }) => {
      const wanted: readonly (string | undefined)[] = algorithms;
      return wanted.includes(algorithm) && (issuer.issuer === null || issuer.issuer === issuedBy);
    });
  }
}

/** Reads the JWK Set at an address once; how many keys it has. @throws {Error} why it cannot be read, or is none */
export async function examineJwks(jwksUrl: string, timeoutMs: number): Promise<number> {
  const keys = createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: timeoutMs });
  await keys.reload();
  return keys.jwks()?.keys.length ?? 0;
}

async function openVerifier(issuer: JwtIssuer, onError: (error: Error) => void): Promise<Verifier> {
  const { jwksUrl, jwksFile, secretFile } = issuer;
  const algorithms: readonly JwtAlgorithm[] =
    issuer.algorithms ?? (secretFile === null ? ['RS256', 'ES256'] : ['HS256']);
  if (jwksUrl !== null) {
    const keys = createRemoteJWKSet(new URL(jwksUrl), {
      timeoutDuration: JWKS_TIMEOUT_MS,
      cacheMaxAge: JWKS_AGE_MS,
      cooldownDuration: JWKS_COOLDOWN_MS,
    });
    return { issuer, algorithms, key: () => keys, close: () => {} };
  }
  const path = (jwksFile ?? secretFile) as string;
  const parse = (content: Buffer | null): Uint8Array | JWTVerifyGetKey => {
    if (content === null) throw new Error(`${path} is not there`);
    return jwksFile === null ? secretOf(content, algorithms, path) : keySetOf(content, path);
  };
  const file = await WatchedFiles.open({
    paths: [path],
    parse: ([content]) => parse(content ?? null),
    onError,
  });
  return { issuer, algorithms, key: () => file.value, close: () => file.close() };
}

function secretOf(content: Buffer, algorithms: readonly JwtAlgorithm[], path: string): Uint8Array {
  const least = Math.max(...algorithms.map((name) => SECRET_BYTES[name as keyof typeof SECRET_BYTES] ?? 0));
  if (content.length < least) {
    throw new Error(
      `the secret in ${path} has ${content.length} bytes; ${algorithms.join(', ')} needs ${least}`,
    );
  }
  return new Uint8Array(content);
}

function keySetOf(content: Buffer, path: string): JWTVerifyGetKey {
  try {
    return createLocalJWKSet(JSON.parse(content.toString('utf8')) as JSONWebKeySet);
  } catch {
    throw new Error(`${path} is no JWK Set (RFC 7517 §5)`);
  }
}

function principalOf(payload: JWTPayload, { principalClaim }: JwtIssuer): string {
  const name = payload[principalClaim];
  if (typeof name === 'string') return name;
  throw refused(`its claim ${JSON.stringify(principalClaim)} is no text`);
}

function identityOf(payload: JWTPayload, { identityClaims }: JwtIssuer): Credential | null {
  if (identityClaims === null) return null;
  const { uid, gid, gids } = identityClaims;
  const groups = gids === null ? [] : payload[gids];
  if (!Array.isArray(groups)) throw refused(`its claim ${JSON.stringify(gids)} is no list of group ids`);
  return {
    uid: idOf(payload, uid),
    gid: idOf(payload, gid),
    gids: groups.map((group, i) => checkedId(group, `${gids}[${i}]`)),
  };
}

function idOf(payload: JWTPayload, name: string): number {
  return checkedId(payload[name], name);
}

/** Nobody becomes root, nor a member of its group, by a claim. */
function checkedId(value: unknown, name: string): number {
  if (Number.isInteger(value) && Number(value) > 0 && Number(value) <= 0xffffffff) return Number(value);
  throw refused(`its claim ${JSON.stringify(name)} is no user or group id above 0`);
}

function refusalOf(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  if (error instanceof errors.JWTExpired) return refused('it has expired', error);
  if (error instanceof errors.JWTClaimValidationFailed) {
    return refused(`its claim ${JSON.stringify(error.claim)} is missing or not what it must be`, error);
  }
  const isVerdict =
    error instanceof errors.JOSEError &&
    !(error instanceof errors.JWKSTimeout) &&
    // A key set that is no answer, or no key set, is no verdict on the token.
    error.code !== 'ERR_JOSE_GENERIC' &&
    !(error instanceof errors.JWKSInvalid);
  if (isVerdict) return refused('no issuer that this service trusts has signed it', error);
  return new BrokerError(
    'KEYS_UNAVAILABLE',
    'The keys that sign credentials could not be read. Try again in a moment.',
    { retryAfterSeconds: 5, cause: error },
  );
}

function isOver(token: string, { clockToleranceSeconds }: JwtIssuer): boolean {
  const { exp } = decodeJwt(token);
  return typeof exp === 'number' && exp + clockToleranceSeconds <= Date.now() / 1000;
}

function refused(why: string, cause?: unknown): BrokerError {
  return new BrokerError('UNAUTHENTICATED', `The JWT is not valid: ${why}.`, { cause });
}
