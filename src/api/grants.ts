import { BrokerError } from '../model/errors.js';
import type { FlushJobOptions, Job } from '../model/job.js';
import { PathScope } from '../model/path-scope.js';
import { pathBytes, pathText } from '../model/pathname.js';
import type { CacheGrant, NodeGrant, Principal } from '../model/principal.js';
import type { FileCheck, FlushTarget, TransferTarget } from '../store/types.js';

/** What a principal may flush and transfer. What it asks for beyond that refuses the whole request. */

const SHOWN_CHARACTERS = 200;

/** True if a request may name files that the principal may not flush. */
export function isConfined({ caches }: Principal): boolean {
  return caches.some(({ prefixes }) => !PathScope.of(prefixes).isEverything);
}

export function mayFlush({ caches }: Principal, cache: string): boolean {
  return grantsFor(caches, cache).length > 0;
}

export function mayTransfer({ nodes }: Principal, node: string): boolean {
  return grantsFor(nodes, node).length > 0;
}

/** @throws {BrokerError} CACHE_NOT_ALLOWED; PATH_NOT_ALLOWED, if nothing of the export is granted */
export function flushGrant(
  principal: Principal,
  { cache, export: exportPath }: Pick<FlushTarget, 'cache' | 'export'>,
  { pathsAre, clientMount }: Pick<FlushJobOptions, 'pathsAre' | 'clientMount'>,
): FileCheck {
  const grants = grantsFor(principal.caches, cache);
  if (grants.length === 0) {
    throw new BrokerError(
      'CACHE_NOT_ALLOWED',
      `The principal ${quoted(principal.name)} may not flush the cache ${quoted(cache)}; it may flush ${listed(principal.caches)}.`,
      { pointer: '/cache' },
    );
  }
  const prefixes = [...new Set(grants.flatMap((grant) => grant.prefixes))];
  const scope = PathScope.of(prefixes);
  const inExport = scope.within(exportPath);
  const refuse = (what: string, pointer: string): never => {
    throw new BrokerError(
      'PATH_NOT_ALLOWED',
      `The principal ${quoted(principal.name)} may flush of the cache ${quoted(cache)} only what lies in ${prefixes.map(quoted).join(', ')}, named without ".."; ${what} does not.`,
      { pointer },
    );
  };
  if (inExport.isEmpty) refuse(`the export ${quoted(exportPath)}`, '/export');
  const submitted =
    pathsAre === 'export' ? inExport : pathsAre === 'client' ? scope.under(clientMount ?? '/') : scope;
  const check = (path: Uint8Array, where: string): void => {
    if (!inExport.isEverything && !submitted.holds(path)) refuse(shown(path), where);
  };
  return {
    asks: !inExport.isEverything,
    ...(!inExport.isEverything && { confinedTo: inExport.paths }),
    checkFile: (file, where) => check('path' in file ? file.path : file, where),
    checkDirectory: ({ path }, where) => check(pathBytes(path), where),
  };
}

/** @throws {BrokerError} NODE_NOT_ALLOWED */
export function transferGrant(principal: Principal, { node }: Pick<TransferTarget, 'node'>): FileCheck {
  const grants = grantsFor(principal.nodes, node);
  if (grants.length === 0) {
    throw new BrokerError(
      'NODE_NOT_ALLOWED',
      `The principal ${quoted(principal.name)} may not transfer files of the node ${quoted(node)}; it may of ${listed(principal.nodes)}.`,
      { pointer: '/node' },
    );
  }
  // A source and a destination must be granted together.
  const pairs = grants.map((grant: NodeGrant) => ({
    sources: PathScope.of(grant.sourceRoots),
    destinations: PathScope.of(grant.destinationRoots),
  }));
  const asks = !pairs.some(({ sources, destinations }) => sources.isEverything && destinations.isEverything);
  const check = (source: Uint8Array, destination: Uint8Array, where: string): void => {
    if (!asks) return;
    const granted = pairs.some(
      ({ sources, destinations }) => sources.holds(source) && destinations.holds(destination),
    );
    if (granted) return;
    const roots = grants.map(
      ({ sourceRoots, destinationRoots }) =>
        `from ${sourceRoots.map(quoted).join(', ')} to ${destinationRoots.map(quoted).join(', ')}`,
    );
    throw new BrokerError(
      'PATH_NOT_ALLOWED',
      `The principal ${quoted(principal.name)} may copy ${roots.join(', or ')}, named without ".."; ${shown(source)} to ${shown(destination)} is not that.`,
      { pointer: where },
    );
  };
  return {
    asks,
    checkFile(file, where) {
      if (!('path' in file) || file.destination === null)
        throw new Error('a file of a transfer has a destination');
      check(file.path, file.destination, where);
    },
    checkDirectory({ path, destination }, where) {
      if (destination !== undefined) check(pathBytes(path), pathBytes(destination), where);
      else if (asks) {
        throw new BrokerError(
          'PATH_NOT_ALLOWED',
          `What an SCR transfer file lists is known to its node alone; the principal ${quoted(principal.name)} may transfer only within some directories. Name files or directories instead.`,
          { pointer: where },
        );
      }
    },
  };
}

/** For what a job of before asks for. @throws {BrokerError} CACHE_NOT_ALLOWED, NODE_NOT_ALLOWED, PATH_NOT_ALLOWED */
export function jobGrant(principal: Principal, { cache, export: exportPath, node, options }: Job): FileCheck {
  if (node !== null) return transferGrant(principal, { node });
  return flushGrant(principal, { cache: cache ?? '', export: exportPath ?? '/' }, options as FlushJobOptions);
}

/** Files of a body whose other members are not known yet: kept as they arrived, and checked in the end. */
export class UncheckedFiles {
  #bytes = Buffer.alloc(64 * 1024);
  #length = 0;

  /** Paths have no NUL. */
  add(path: Uint8Array): void {
    const length = this.#length + path.length + 1;
    if (length > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * this.#bytes.length));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    this.#bytes.set(path, this.#length);
    this.#bytes[length - 1] = 0;
    this.#length = length;
  }

  /** @throws {BrokerError} PATH_NOT_ALLOWED */
  check(grant: FileCheck): void {
    for (let start = 0, i = 0; grant.asks && start < this.#length; i++) {
      const end = this.#bytes.indexOf(0, start);
      grant.checkFile(this.#bytes.subarray(start, end), `/files/${i}`);
      start = end + 1;
    }
  }
}

function grantsFor<Grant extends CacheGrant | NodeGrant>(grants: readonly Grant[], name: string): Grant[] {
  return grants.filter((grant) => grant.name === '*' || grant.name === name);
}

function listed(grants: readonly (CacheGrant | NodeGrant)[]): string {
  return grants.length === 0 ? 'none' : [...new Set(grants.map(({ name }) => quoted(name)))].join(', ');
}

function shown(path: Uint8Array): string {
  const text = pathText(path);
  return quoted(text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text);
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
