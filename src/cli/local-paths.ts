import { promises as dns, type LookupAddress } from 'node:dns';
import { lstat, readFile, realpath, stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { Cache } from '../model/job.js';
import { pathBytes, pathText } from '../model/pathname.js';
import { printable } from '../model/text.js';
import { CliError } from './cli-error.js';
import { EXIT } from './exit-codes.js';
import {
  exportOfLocation,
  isLocated,
  locate,
  MountTable,
  type NfsLocation,
  type NotNfs,
  parseMountinfo,
  sameHost,
} from './mountinfo.js';

/** A file or directory as the service must be told of it. */
export interface ServicePath {
  /** Name of a configured cache, or an address. */
  cache: string;
  export: string;
  /** Below the export, beginning with `/`. */
  path: Uint8Array;
}

const SLASH = 0x2f;
const NFS_PORT = 2049;
/** Directories whose real path is remembered: a list usually stays within a few. */
const MAX_DIRECTORIES = 20_000;
const LOOKUP_MS = 3_000;

const HOW_ELSE = 'Name it by --cache, --export and a path below the export instead.';

/** Knows what local paths are on the NFS server whose export is mounted here. */
export class LocalPaths {
  readonly #procFolder: string;
  readonly #caches: readonly Cache[];
  readonly #wanted: string | null;
  readonly #realDirectories = new Map<string, Promise<Buffer>>();
  readonly #servers = new Map<string, Promise<readonly Cache[]>>();
  #mountinfo: Buffer | null = null;
  #table = new MountTable([]);

  /**
   * @param procFolder where `mountinfo` is
   * @param caches what the service knows
   * @param wanted the cache to use, whatever the mount says of its address; null: find it by that
   */
  constructor(procFolder: string, caches: readonly Cache[], wanted: string | null) {
    this.#procFolder = procFolder;
    this.#caches = caches.filter((cache) => cache.configured);
    this.#wanted = wanted;
  }

  /**
   * Symbolic links are followed here, where their targets mean something. A file that is not there keeps its name:
   * the job will say so, together with what it says of all others.
   * @returns as many places as there are paths, in their order
   * @throws {CliError} usage, if a path is on no NFS version 3 mount or its export is not one of the cache
   */
  async find(paths: readonly Uint8Array[], kind: 'file' | 'directory'): Promise<ServicePath[]> {
    const real = await Promise.all(paths.map((path) => this.#realPath(Buffer.from(path))));
    // To look into a directory is what makes an automounter mount it; only then the table tells the truth.
    if (kind === 'directory') await Promise.all(real.map(lookInto));
    await this.#readTable();
    return Promise.all(
      real.map((path, i) => this.#placeOf(path, kind, printable(pathText(paths[i] as Uint8Array)))),
    );
  }

  async #readTable(): Promise<void> {
    const bytes = await readFile(join(this.#procFolder, 'mountinfo')).catch((error: Error) => {
      throw new CliError(`Cannot read the mount table: ${error.message}. ${HOW_ELSE}`, EXIT.usage);
    });
    if (this.#mountinfo?.equals(bytes)) return;
    this.#mountinfo = bytes;
    this.#table = new MountTable(parseMountinfo(bytes));
  }

  async #placeOf(real: Buffer, kind: 'file' | 'directory', shown: string): Promise<ServicePath> {
    const location = locate(this.#table, pathText(real), kind);
    if (!isLocated(location)) throw new CliError(`${shown} ${reasonText(location)} ${HOW_ELSE}`, EXIT.usage);
    const caches = await this.#cachesOf(location);
    if (caches.length === 0) {
      if (location.port !== null && location.port !== NFS_PORT) {
        throw new CliError(
          `${shown} is on ${location.server}, port ${location.port}, which the service has not among its caches. A cache with a port of its own must be configured there.`,
          EXIT.usage,
        );
      }
      const cache = this.#wanted ?? location.addresses[0] ?? location.server;
      return { cache, export: location.mounted, path: pathBytes(location.path) };
    }
    const found = caches.flatMap((cache) => {
      const place = exportOfLocation(location, cache.exports);
      return place ? [{ cache: cache.name, export: place.export, path: place.path }] : [];
    });
    const [first, second] = found;
    if (!first) {
      const names = caches.map((cache) => `${cache.name} (${(cache.exports ?? []).join(', ')})`).join(', ');
      throw new CliError(
        `${shown} is ${location.server}:${printable(location.mounted)} here, which is in no export of ${names}.`,
        EXIT.usage,
      );
    }
    if (second) {
      throw new CliError(
        `${shown} is on ${location.server}, which the service knows as ${found.map(({ cache }) => cache).join(' and ')}. Choose with --cache.`,
        EXIT.usage,
      );
    }
    return { ...first, path: pathBytes(first.path) };
  }

  async #realPath(given: Buffer): Promise<Buffer> {
    // A relative path stays one: the system resolves it, whatever bytes the name of the working directory has.
    const whole = given[0] === SLASH ? given : Buffer.concat([Buffer.from('./'), given]);
    let end = whole.length;
    while (end > 1 && whole[end - 1] === SLASH) end--;
    const slash = whole.lastIndexOf(SLASH, end - 1);
    const name = whole.subarray(slash + 1, end);
    const text = name.toString('latin1');
    if (text === '' || text === '.' || text === '..') return realOrNearest(whole);
    const directory = await this.#realDirectory(whole.subarray(0, Math.max(1, slash)));
    const path = Buffer.concat([
      directory,
      directory.length === 1 ? Buffer.alloc(0) : Buffer.of(SLASH),
      name,
    ]);
    const stats = await lstat(path).catch(() => null);
    return stats?.isSymbolicLink() ? realpath(path, { encoding: 'buffer' }).catch(() => path) : path;
  }

  #realDirectory(directory: Buffer): Promise<Buffer> {
    const key = directory.toString('latin1');
    const known = this.#realDirectories.get(key);
    if (known !== undefined) return known;
    if (this.#realDirectories.size >= MAX_DIRECTORIES) this.#realDirectories.clear();
    const real = realOrNearest(directory);
    this.#realDirectories.set(key, real);
    return real;
  }

  /** The configured caches behind a mount; none if it is an address that the service has not in its configuration. */
  #cachesOf(location: NfsLocation): Promise<readonly Cache[]> {
    if (this.#wanted !== null) {
      return Promise.resolve(this.#caches.filter((cache) => cache.name === this.#wanted));
    }
    const hosts = [location.server, ...location.addresses];
    const key = hosts.join(' ');
    const known = this.#servers.get(key);
    if (known !== undefined) return known;
    const caches = this.#cachesAt(hosts);
    this.#servers.set(key, caches);
    return caches;
  }

  async #cachesAt(hosts: readonly string[]): Promise<readonly Cache[]> {
    const at = (addresses: readonly string[]): boolean =>
      addresses.some((address) => hosts.some((host) => sameHost(address, host)));
    const literal = this.#caches.filter((cache) => at(cache.addresses));
    if (literal.length > 0) return literal;
    // The configuration may name hosts where the mount has their addresses.
    const resolved = await Promise.all(
      this.#caches.map(async (cache) => at((await Promise.all(cache.addresses.map(addressesOf))).flat())),
    );
    return this.#caches.filter((_, i) => resolved[i]);
  }
}

async function lookInto(directory: Buffer): Promise<void> {
  // Without the dot, the last component of a path triggers no mount.
  await stat(Buffer.concat([directory, Buffer.from('/.')])).catch(() => {});
}

/** The real path; of what is not there, that of the nearest directory above, and the rest as it is. */
async function realOrNearest(path: Buffer): Promise<Buffer> {
  try {
    return await realpath(path, { encoding: 'buffer' });
  } catch {
    const slash = path.lastIndexOf(SLASH);
    if (slash < 0 || path.length <= 1) return Buffer.of(SLASH);
    const above = await realOrNearest(path.subarray(0, Math.max(1, slash)));
    const rest = path.subarray(slash);
    return above.length === 1 ? rest : Buffer.concat([above, rest]);
  }
}

async function addressesOf(host: string): Promise<string[]> {
  if (isIP(host.replace(/^\[|\]$/g, '')) !== 0) return [];
  const late = new Promise<LookupAddress[]>((resolve) => setTimeout(resolve, LOOKUP_MS, []).unref());
  const found = await Promise.race([dns.lookup(host, { all: true }).catch(() => []), late]);
  return found.map(({ address }) => address);
}

function reasonText({ reason, mount }: NotNfs): string {
  const where = mount
    ? `${printable(mount.source)} (${mount.fsType}), mounted on ${printable(mount.mountPoint)}`
    : '';
  switch (reason) {
    case 'nfs4':
      return `is on ${where} with NFS version 4; a write-back needs the export as NFS version 3 knows it.`;
    case 'not-nfs':
      return `is not on an NFS mount but on ${where}.`;
    case 'no-mount':
      return 'is under no mount that this process can see.';
    case 'unreadable-source':
      return `is on ${where}, which names no server and path.`;
  }
}
