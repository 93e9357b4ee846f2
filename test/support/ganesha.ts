import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, constants, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withConnection } from '../../src/nfs/endpoint.js';
import { NULL as MOUNT_NULL } from '../../src/nfs/mount3.js';
import { NULL as NFS_NULL } from '../../src/nfs/nfs3-procedures.js';
import { encodeAuth } from '../../src/nfs/rpc.js';
import { freePorts } from './free-ports.js';

/**
 * A real NFSv3 server for tests: NFS-Ganesha on loopback, on free ports, with a port mapper of its own.
 *
 * Ganesha does not start unless it can register with rpcbind over /run/rpcbind.sock, and rpcbind wants port 111:
 * both belong to the whole machine. So the two get a mount namespace of their own, with an empty /run and an
 * /etc/services in which the port mapper has a free port. The network stays the machine's: tests reach all ports.
 */

export interface GaneshaExport {
  /** An existing directory; also what MOUNT calls the export. */
  path: string;
  pseudo?: string;
  /** Default `sys`. */
  secType?: string;
  /** Only calls from privileged source ports; default false. */
  privilegedPort?: boolean;
  /** Default `No_Root_Squash`. */
  squash?: string;
}

export interface GaneshaOptions {
  exports: readonly GaneshaExport[];
  /** Lines for the NFS_CORE_PARAM block. */
  coreParameters?: string;
}

export interface Ganesha {
  host: string;
  nfsPort: number;
  mountPort: number;
  /** The port of its rpcbind, which knows NFS and MOUNT over IPv4 and IPv6. */
  portmapPort: number;
  readonly pid: number;
  /** Kills the server, leaves it dead for that long, starts it again on the same ports and waits until it answers. */
  restart(downMs: number): Promise<void>;
  /** Kills the server; {@link start} brings it back. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Ends all processes and removes all files. */
  stop(): Promise<void>;
}

const HOST = '127.0.0.1';
const START_TIMEOUT_MS = 15_000;
const START_TRIES = 3;

/** Starts a server, or says why none can run here. */
export async function startGanesha(options: GaneshaOptions): Promise<Ganesha | { skip: string }> {
  if (process.platform !== 'linux') return { skip: 'NFS-Ganesha is tested on Linux only' };
  if (process.getuid?.() !== 0) return { skip: 'NFS-Ganesha needs root' };
  for (const program of ['ganesha.nfsd', 'rpcbind', 'unshare', 'nsenter', 'setpriv']) {
    if ((await findProgram(program)) === null) {
      return { skip: `${program} is not installed (Debian: nfs-ganesha nfs-ganesha-vfs rpcbind util-linux)` };
    }
  }
  let reason = '';
  // A port that was free a moment ago may be taken when the server wants it.
  for (let i = 0; i < START_TRIES; i++) {
    const server = new GaneshaProcess(options);
    try {
      await server.open();
      return server;
    } catch (error) {
      reason = `NFS-Ganesha does not start here: ${(error as Error).message}`;
      await server.stop();
    }
  }
  return { skip: reason };
}

class GaneshaProcess implements Ganesha {
  readonly host = HOST;
  nfsPort = 0;
  mountPort = 0;
  portmapPort = 0;
  readonly #options: GaneshaOptions;
  #folder = '';
  /** The shell that holds the mount namespace and rpcbind; it ends when its standard input does. */
  #holder: ChildProcess | null = null;
  #server: ChildProcess | null = null;
  #epoch = Math.floor(Date.now() / 1000);

  constructor(options: GaneshaOptions) {
    this.#options = options;
  }

  get pid(): number {
    return this.#server?.pid ?? 0;
  }

