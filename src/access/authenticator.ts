import { type AccessConfig, hasCredentials } from '../model/access.js';
import type { Credential } from '../model/cache.js';
import { BrokerError } from '../model/errors.js';
import { type Grants, NAME_PLACEHOLDER, PRINCIPAL_NAME, type Principal } from '../model/principal.js';
import { JwtVerifiers } from './jwt-verifier.js';
import { digestOf, matchesDigest, parseToken, TOKEN_PREFIX } from './token.js';
import { parseTokens, type StoredToken } from './tokens-file.js';
import { WatchedFiles } from './watched-files.js';

/** From the field `Authorization` of a request to the principal that sends it. */

const BEARER = /^Bearer +([\x21-\x7e]+) *$/i;
/** Compared with when there is no token of an id, so that this takes no less time. */
const NO_DIGEST = digestOf('');

export interface AuthenticatorOptions {
  access: AccessConfig;
  /** A file has changed and cannot be used; what was read before stays in use. */
  onError(error: Error): void;
}

export class Authenticator {
  #principals: ReadonlyMap<string, Grants> = new Map();
  #unknown: Grants | null = null;
  readonly #tokens: WatchedFiles<Map<string, StoredToken>> | null;
  readonly #jwt: JwtVerifiers;

  private constructor(
    access: AccessConfig,
    tokens: WatchedFiles<Map<string, StoredToken>> | null,
    jwt: JwtVerifiers,
  ) {
    this.#tokens = tokens;
    this.#jwt = jwt;
    this.reconfigure(access);
  }

  /** What principals may from now on. Where credentials come from stays as it was. */
  reconfigure({
    principals,
    unknownPrincipals,
  }: Pick<AccessConfig, 'principals' | 'unknownPrincipals'>): void {
    this.#principals = new Map(principals.map(({ name, ...grants }) => [name, grants]));
    this.#unknown = unknownPrincipals;
  }

  /** Null: no credential is configured. @throws {Error} for the operator, if a file cannot be used */
  static async open({ access, onError }: AuthenticatorOptions): Promise<Authenticator | null> {
    if (!hasCredentials(access)) return null;
    const { tokensFile } = access;
    const jwt = await JwtVerifiers.open(access.jwt, onError);
    if (tokensFile === null) return new Authenticator(access, null, jwt);
    try {
      const parse = ([content]: (Buffer | null)[]) =>
        new Map(parseTokens(content ?? null, tokensFile).map((token) => [token.id, token]));
      return new Authenticator(access, await WatchedFiles.open({ paths: [tokensFile], parse, onError }), jwt);
    } catch (error) {
      jwt.close();
      throw error;
    }
  }

  /** @throws {BrokerError} UNAUTHENTICATED, PRINCIPAL_UNKNOWN, KEYS_UNAVAILABLE */
  async authenticate(authorization: string | undefined): Promise<Principal> {
    if (authorization === undefined) {
      throw refused(
        'This service wants a credential: send "Authorization: Bearer TOKEN" with a token of it.',
      );
    }
    const [, credential] = BEARER.exec(authorization) ?? [];
    if (credential === undefined) {
      throw refused('The field Authorization must be "Bearer" and a token of this service or a JWT.');
    }
    if (credential.startsWith(TOKEN_PREFIX)) return this.#principal(this.#bearer(credential), null);
    const { principal, identity } = await this.#jwt.verify(credential);
    return this.#principal(principal, identity);
  }

  close(): void {
    this.#tokens?.close();
    this.#jwt.close();
  }

  /** The principal of a bearer token. */
  #bearer(text: string): string {
    const token = parseToken(text);
    const stored = token === null ? undefined : this.#tokens?.value.get(token.id);
    const matches = matchesDigest(token?.secret ?? '', stored?.digest ?? NO_DIGEST);
    if (stored === undefined || !matches) {
      throw refused('The token is not known here: it is mistyped, or it was revoked.');
    }
    if (stored.expiresAt !== null && Date.parse(stored.expiresAt) <= Date.now()) {
      throw refused(`The token ${stored.id} has expired at ${stored.expiresAt}.`);
    }
    return stored.principal;
  }

  #principal(name: string, claimed: Credential | null): Principal {
    const grants = this.#principals.get(name) ?? (PRINCIPAL_NAME.test(name) ? this.#unknown : null);
    if (grants == null) {
      throw new BrokerError(
        'PRINCIPAL_UNKNOWN',
        `The credential is valid, but its principal ${JSON.stringify(name.slice(0, 128))} stands nowhere in the configuration of the service (access.principals).`,
      );
    }
    return { ...namedGrants(grants, name), name, identity: grants.identity ?? claimed };
  }
}

function namedGrants(grants: Grants, name: string): Grants {
  const named = (paths: string[]) => paths.map((path) => path.replaceAll(NAME_PLACEHOLDER, name));
  return {
    ...grants,
    caches: grants.caches.map((cache) => ({ ...cache, prefixes: named(cache.prefixes) })),
    nodes: grants.nodes.map((node) => ({
      ...node,
      sourceRoots: named(node.sourceRoots),
      destinationRoots: named(node.destinationRoots),
    })),
  };
}

function refused(detail: string): BrokerError {
  return new BrokerError('UNAUTHENTICATED', detail);
}
