import type { LookupAddress } from 'node:dns';
import { lookup as systemLookup } from 'node:dns/promises';
import { BlockList, isIP, isIPv6 } from 'node:net';
import type { CacheConfig } from '../model/cache.js';
import { BrokerError } from '../model/errors.js';
import type { AdHocConfig } from '../model/limits.js';
import type { Dialect } from '../model/words.js';

/** All addresses of a host name; rejects if it has none. */
export type Lookup = (name: string) => Promise<LookupAddress[]>;

/** What the words `cache` and `export` of a request come to. */
export interface Target {
  /** Name of the configured cache, or the address. */
  cache: string;
  /** Set only for an address. */
  adHocCache: CacheConfig | null;
  dialect: Dialect;
  clientMount: string | null;
  export: string;
}

export interface TargetRequest {
  cache: string;
  export: string;
  dialect: Dialect | undefined;
}

const LOOKUP_DEADLINE_MS = 5_000;
/** dns.lookup holds one of the few threads that also do our compression; a resolver that hangs must not get all. */
const LOOKUPS_AT_ONCE = 2;
const ADDRESSES_MAX = 16;
const HOST_NAME = /^(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?$/;

/** Knows the configured caches and which other addresses a request may name. */
export class Targets {
  #caches: readonly CacheConfig[] = [];
  #adHoc!: AdHocConfig;
  #allowed = new BlockList();
  readonly #lookup: Lookup;
  readonly #lookups = new Map<string, Promise<LookupAddress[]>>();

  constructor(caches: readonly CacheConfig[], adHoc: AdHocConfig, lookup: Lookup = lookupAll) {
    this.#lookup = lookup;
    this.reconfigure(caches, adHoc);
  }

  /** For the requests from now on. */
  reconfigure(caches: readonly CacheConfig[], adHoc: AdHocConfig): void {
    this.#caches = caches;
    this.#adHoc = adHoc;
    this.#allowed = new BlockList();
    for (const network of adHoc.networks) {
      const [address = '', prefix = ''] = network.split('/');
      this.#allowed.addSubnet(address, Number(prefix), isIPv6(address) ? 'ipv6' : 'ipv4');
    }
  }

  /** @throws {BrokerError} UNKNOWN_CACHE, ADDRESS_NOT_ALLOWED, UNKNOWN_EXPORT, VALIDATION */
  async resolve(request: TargetRequest): Promise<Target> {
    const exportPath = normalExport(request.export);
    const named = unbracketed(request.cache);
    const configured =
      this.#caches.find((cache) => cache.name === named) ??
      this.#caches.find((cache) => cache.addresses.includes(named));
    if (configured) return this.#configured(configured, exportPath, request.dialect);

    const addresses = isIP(named) ? [canonical(named)] : await this.#addressesOf(named);
    for (const address of addresses) this.#requireAllowed(address, named);
    // The caches of the configuration win also under another name: their limits and their pause must hold.
    const same = this.#caches.find((cache) => cache.addresses.some((a) => addresses.includes(canonical(a))));
    if (same) return this.#configured(same, exportPath, request.dialect);

    const { networks: _, dialect, ...settings } = this.#adHoc;
    const cache = addresses[0] as string;
    const adHocCache: CacheConfig = {
      ...settings,
      name: cache,
      addresses,
      dialect: request.dialect ?? dialect,
      exports: null,
    };
    const { clientMount } = settings;
    return { cache, adHocCache, dialect: adHocCache.dialect, clientMount, export: exportPath };
  }

  #configured(cache: CacheConfig, exportPath: string, dialect: Dialect | undefined): Target {
    if (dialect !== undefined && dialect !== cache.dialect) {
      throw new BrokerError(
        'VALIDATION',
        `The cache ${JSON.stringify(cache.name)} is configured with the dialect ${cache.dialect}; a request cannot choose another. Leave "dialect" out.`,
        { pointer: '/dialect' },
      );
    }
    if (cache.exports !== null && !cache.exports.map(normalExport).includes(exportPath)) {
      throw new BrokerError(
        'UNKNOWN_EXPORT',
        `${JSON.stringify(exportPath)} is no export of the cache ${JSON.stringify(cache.name)}; it has ${listed(cache.exports)}.`,
        { pointer: '/export' },
      );
    }
    return {
      cache: cache.name,
      adHocCache: null,
      dialect: cache.dialect,
      clientMount: cache.clientMount,
      export: exportPath,
    };
  }

  #requireAllowed(address: string, named: string): void {
    if (this.#allowed.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')) return;
    const what = address === named ? address : `${JSON.stringify(named)} is ${address}, which`;
    throw new BrokerError(
      'ADDRESS_NOT_ALLOWED',
      `${what} is neither an address of a configured cache nor within the networks that requests may name (${listed(this.#adHoc.networks)}). The setting "adHoc.networks" of the service allows more; a cache that is used often belongs under "caches".`,
      { pointer: '/cache' },
    );
  }

  async #addressesOf(name: string): Promise<string[]> {
    // Without any allowed network there is nothing to look up, and no way to ask which names exist.
    if (this.#adHoc.networks.length === 0 || !HOST_NAME.test(name)) throw this.#unknown(name, '');
    const deadline = new AbortController();
    const late = new Promise<never>((_, reject) => {
      deadline.signal.addEventListener('abort', () => {
        reject(this.#unknown(name, ` within ${LOOKUP_DEADLINE_MS / 1000} seconds`));
      });
    });
    const timer = setTimeout(() => deadline.abort(), LOOKUP_DEADLINE_MS);
    try {
      const found = await Promise.race([this.#lookUp(name, deadline.signal), late]);
      const addresses = [...new Set(found.map(({ address }) => canonical(address)))].sort(ipv4First);
      if (addresses.length === 0) throw this.#unknown(name, '');
      return addresses.slice(0, ADDRESSES_MAX);
    } catch (error) {
      throw error instanceof BrokerError ? error : this.#unknown(name, '', error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** One look-up per name, few at once. A look-up keeps its place until it really ends, whoever still waits for it. */
  async #lookUp(name: string, signal: AbortSignal): Promise<LookupAddress[]> {
    for (;;) {
      const running = this.#lookups.get(name);
      if (running !== undefined) return running;
      if (this.#lookups.size < LOOKUPS_AT_ONCE || signal.aborted) break;
      await Promise.race([...this.#lookups.values()].map((lookup) => lookup.catch(() => {})));
    }
    if (signal.aborted) return [];
    const lookup = this.#lookup(name).finally(() => this.#lookups.delete(name));
    this.#lookups.set(name, lookup);
    return lookup;
  }

  #unknown(name: string, when: string, cause?: unknown): BrokerError {
    const names = this.#caches.map((cache) => cache.name);
    const known = names.length === 0 ? 'none is configured' : `configured: ${listed(names)}`;
    return new BrokerError(
      'UNKNOWN_CACHE',
      `${JSON.stringify(name)} is neither a configured cache (${known}) nor the name of a host that resolves${when}.`,
      { pointer: '/cache', cause },
    );
  }
}

async function lookupAll(name: string) {
  return systemLookup(name, { all: true });
}

/** `[::1]` as in a URL → `::1`. */
function unbracketed(name: string): string {
  return name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name;
}

/** One way to write each address: IPv6 compressed in lower case, IPv4-mapped IPv6 as IPv4. */
function canonical(address: string): string {
  if (!isIPv6(address)) return address;
  if (address.includes('%')) {
    throw new BrokerError(
      'VALIDATION',
      `${JSON.stringify(address)} has a zone, which means nothing on another host. Name the cache by an address without one.`,
      { pointer: '/cache' },
    );
  }
  const compressed = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(compressed);
  if (!mapped) return compressed;
  const words = [Number.parseInt(mapped[1] as string, 16), Number.parseInt(mapped[2] as string, 16)];
  return words.flatMap((word) => [word >> 8, word & 0xff]).join('.');
}

function ipv4First(a: string, b: string): number {
  return isIP(a) - isIP(b) || (a < b ? -1 : 1);
}

/** `/exp1/` and `//exp1` are `/exp1`. @throws {BrokerError} VALIDATION */
function normalExport(path: string): string {
  const parts = path.split('/').filter((part) => part !== '');
  if (!path.startsWith('/') || parts.includes('..') || parts.includes('.') || path.includes('\0')) {
    throw new BrokerError(
      'VALIDATION',
      `${JSON.stringify(path)} is no export: an absolute path without ".", ".." and NUL is expected, e.g. "/exp1".`,
      { pointer: '/export' },
    );
  }
  return `/${parts.join('/')}`;
}

function listed(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  const shown = names.slice(0, 20).map((name) => JSON.stringify(name));
  return names.length > shown.length
    ? `${shown.join(', ')} and ${names.length - shown.length} more`
    : shown.join(', ');
}
