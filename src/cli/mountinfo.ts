import { pathText } from '../model/pathname.js';

/**
 * The mount table of Linux as proc_pid_mountinfo(5) describes it, and the way from a local path to the server and
 * export behind it. Pure: text in, answers out. Paths are text as in model/pathname.ts.
 */

export interface Mount {
  id: number;
  parentId: number;
  /** Where in its file system the mount begins. NFS always says `/`: what is bound is part of its `source`. */
  root: string;
  mountPoint: string;
  fsType: string;
  source: string;
  /** Options of the file system, e.g. `vers=3`; a bare word has the value ''. */
  options: ReadonlyMap<string, string>;
}

/** Reads a whole mountinfo file. Lines that are none are left out: later kernels may add what we do not know. */
export function parseMountinfo(bytes: Uint8Array): Mount[] {
  const mounts: Mount[] = [];
  // Names are bytes, so the split must not decode them: latin1 keeps every byte as one character.
  const lines = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1').split('\n');
  for (const line of lines) {
    const mount = parseLine(line);
    if (mount) mounts.push(mount);
  }
  return mounts;
}

function parseLine(line: string): Mount | null {
  const fields = line.split(' ');
  // Any number of optional fields stands between the sixth field and a lone hyphen.
  const hyphen = fields.indexOf('-', 6);
  const [id, parentId, , root, mountPoint] = fields;
  if (hyphen < 0 || root === undefined || mountPoint === undefined) return null;
  const fsType = fields[hyphen + 1];
  const source = fields[hyphen + 2];
  if (fsType === undefined || source === undefined || !/^\d+$/.test(`${id}${parentId}`)) return null;
  const options = new Map<string, string>();
  for (const option of (fields[hyphen + 3] ?? '').split(',')) {
    const equals = option.indexOf('=');
    if (option !== '')
      options.set(equals < 0 ? option : option.slice(0, equals), optionValue(option, equals));
  }
  return {
    id: Number(id),
    parentId: Number(parentId),
    root: unescaped(root),
    mountPoint: unescaped(mountPoint),
    fsType: unescaped(fsType),
    source: unescaped(source),
    options,
  };
}

function optionValue(option: string, equals: number): string {
  return equals < 0 ? '' : unescaped(option.slice(equals + 1));
}

/** The kernel writes space, tab, newline and backslash (and some a "#") as `\` and three octal digits. */
function unescaped(latin1: string): string {
  const bytes = latin1.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return pathText(Buffer.from(bytes, 'latin1'));
}

/** Finds the mount that a path leads to. */
export class MountTable {
  readonly #byPlace = new Map<string, Mount>();
  readonly #size: number;

  constructor(mounts: readonly Mount[]) {
    this.#size = mounts.length;
    const ids = new Set(mounts.map((mount) => mount.id));
    // The root of the table hangs on a mount outside of it (or, at boot, on itself). The last of a place is on top.
    for (const mount of mounts) {
      const hangs = ids.has(mount.parentId) && mount.parentId !== mount.id;
      this.#byPlace.set(`${hangs ? mount.parentId : 'none'} ${mount.mountPoint}`, mount);
    }
  }

  /**
   * The mount that an absolute path without symbolic links leads to. It walks as the kernel does, from mount to the
   * mount upon it: the longest mount point would be wrong where a later mount covers one of its parents.
   * @returns null if the table has no mount above the path
   */
  mountOf(path: string): Mount | null {
    let current: Mount | null = null;
    for (const place of placesOnTheWay(path)) {
      // A step leads to a mount that hangs on the last one. In a table that is no tree, the count ends it.
      for (let steps = 0; steps <= this.#size; steps++) {
        const upon: Mount | undefined = this.#byPlace.get(`${current ? current.id : 'none'} ${place}`);
        if (!upon) break;
        current = upon;
      }
    }
    return current;
  }
}

/** `/a/b` → `/`, `/a`, `/a/b`. */
function placesOnTheWay(path: string): string[] {
  const places = ['/'];
  for (let end = path.indexOf('/', 1); end > 0; end = path.indexOf('/', end + 1)) {
    places.push(path.slice(0, end));
  }
  if (path !== '/') places.push(path);
  return places;
}

/** A file as the NFS server knows it. */
export interface NfsLocation {
  /** The server as the mount names it, e.g. `cache.example` or `2001:db8::1`. */
  server: string;
  /** Addresses that the kernel uses for NFS and MOUNT (`addr=`, `mountaddr=`), without duplicates. */
  addresses: string[];
  /** The port of NFS, if the mount has one of its own (`port=`). */
  port: number | null;
  /** What was mounted, e.g. `/exports/a`: an export, or a directory of one. */
  mounted: string;
  /** The file below `mounted`, beginning with `/`. */
  path: string;
}

