import { lookup as systemLookup } from 'node:dns/promises';
import { BlockList, isIP, isIPv6 } from 'node:net';

/** All addresses of a host name; rejects if it has none. */
export type Lookup = (name: string) => Promise<{ address: string; family: number }[]>;

/** IANA special-purpose registries (RFC 6890 and successors): what is not reachable by everybody, or means another address. */
const NOT_PUBLIC_IPV4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
];
/** Of IPv6 only 2000::/3 is given out; within it these are not hosts of their own. */
const PUBLIC_IPV6 = '2000::/3';
const NOT_PUBLIC_IPV6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

/** Decides which addresses may be called: public ones, and those of the networks that are named. */
export class PublicAddresses {
  readonly #refused = listOf([...NOT_PUBLIC_IPV4, ...NOT_PUBLIC_IPV6]);
  readonly #public = listOf([PUBLIC_IPV6]);
  readonly #allowed: BlockList;
  readonly #lookup: Lookup;

  constructor(networks: readonly string[], lookup: Lookup = lookupAll) {
    this.#allowed = listOf(networks);
    this.#lookup = lookup;
  }

  allows(address: string): boolean {
    const plain = withoutMapping(address);
    const family = isIPv6(plain) ? 'ipv6' : 'ipv4';
    if (this.#allowed.check(plain, family)) return true;
    return !this.#refused.check(plain, family) && (family === 'ipv4' || this.#public.check(plain, family));
  }

  /**
   * The addresses of a host that may be called. Whoever connects must connect to one of these and not look the name up
   * again: it may say something else by then.
   * @param host a name, or an address, in brackets or not
   * @throws {Error} with a sentence that may be shown
   */
  async of(host: string): Promise<{ address: string; family: number }[]> {
    const name = host.replace(/^\[(.*)\]$/, '$1');
    const found = isIP(name) ? [{ address: name, family: isIP(name) }] : await this.#lookUp(name);
    const allowed = found.filter(({ address }) => this.allows(address));
    if (allowed.length > 0) return allowed;
    throw new Error(`${name} is no public address, and within none of webhooks.networks.`);
  }

  async #lookUp(name: string): Promise<{ address: string; family: number }[]> {
    try {
      return await this.#lookup(name);
    } catch {
      throw new Error(`The name ${name} does not resolve.`);
    }
  }
}

function listOf(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix = ''] = network.split('/');
    list.addSubnet(address, Number(prefix), isIPv6(address) ? 'ipv6' : 'ipv4');
  }
  return list;
}

/** ::ffff:10.0.0.1, however it is written, is 10.0.0.1. */
function withoutMapping(address: string): string {
  if (!isIPv6(address)) return address;
  const plain = address.replace(/%.*$/, '');
  const compressed = new URL(`http://[${plain}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(compressed);
  if (!mapped) return compressed;
  const words = [Number.parseInt(mapped[1] as string, 16), Number.parseInt(mapped[2] as string, 16)];
  return words.flatMap((word) => [word >> 8, word & 0xff]).join('.');
}

async function lookupAll(name: string): Promise<{ address: string; family: number }[]> {
  return systemLookup(name, { all: true });
}
