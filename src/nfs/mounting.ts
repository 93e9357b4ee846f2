import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  backoffMs,
  type Endpoint,
  registeredPort,
  resolveAddress,
  type SingleCall,
  withConnection,
} from './endpoint.js';
import { causeText, isDefinite, NfsError } from './errors.js';
import {
  EXPORT,
  type ExportEntry,
  MNT,
  MNT3_OK,
  MNTPATHLEN,
  MOUNT_PROGRAM,
  MOUNT_V3,
  MOUNTSTAT3,
  UMNT,
} from './mount3.js';
import type { FileHandle } from './nfs3.js';
import { AUTH_FLAVOR, AUTH_SYS, encodeAuth } from './rpc.js';
import type { CallLimit, NfsEvents, NfsTarget } from './target.js';

/** mountstat3 values that may be another one in a moment. */
const PASSING: ReadonlySet<number> = new Set([5, 10006, 10008]);
const MAX_PASSING_TRIES = 3;
/** Exports that a message lists. */
const MAX_LISTED = 20;
const UMNT_TIMEOUT_MS = 1000;

export interface Mounted {
  root: FileHandle;
  /** The mount service that gave it. */
  endpoint: Endpoint;
}

/**
 * Asks one address after the other for the root handle of an export. What may pass (no connection, not
 * registered) is tried again, with growing pauses, until the deadline; what will not pass is thrown at once.
 * @throws {NfsError} the trouble itself, also when it is the deadline that ends the tries
 */
export async function mountExport(
  target: NfsTarget,
  exportPath: Uint8Array,
  limit: CallLimit,
  events: NfsEvents = {},
): Promise<Mounted> {
  checkPath(exportPath);
  const { addresses } = target;
  const first = addresses.length > 1 ? randomInt(addresses.length) : 0;
  let trouble: NfsError | null = null;
  let isDown = false;
  let passing = 0;
  for (let round = 1; ; round++) {
    for (let i = 0; i < addresses.length; i++) {
      const address = addresses[(first + i) % addresses.length] as string;
      try {
        const mounted = await mountAt(address, target, exportPath, limit);
        if (isDown) events.up?.(address);
        return mounted;
      } catch (error) {
        const failure = asNfsError(error);
        if (failure.code === 'ABORTED') throw failure;
        if (failure.code === 'DEADLINE') throw trouble ?? failure;
        trouble = failure;
        const mayPass = failure.nfsStatus !== null && PASSING.has(failure.nfsStatus);
        if (mayPass ? ++passing >= MAX_PASSING_TRIES : isDefinite(failure)) throw failure;
      }
    }
    if (trouble === null) throw new NfsError('UNREACHABLE', 'the target has no mount address.');
    if (!isDown) {
      isDown = true;
      events.down?.(trouble);
    }
    const pauseMs = Math.min(backoffMs(round), limit.deadlineAt - Date.now());
    if (pauseMs > 0) await pause(pauseMs, limit.signal);
    if (Date.now() >= limit.deadlineAt) throw trouble;
  }
}

/** Tells the server that the export is no longer used. Only its list of clients depends on it: failures are ignored. */
export async function unmountExport(
  target: NfsTarget,
  exportPath: Uint8Array,
  endpoint: Endpoint,
): Promise<void> {
  const limit = { deadlineAt: Date.now() + UMNT_TIMEOUT_MS };
  try {
    await withConnection(endpoint, mountAuth(target), limit, (call) => call(UMNT, { path: exportPath }));
  } catch {
    // The server may be gone, which is as good.
  }
}