  async open(): Promise<void> {
    this.#folder = await mkdtemp(join(tmpdir(), 'wb-ganesha-'));
    [this.nfsPort, this.mountPort, this.portmapPort] = (await freePorts(3)) as [number, number, number];
    await writeFile(join(this.#folder, 'ganesha.conf'), this.#config());
    await this.#openNamespace();
    await this.start();
  }

  async start(): Promise<void> {
    const log = join(this.#folder, 'ganesha.log');
    const server = spawn(
      // pdeathsig: a test run that is killed takes its server with it.
      'setpriv',
      ['--pdeathsig', 'KILL', 'nsenter', '--mount', '--target', String(this.#holder?.pid)].concat([
        'ganesha.nfsd',
        '-F',
        '-f',
        join(this.#folder, 'ganesha.conf'),
        '-L',
        log,
        '-p',
        join(this.#folder, 'ganesha.pid'),
        // Its write verifier is the second it was started in: two starts within one second must differ too.
        '-E',
        String(this.#epoch++),
      ]),
      { stdio: 'ignore' },
    );
    this.#server = server;
    const deadlineAt = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      if (server.exitCode !== null || server.signalCode !== null || Date.now() > deadlineAt) {
        throw new Error(lastLines(await readFile(log, 'utf8').catch(() => 'no log')));
      }
      if (await this.#answers()) return;
      await sleep(30);
    }
  }

  async kill(): Promise<void> {
    await end(this.#server, 'SIGKILL');
    this.#server = null;
  }

  async restart(downMs: number): Promise<void> {
    await this.kill();
    await sleep(downMs);
    await this.start();
  }

  async stop(): Promise<void> {
    await this.kill();
    const holder = this.#holder;
    this.#holder = null;
    if (holder !== null) {
      const gone = holder.exitCode !== null || once(holder, 'exit');
      holder.stdin?.end();
      await gone;
    }
    if (this.#folder !== '') await rm(this.#folder, { recursive: true, force: true });
  }

  async #openNamespace(): Promise<void> {
    await mkdir(join(this.#folder, 'state'));
    const services = join(this.#folder, 'services');
    const script = `
      set -e
      mount --make-rprivate /
      grep -vE '^(sunrpc|portmapper)[[:space:]]' /etc/services > '${services}' || true
      printf 'sunrpc %s/tcp portmapper\\nsunrpc %s/udp portmapper\\n' ${this.portmapPort} ${this.portmapPort} >> '${services}'
      mount --bind '${services}' /etc/services
      mount -t tmpfs none /run
      mkdir -p /run/rpcbind
      mkdir -p /var/lib/nfs
      mount --bind '${join(this.#folder, 'state')}' /var/lib/nfs
      mkdir -p /var/lib/nfs/ganesha
      rpcbind -f &
      while ! [ -S /run/rpcbind.sock ]; do kill -0 $!; sleep 0.02; done
      echo ready
      read -r _ || true
      kill $!
      wait $! || true
    `;
    const holder = spawn('unshare', ['--mount', 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#holder = holder;
    let said = '';
    let complaint = '';
    holder.stdin.on('error', () => {});
    holder.stderr.on('data', (chunk) => {
      complaint += String(chunk);
    });
    await new Promise<void>((resolve, reject) => {
      holder.once('error', reject);
      holder.once('exit', () => reject(new Error(`no mount namespace or no rpcbind: ${complaint.trim()}`)));
      holder.stdout.on('data', (chunk) => {
        said += String(chunk);
        if (said.includes('ready')) resolve();
      });
    });
  }

  async #answers(): Promise<boolean> {
    const limit = { deadlineAt: Date.now() + 1000 };
    const auth = encodeAuth(null);
    try {
      const nfs = { host: HOST, port: this.nfsPort, privilegedPort: false };
      await withConnection(nfs, auth, limit, (call) => call(NFS_NULL, null));
      const mount = { host: HOST, port: this.mountPort, privilegedPort: false };
      await withConnection(mount, auth, limit, (call) => call(MOUNT_NULL, null));
      return true;
    } catch {
      return false;
    }
  }

  #config(): string {
    const exports = this.#options.exports.map(
      (each, i) => `
EXPORT {
  Export_Id = ${i + 1};
  Path = "${each.path}";
  Pseudo = "${each.pseudo ?? `/export${i + 1}`}";
  Protocols = 3;
  Transports = TCP;
  Access_Type = RW;
  Squash = ${each.squash ?? 'No_Root_Squash'};
  SecType = ${each.secType ?? 'sys'};
  PrivilegedPort = ${each.privilegedPort ?? false};
  FSAL { Name = VFS; }
}`,
    );
    return `
NFS_CORE_PARAM {
  Protocols = 3;
  Enable_NLM = false;
  Enable_RQUOTA = false;
  Enable_UDP = false;
  NFS_Port = ${this.nfsPort};
  MNT_Port = ${this.mountPort};
  Bind_addr = ${HOST};
  ${this.#options.coreParameters ?? ''}
}
NFSv4 { Graceless = true; }
NFS_KRB5 { Active_krb5 = false; }
LOG { Default_Log_Level = EVENT; }
${exports.join('\n')}
`;
  }
}

async function end(child: ChildProcess | null, signal: NodeJS.Signals): Promise<void> {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill(signal);
  await gone;
}

async function findProgram(name: string): Promise<string | null> {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  for (const folder of folders) {
    const path = join(folder, name);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return null;
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-3).join(' | ').slice(-600);
}