export type NotNfsReason = 'no-mount' | 'not-nfs' | 'nfs4' | 'unreadable-source';

/** Why a path has no location that NFS version 3 could use; `mount` is null if nothing is mounted above it. */
export interface NotNfs {
  reason: NotNfsReason;
  mount: Mount | null;
}

export function isLocated(result: NfsLocation | NotNfs): result is NfsLocation {
  return 'server' in result;
}

/** Where an absolute local path without symbolic links lies on the NFS server that is mounted there. */
export function locate(table: MountTable, path: string, kind: 'file' | 'directory'): NfsLocation | NotNfs {
  const mount = table.mountOf(path);
  if (!mount) return { reason: 'no-mount', mount };
  const version = mount.options.get('vers') ?? mount.options.get('nfsvers') ?? '';
  if (mount.fsType === 'nfs4' || (mount.fsType === 'nfs' && version.startsWith('4'))) {
    // The path in a version 4 mount is one of the server's pseudo file system, not the one of an export.
    return { reason: 'nfs4', mount };
  }
  if (mount.fsType !== 'nfs') return { reason: 'not-nfs', mount };
  const source = /^(?:\[(?<v6>[^\]]+)\]|(?<name>[^:/[\]]+)):(?<path>\/.*)$/s.exec(mount.source);
  const server = source?.groups?.v6 ?? source?.groups?.name;
  const exported = source?.groups?.path;
  if (server === undefined || exported === undefined) return { reason: 'unreadable-source', mount };

  let mounted = joined(exported, '');
  let below = joined(mount.root, path.slice(mount.mountPoint === '/' ? 0 : mount.mountPoint.length));
  if (mount.root !== '/' && mounted.endsWith(mount.root))
    mounted = joined(mounted.slice(0, -mount.root.length), '');
  if (below === '/' && kind === 'file') {
    // A single file can be bound somewhere: then the file itself is "what was mounted".
    const slash = mounted.lastIndexOf('/');
    below = mounted.slice(slash);
    mounted = mounted.slice(0, slash) || '/';
  }
  return {
    server,
    addresses: [...new Set(['addr', 'mountaddr'].flatMap((name) => mount.options.get(name) ?? []))],
    port: portOf(mount.options.get('port')),
    mounted,
    path: below,
  };
}

function portOf(option: string | undefined): number | null {
  const port = Number(option ?? '');
  return Number.isInteger(port) && port > 0 && port < 65536 ? port : null;
}

/** Two parts of a path with one slash between and none at the end. */
function joined(start: string, rest: string): string {
  const path = `${start.replace(/\/+$/, '')}/${rest.replace(/^\/+/, '')}`.replace(/\/+$/, '');
  return path === '' ? '/' : path;
}

/**
 * The export to mount, and the path in it. Clients may mount a directory below an export, and a bind mount looks
 * the same, so what the service is known to export decides where the one ends and the other begins.
 * @param exports null: anything may be mounted; what the client mounted, the service can mount as well
 * @returns null if none of `exports` holds the file
 */
export function exportOfLocation(
  location: Pick<NfsLocation, 'mounted' | 'path'>,
  exports: readonly string[] | null,
): { export: string; path: string } | null {
  if (exports === null) return { export: location.mounted, path: location.path };
  const whole = joined(location.mounted, location.path);
  let best: { export: string; path: string } | null = null;
  for (const name of exports) {
    const trimmed = joined(name, '');
    const inside = trimmed === '/' || whole === trimmed || whole.startsWith(`${trimmed}/`);
    if (!inside || (best && trimmed.length <= joined(best.export, '').length)) continue;
    best = { export: name, path: trimmed === '/' ? whole : whole.slice(trimmed.length) || '/' };
  }
  return best;
}

/** Two ways of writing one host: names without regard to case or a final dot, IPv6 in its many spellings. */
export function sameHost(a: string, b: string): boolean {
  return canonicalHost(a) === canonicalHost(b);
}

function canonicalHost(host: string): string {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (!bare.includes(':')) return bare.replace(/\.$/, '');
  const [address, zone] = bare.split('%');
  const url = `http://[${address}]/`;
  return URL.canParse(url) ? `${new URL(url).hostname.slice(1, -1)}${zone ? `%${zone}` : ''}` : bare;
}
