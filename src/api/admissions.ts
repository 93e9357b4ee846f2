import type { FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { BrokerError } from '../model/errors.js';
import type { Principal } from '../model/principal.js';
import { hasRole } from '../model/words.js';

/**
 * Says who sends a request, by its field Authorization.
 * @throws {BrokerError} UNAUTHENTICATED, PRINCIPAL_UNKNOWN, KEYS_UNAVAILABLE
 */
export type Authenticate = (authorization: string | undefined) => Promise<Principal>;

/** How often those whose answer is under way are asked again who they are. */
const LOOK_MS = 2000;

interface Admission {
  principal: Principal;
  ends: AbortController;
}

/**
 * Requests that take long, each tied to the credential that it was begun with: when that is revoked or has expired, or
 * its principal is gone or has a lower role, they end. A credential is looked at once, however many requests it has.
 */
export class Admissions {
  readonly #authenticate: Authenticate | undefined;
  readonly #log: Logger;
  /** By the field Authorization. */
  readonly #admissions = new Map<string, Set<Admission>>();
  #timer: NodeJS.Timeout | null = null;

  /** @param authenticate undefined: no credential is configured, so none can be lost */
  constructor(authenticate: Authenticate | undefined, log: Logger) {
    this.#authenticate = authenticate;
    this.#log = log;
  }

  /**
   * For as long as the answer is under way.
   * @returns aborts with a BrokerError as its reason: UNAUTHENTICATED, PRINCIPAL_UNKNOWN, ROLE_TOO_LOW
   */
  watch(
    request: FastifyRequest,
    response: { once(event: 'close', listener: () => void): unknown },
  ): AbortSignal {
    const { authorization } = request.headers;
    const ends = new AbortController();
    if (this.#authenticate === undefined || authorization === undefined) return ends.signal;
    const same = this.#admissions.get(authorization) ?? new Set();
    const admission = { principal: request.principal, ends };
    this.#admissions.set(authorization, same.add(admission));
    response.once('close', () => {
      same.delete(admission);
      if (same.size === 0 && this.#admissions.get(authorization) === same)
        this.#admissions.delete(authorization);
    });
    this.#lookLater();
    return ends.signal;
  }

  #lookLater(): void {
    if (this.#timer !== null || this.#admissions.size === 0) return;
    this.#timer = setTimeout(() => {
      void this.#look().finally(() => {
        this.#timer = null;
        this.#lookLater();
      });
    }, LOOK_MS);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    for (const [authorization, admissions] of [...this.#admissions]) {
      const now = await this.#principalNow(authorization);
      for (const { principal, ends } of admissions) {
        const refusal = now instanceof BrokerError ? now : now && roleLost(principal, now);
        if (refusal) ends.abort(refusal);
      }
    }
  }

  /** Null: it cannot be told now. That is no reason to end anything: JWTs are refused at their end all the same. */
  async #principalNow(authorization: string): Promise<Principal | BrokerError | null> {
    try {
      return await (this.#authenticate as Authenticate)(authorization);
    } catch (error) {
      if (error instanceof BrokerError && error.code !== 'KEYS_UNAVAILABLE') return error;
      this.#log.debug({ err: error }, 'a credential cannot be looked at again now');
      return null;
    }
  }
}

/** What an answer shows depends on the role it was begun with. */
function roleLost(before: Principal, { name, role }: Principal): BrokerError | null {
  if (hasRole(role, before.role)) return null;
  return new BrokerError(
    'ROLE_TOO_LOW',
    `The principal ${JSON.stringify(name)} has the role ${role} now, and no more ${before.role}. Ask again.`,
  );
}
