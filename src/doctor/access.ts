import { examineJwks, JwtVerifiers } from '../access/jwt-verifier.js';
import { readTokens, type StoredToken } from '../access/tokens-file.js';
import { ConfigError } from '../config/faults.js';
import type { Config } from '../config/schema.js';
import { type AccessConfig, hasCredentials, type JwtIssuer } from '../model/access.js';
import type { Finding } from '../nfs/examination.js';
import { isLoopback, requireCredentials } from '../serve/listening.js';
import { examineFile } from './files.js';
import { daysUntil, fail, messageOf, ok, SOON_DAYS, warn } from './finding.js';

/** Who may connect, with which credential, and what it gives. */

/** Named in a sentence at most. */
const SHOWN = 5;

/** Where the API listens against what it asks of those who connect. */
export function* examineListening(config: Config): Generator<Finding> {
  const { http, access } = config;
  try {
    requireCredentials(config);
  } catch (error) {
    yield fail(error instanceof ConfigError ? error.problems.join(' ') : messageOf(error));
    return;
  }
  if (!hasCredentials(access)) {
    yield isLoopback(http.host)
      ? ok(
          `${http.host} is reached from this host only: no credential is configured, and whoever uses this host is an administrator`,
        )
      : warn(
          `${http.host} is reached by others, no credential is configured, and access.insecureWithoutCredentials is set: whoever can connect is an administrator. Configure access.tokensFile or access.jwt unless that is meant.`,
        );
  } else if (http.tls === null && !isLoopback(http.host)) {
    yield warn(
      `${http.host} is reached by others, and credentials travel in clear: set http.tls, or listen on loopback behind a proxy with TLS.`,
    );
  } else {
    yield ok(`${http.host} wants a credential${http.tls === null ? '' : ', over TLS'}`);
  }
}

/** The files and addresses that credentials come from, and the principals they name. */
export async function* examineAccess(
  { access, caches }: Pick<Config, 'access' | 'caches'>,
  timeoutMs: number,
): AsyncGenerator<Finding> {
  if (!hasCredentials(access)) return;
  if (access.tokensFile !== null) yield* examineTokens(access, access.tokensFile);
  for (const issuer of access.jwt) yield* examineIssuer(issuer, timeoutMs);
  yield* examinePrincipals(access, new Set(caches.map(({ name }) => name)));
}

async function* examineTokens(access: AccessConfig, path: string): AsyncGenerator<Finding> {
  let tokens: StoredToken[];
  try {
    tokens = await readTokens(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== undefined) yield* await examineFile(path, 'the tokens file', false);
    else yield fail(`${messageOf(error)}. Write it by "writeback token", or take it from a backup.`);
    return;
  }
  if (tokens.length === 0) {
    yield warn(`the tokens file ${path} holds no token: "writeback token create" makes one.`);
    return;
  }
  yield* await examineFile(path, 'the tokens file', false);
  const over = tokens.filter(({ expiresAt }) => expiresAt !== null && daysUntil(expiresAt) <= 0);
  const valid = tokens.filter((token) => !over.includes(token));
  const expired = over.length === 0 ? '' : `, and ${over.length} that have expired`;
  yield ok(`it holds ${valid.length} valid ${valid.length === 1 ? 'token' : 'tokens'}${expired}`);
  const soon = valid.filter(({ expiresAt }) => expiresAt !== null && daysUntil(expiresAt) < SOON_DAYS);
  if (soon.length > 0) {
    yield warn(
      `within ${SOON_DAYS} days end the tokens ${some(soon.map(textOf))}. Make new ones before that.`,
    );
  }
  const nobodys = valid.filter(({ principal }) => !isKnown(access, principal));
  if (nobodys.length > 0) {
    yield warn(
      `the tokens ${some(nobodys.map(textOf))} are of principals that access.principals does not name: they are refused. Revoke them, or add the principals.`,
    );
  }
}

async function* examineIssuer(issuer: JwtIssuer, timeoutMs: number): AsyncGenerator<Finding> {
  const { jwksUrl, jwksFile, secretFile } = issuer;
  const name = `JWTs${issuer.issuer === null ? '' : ` of ${issuer.issuer}`}`;
  if (jwksUrl !== null) {
    try {
      const keys = await examineJwks(jwksUrl, timeoutMs);
      yield keys > 0
        ? ok(`${name}: ${jwksUrl} has ${keys} ${keys === 1 ? 'key' : 'keys'}`)
        : fail(
            `${name}: ${jwksUrl} has no key, so every JWT is refused. Check that it is the JWK Set of the issuer.`,
          );
    } catch (error) {
      yield fail(
        `${name}: the keys at ${jwksUrl} cannot be read (${messageOf(error)}), so every JWT is answered with 503. Check the address, and the way there; an authority of your own is trusted by NODE_EXTRA_CA_CERTS.`,
      );
    }
    return;
  }
  const path = jwksFile ?? secretFile ?? '';
  const what = secretFile === null ? `${name}: the key set` : `${name}: the shared secret`;
  const findings = await examineFile(path, what, secretFile !== null);
  yield* findings;
  if (findings.some(({ level }) => level === 'fail')) return;
  try {
    (await JwtVerifiers.open([issuer], () => {})).close();
  } catch (error) {
    yield fail(`${name}: ${messageOf(error)}. Take the file from the issuer again.`);
  }
}

function* examinePrincipals(access: AccessConfig, caches: ReadonlySet<string>): Generator<Finding> {
  const { principals, unknownPrincipals } = access;
  if (principals.length === 0 && unknownPrincipals === null) {
    yield fail('no principal is configured, so every credential is refused. Name them in access.principals.');
    return;
  }
  const others = unknownPrincipals === null ? 'others are refused' : 'others get access.unknownPrincipals';
  yield ok(
    `${principals.length} ${principals.length === 1 ? 'principal is' : 'principals are'} configured, ${others}`,
  );
  if (unknownPrincipals !== null && unknownPrincipals.role !== 'submit') {
    yield warn(
      `access.unknownPrincipals gives the role ${unknownPrincipals.role} to whomever an issuer names. Give roles to principals by name unless that is meant.`,
    );
  }
  const granted = [
    ...principals,
    ...(unknownPrincipals === null ? [] : [{ name: 'unknownPrincipals', ...unknownPrincipals }]),
  ];
  for (const { name, caches: grants } of granted) {
    const unknown = grants.map((grant) => grant.name).filter((cache) => cache !== '*' && !caches.has(cache));
    if (unknown.length > 0) {
      yield warn(
        `${name} may flush ${some(unknown)}, which is no configured cache. Correct the name, unless it is an address within adHoc.networks.`,
      );
    }
  }
  const asRoot = granted.filter(({ identity }) => identity?.uid === 0).map(({ name }) => name);
  if (asRoot.length > 0) {
    yield warn(
      `the NFS calls for ${some(asRoot)} are made as root (identity.uid 0). Give an identity of its own.`,
    );
  }
}

function isKnown({ principals, unknownPrincipals }: AccessConfig, name: string): boolean {
  return unknownPrincipals !== null || principals.some((principal) => principal.name === name);
}

function textOf({ id, principal }: StoredToken): string {
  return `${id} (${principal})`;
}

function some(names: readonly string[]): string {
  const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '';
  return `${names.slice(0, SHOWN).join(', ')}${more}`;
}
