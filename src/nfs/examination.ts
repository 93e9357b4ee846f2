import {
  type Endpoint,
  registeredPort,
  resolveAddress,
  type SingleCall,
  withConnection,
} from './endpoint.js';
import { causeText, NfsError } from './errors.js';
import { NfsExport } from './export.js';
import { EXPORT, MNT, NULL as MOUNT_NULL, MOUNT_PROGRAM, MOUNT_V3 } from './mount3.js';
import { NFS_PROGRAM, NFS_V3, nfsStatusText } from './nfs3.js';
import { NULL as NFS_NULL } from './nfs3-procedures.js';
import { AUTH_FLAVOR, encodeAuth } from './rpc.js';
import type { CallLimit, NfsTarget } from './target.js';

/** What was found at one step of the way to an export. */
export interface Finding {
  level: 'ok' | 'warn' | 'fail';
  /** What was tried, what came of it, and for a failure what to do. */
  message: string;
}

export interface ExaminationOptions {
  /** For each step. */
  timeoutMs: number;
  signal: AbortSignal;
}

/** NULL calls that are timed; the shortest counts. */
const ROUND_TRIPS = 5;
/** Exports that are mounted, and named, where none are configured. */
const MAX_EXPORTS = 5;
const MAX_NAMED = 20;

/**
 * Goes the way of a flush to one address, step by step, and tells of each: the name, the port mapper, MOUNT and NFS by
 * NULL calls, the list of exports, and a mount of each export with a GETATTR of its root. A step that others need ends
 * the way when it fails. Never throws.
 * @param exports the paths to be mounted; null: the first that are listed
 */
export async function* examineAddress(
  address: string,
  target: NfsTarget,
  exports: readonly string[] | null,
  { timeoutMs, signal }: ExaminationOptions,
): AsyncGenerator<Finding> {
  const limit = (): CallLimit => ({ deadlineAt: Date.now() + timeoutMs, signal });
  const { ports, privilegedPort } = target;
  let host: string;
  try {
    const hosts = await resolveAddress(address, limit());
    const [first] = hosts;
    if (first === undefined) {
      yield fail(`${address} has no IP address. Check the address in the configuration, and the resolver.`);
      return;
    }
    host = first;
    yield ok(hosts.join() === address ? `${address} is an IP address` : `${address} is ${hosts.join(', ')}`);
  } catch (error) {
    yield fail(textOf(error));
    return;
  }

  const found = { mount: ports.mount, nfs: ports.nfs };
  if (ports.mount !== null && ports.nfs !== null) {
    yield ok('the port mapper is not needed: the ports of MOUNT and NFS are configured');
  }
  const programs = [
    { key: 'mount', program: MOUNT_PROGRAM, version: MOUNT_V3, name: 'MOUNT' },
    { key: 'nfs', program: NFS_PROGRAM, version: NFS_V3, name: 'NFS' },
  ] as const;
  for (const { key, ...program } of programs) {
    if (found[key] !== null) continue;
    try {
      found[key] = await registeredPort({ host, port: ports.portmap, privilegedPort }, program, limit());
      yield ok(`the port mapper has ${program.name} version 3 at port ${found[key]}`);
    } catch (error) {
      yield fail(textOf(error));
    }
  }

  const auth = encodeAuth({ stamp: 0, machineName: target.machineName, ...target.credential });
  if (found.nfs !== null) {
    yield await nullFinding('NFS', { host, port: found.nfs, privilegedPort }, (call) => call(NFS_NULL, null));
  }
  if (found.mount === null) return;
  const mount = { host, port: found.mount, privilegedPort };
  const mountAnswers = await nullFinding('MOUNT', mount, (call) => call(MOUNT_NULL, null));
  yield mountAnswers;
  if (mountAnswers.level === 'fail') return;

  let listed: string[] | null = null;
  try {
    const entries = await withConnection(mount, auth, limit(), (call) => call(EXPORT, null));
    listed = entries.map(({ path }) => path);
    const names = listed.slice(0, MAX_NAMED).join(', ');
    const more = listed.length > MAX_NAMED ? `, and ${listed.length - MAX_NAMED} more` : '';
    yield listed.length > 0 ? ok(`it lists the exports ${names}${more}`) : warn('it lists no exports');
  } catch (error) {
    yield warn(`it does not tell its exports (${causeText(error)}). A mount may work nevertheless.`);
  }
  for (const path of exports ?? listed?.slice(0, MAX_EXPORTS) ?? []) {
    if (exports !== null && listed !== null && !listed.includes(path)) {
      yield warn(
        `the export ${path} is configured and not listed. Check its spelling; some servers do not list what can be mounted.`,
      );
    }
    if (found.nfs !== null) yield await mountFinding(path, mount);
  }

  async function nullFinding(
    name: string,
    endpoint: Endpoint,
    ask: (call: SingleCall) => Promise<unknown>,
  ): Promise<Finding> {
    try {
      let shortestMs = Number.POSITIVE_INFINITY;
      await withConnection(endpoint, auth, limit(), async (call) => {
        for (let i = 0; i < ROUND_TRIPS; i++) {
          const askedAt = performance.now();
          await ask(call);
          shortestMs = Math.min(shortestMs, performance.now() - askedAt);
        }
      });
      return ok(`${name} at port ${endpoint.port} answers in ${shortestMs.toFixed(1)} ms`);
    } catch (error) {
      return fail(`${name} NULL at port ${endpoint.port}: ${textOf(error)}`);
    }
  }

  async function mountFinding(path: string, endpoint: Endpoint): Promise<Finding> {
    try {
      // Before the mount proper, whose end takes this one out of the server's list as well.
      const { flavors } = await withConnection(endpoint, auth, limit(), (call) =>
        call(MNT, { path: Buffer.from(path) }),
      );
      const mounted = await NfsExport.mount({ ...target, addresses: [address] }, path, limit());
      try {
        const { status } = await mounted.getattr(mounted.root, limit());
        const { uid, gid } = target.credential;
        const identity = `uid ${uid}, gid ${gid}`;
        if (status !== 0) {
          return fail(
            `${path} can be mounted, but GETATTR of its root as ${identity} answers ${nfsStatusText(status)}. Check the export policy and the credential.`,
          );
        }
        const names = flavors.map((flavor) => AUTH_FLAVOR[flavor] ?? String(flavor)).join(', ');
        const offered = names === '' ? '' : ` (flavours of the export: ${names})`;
        return ok(`${path} can be mounted, and its root answers ${identity} with AUTH_SYS${offered}`);
      } finally {
        await mounted.close();
      }
    } catch (error) {
      return fail(`${path}: ${textOf(error)}`);
    }
  }
}

function ok(message: string): Finding {
  return { level: 'ok', message };
}

function warn(message: string): Finding {
  return { level: 'warn', message };
}

function fail(message: string): Finding {
  return { level: 'fail', message };
}

function textOf(error: unknown): string {
  return error instanceof NfsError ? error.message : causeText(error);
}