async function mountAt(
  address: string,
  target: NfsTarget,
  exportPath: Uint8Array,
  limit: CallLimit,
): Promise<Mounted> {
  const { ports, privilegedPort } = target;
  let failure: unknown;
  for (const host of await resolveAddress(address, limit)) {
    try {
      const portmapper = { host, port: ports.portmap, privilegedPort };
      const mount = { program: MOUNT_PROGRAM, version: MOUNT_V3, name: 'MOUNT' };
      const port = ports.mount ?? (await registeredPort(portmapper, mount, limit));
      const endpoint = { host, port, privilegedPort };
      const root = await withConnection(endpoint, mountAuth(target), limit, (call) =>
        callMnt(call, exportPath, address),
      );
      return { root, endpoint };
    } catch (error) {
      failure = error;
      if (error instanceof NfsError && isDefinite(error)) throw error;
    }
  }
  throw failure ?? new NfsError('NAME_NOT_RESOLVED', `the name ${address} has no IP address.`);
}

async function callMnt(call: SingleCall, path: Uint8Array, address: string): Promise<FileHandle> {
  const { status, handle, flavors } = await call(MNT, { path });
  if (status !== MNT3_OK || handle === null) throw await mountError(call, status, pathText(path), address);
  // No list at all comes from servers that know AUTH_SYS only.
  if (flavors.length > 0 && !flavors.includes(AUTH_SYS)) {
    const offered = flavors.map((flavor) => AUTH_FLAVOR[flavor] ?? `flavour ${flavor}`).join(', ');
    throw new NfsError(
      'AUTH_REFUSED',
      `${address} exports ${pathText(path)} for ${offered} only. AUTH_SYS is what this client speaks: add sec=sys to the export for this host.`,
    );
  }
  return handle;
}

/** Servers are sparing with the reason (Ganesha answers 13 to everything): the list of exports tells more. */
async function mountError(
  call: SingleCall,
  status: number,
  path: string,
  address: string,
): Promise<NfsError> {
  const name = MOUNTSTAT3[status];
  const answer = `${address} refuses to mount ${path} with ${name === undefined ? `status ${status}` : `${name} (${status})`}`;
  let exports: ExportEntry[];
  try {
    exports = await call(EXPORT, null);
  } catch (error) {
    return new NfsError(
      'MOUNT_REFUSED',
      `${answer}, and does not tell its exports (${causeText(error)}). Check the path, and the export policy for this host.`,
      { nfsStatus: status, cause: error },
    );
  }
  const paths = exports.map((entry) => entry.path);
  const wanted = withoutSlash(path);
  const entry = exports.find((each) => withoutSlash(each.path) === wanted);
  if (entry !== undefined) {
    const allowed = entry.groups.length === 0 ? 'everybody' : entry.groups.slice(0, MAX_LISTED).join(', ');
    return new NfsError(
      'MOUNT_REFUSED',
      `${answer}, although it exports that path, to ${allowed}. Check the export policy for this host: its address, and whether a privileged source port is wanted.`,
      { nfsStatus: status },
    );
  }
  const listed =
    paths.length === 0
      ? 'It lists no exports.'
      : `Its exports: ${paths.slice(0, MAX_LISTED).join(', ')}${paths.length > MAX_LISTED ? `, and ${paths.length - MAX_LISTED} more` : ''}.`;
  return new NfsError('EXPORT_NOT_FOUND', `${answer}: that path is not among its exports. ${listed}`, {
    nfsStatus: status,
  });
}

function mountAuth(target: NfsTarget): Buffer {
  return encodeAuth({ stamp: 0, machineName: target.machineName, ...target.credential });
}

function checkPath(path: Uint8Array): void {
  if (path.length === 0 || path.length > MNTPATHLEN || path.includes(0)) {
    throw new NfsError(
      'EXPORT_NOT_FOUND',
      `an export path has 1 to ${MNTPATHLEN} bytes and no NUL; this one has ${path.length} bytes.`,
    );
  }
}

function pathText(path: Uint8Array): string {
  return Buffer.from(path).toString('utf8');
}

function withoutSlash(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}

function asNfsError(error: unknown): NfsError {
  return error instanceof NfsError ? error : new NfsError('UNREACHABLE', causeText(error), { cause: error });
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw new NfsError('ABORTED', 'aborted', { cause: error });
  }
}
