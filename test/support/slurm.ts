import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePorts } from './free-ports.js';
import { until } from './until.js';

/** A whole Slurm on this host: munged, slurmctld and two slurmd, in a folder and on ports of their own. */

const PROGRAMS = ['munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'squeue', 'sinfo', 'scontrol'];
// Compiled to build/test/support/.
const BUILD = fileURLToPath(new URL('../../', import.meta.url));
const ROOT = join(BUILD, '..');
const NODES = ['n1', 'n2'];
const START_MS = 60_000;
/** Batch jobs run under a user who is nobody special: Slurm gives root no burst buffer. */
const NOBODY = 65_534;

const run = promisify(execFile);

export interface SlurmOptions {
  /** More lines of slurm.conf; `FOLDER` is the folder of all. */
  config: readonly string[];
}

const JWT_PLUGIN = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/slurm-wlm/auth_jwt.so`;

/** Why there can be no Slurm here, or null. */
export async function whyNoSlurm(): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'Slurm runs batch jobs of other users: it needs root';
  for (const program of PROGRAMS) {
    const found = await run('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin command -v ${program}`]).catch(
      () => null,
    );
    if (found === null) return `${program} is not installed`;
  }
  if (!existsSync(JWT_PLUGIN)) return `there is no ${JWT_PLUGIN}`;
  return null;
}

/** 24 of `slurm-wlm 24.11.5`. */
async function slurmMajor(): Promise<number> {
  const { stdout } = await run('slurmctld', ['-V'], { env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' } });
  return Number(/ (\d+)\./.exec(stdout)?.[1]);
}

/** The lines of hook.conf.example that set a variable and are commented out there, as an administrator takes them. */
export async function exampleConf(variable: string): Promise<string[]> {
  const example = await readFile(join(ROOT, 'integrations/hook.conf.example'), 'utf8');
  const lines = example.split('\n').filter((line) => line.startsWith(`#${variable}=`));
  assert.ok(lines.length > 0);
  return lines.map((line) => line.slice(1));
}

export class Slurm {
  readonly folder: string;
  readonly #env: Record<string, string>;
  readonly #daemons = new Map<string, ChildProcess>();

  private constructor(folder: string) {
    this.folder = folder;
    this.#env = {
      PATH: `${folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      SLURM_CONF: `${folder}/slurm.conf`,
    };
  }

  static async start({ config }: SlurmOptions): Promise<Slurm> {
    const folder = await mkdtemp(join(tmpdir(), 'writeback-slurm-'));
    const slurm = new Slurm(folder);
    try {
      await slurm.#prepare(config);
      await slurm.#startDaemon('munged', [
        '--foreground',
        `--key-file=${folder}/munge/key`,
        `--socket=${folder}/munge/socket`,
        `--pid-file=${folder}/munge/pid`,
        `--seed-file=${folder}/munge/seed`,
        '--num-threads=2',
      ]);
      await slurm.startController();
      for (const node of NODES) await slurm.#startDaemon(node, ['-D', '-N', node], 'slurmd');
      await slurm.#until('both nodes are idle', async () => {
        return /^idle\s+idle$/.test((await slurm.command('sinfo', '-hNo', '%T').catch(() => '')).trim());
      });
      return slurm;
    } catch (error) {
      await slurm.stop();
      throw error;
    }
  }

  async startController(): Promise<void> {
    await this.#startDaemon('slurmctld', ['-D']);
    await this.#until('slurmctld answers', () =>
      this.command('scontrol', 'ping').then((out) => / UP/.test(out)),
    );
  }

  /** Resolves when it has ended. */
  async endController(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const daemon = this.#daemons.get('slurmctld');
    const ended = daemon && once(daemon, 'exit');
    daemon?.kill(signal);
    await ended;
  }

  /** @param lines what the hooks read as /etc/writeback/hook.conf */
  async configureHooks(lines: readonly string[]): Promise<void> {
    await writeFile(join(this.folder, 'hook.conf'), [`PATH='${this.#env.PATH}'`, ...lines].join('\n'));
  }

  /** A JWT for a user of Slurm. */
  async token(user: string): Promise<string> {
    const said = await this.command('scontrol', 'token', `username=${user}`, 'lifespan=3600');
    return said.trim().replace('SLURM_JWT=', '');
  }

  /** Runs a command of Slurm; gives what it printed. */
  async command(program: string, ...args: string[]): Promise<string> {
    return (await run(program, args, { env: this.#env, cwd: this.folder })).stdout;
  }

  /** Submits a batch script as nobody; gives the number of the job. */
  async batch(script: string, args: string[] = [], env: Record<string, string> = {}): Promise<string> {
    const file = join(this.folder, 'work', `${process.hrtime.bigint()}.sh`);
    await writeFile(file, `#!/bin/sh\n${script}`, { mode: 0o755 });
    const { stdout } = await run('sbatch', ['--parsable', '--output=%j.out', ...args, file], {
      env: { ...this.#env, ...env },
      cwd: join(this.folder, 'work'),
      uid: NOBODY,
      gid: NOBODY,
    });
    return stdout.trim();
  }

  /** `COMPLETED`, `STAGE_OUT` … */
  async stateOf(job: string): Promise<string> {
    const shown = await this.command('scontrol', '--oneliner', 'show', 'job', job).catch(() => '');
    return /JobState=(\w+)/.exec(shown)?.[1] ?? '';
  }

  async untilState(job: string, wanted: string): Promise<void> {
    let state = '';
    await this.#until(
      `job ${job} is ${wanted}`,
      async () => {
        state = await this.stateOf(job);
        assert.doesNotMatch(state, /FAIL|CANCELLED|TIMEOUT/, `job ${job}: ${await this.#logs()}`);
        return state === wanted;
      },
      () => state,
    );
  }

  /** What slurmctld would know of its jobs if it were killed now. */
  async savedState(): Promise<string> {
    return readFile(join(this.folder, 'state/job_state'), 'latin1').catch(() => '');
  }

  async stop(): Promise<void> {
    for (const daemon of [...this.#daemons.values()].reverse()) {
      if (daemon.exitCode !== null || daemon.signalCode !== null) continue;
      const ended = once(daemon, 'exit');
      daemon.kill('SIGKILL');
      await ended;
    }
    await rm(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }

  async #prepare(config: readonly string[]): Promise<void> {
    const { folder } = this;
    // Everybody's batch jobs come here, and the folder of the build may be its owner's alone.
    await chmod(folder, 0o755);
    for (const name of ['munge', 'state', 'bin', 'program']) await mkdir(join(folder, name), { mode: 0o755 });
    await mkdir(join(folder, 'work'));
    await chmod(join(folder, 'work'), 0o1777);
    await writeFile(join(folder, 'munge/key'), Buffer.alloc(128, folder), { mode: 0o600 });
    await writeFile(join(folder, 'jwt.key'), randomBytes(32), { mode: 0o600 });
    const program = join(folder, 'program');
    await cp(join(BUILD, 'src'), join(program, 'build/src'), { recursive: true });
    await cp(join(ROOT, 'package.json'), join(program, 'package.json'));
    for (const name of ['commander', 'zod']) {
      await cp(join(ROOT, 'node_modules', name), join(program, 'node_modules', name), { recursive: true });
    }
    await run('chmod', ['-R', 'a+rX', program]);
    // It may lie where its owner alone may go.
    const node = join(program, 'node');
    await copyFile(process.execPath, node);
    const main = `exec '${node}' '${program}/build/src/main.js' "$@"`;
    await writeFile(join(folder, 'bin/writeback'), `#!/bin/sh\n${main}\n`, { mode: 0o755 });
    await this.#install('epilog.sh');
    await this.#install('epilog-slurmctld.sh');
    await this.#install('burst_buffer.lua');
    const polls = (await slurmMajor()) >= 24;
    const stageOut = `StageOutTimeout=600\n${polls ? 'PollInterval=2\n' : ''}`;
    await writeFile(join(folder, 'burst_buffer.conf'), stageOut);
    // Where nothing uses cgroups, newer ones must be told; older ones do not know the word.
    if (polls) await writeFile(join(folder, 'cgroup.conf'), 'CgroupPlugin=disabled\n');
    const [controllerPort, ...nodePorts] = await freePorts(1 + NODES.length);
    const here = hostname().split('.')[0];
    const lines = [
      'ClusterName=test',
      `SlurmctldHost=${here}(127.0.0.1)`,
      'SlurmUser=root',
      'SlurmdUser=root',
      'AuthType=auth/munge',
      'AuthInfo=socket=FOLDER/munge/socket',
      'AuthAltTypes=auth/jwt',
      'AuthAltParameters=jwt_key=FOLDER/jwt.key',
      `SlurmctldPort=${controllerPort}`,
      'StateSaveLocation=FOLDER/state',
      'SlurmdSpoolDir=FOLDER/spool-%n',
      'SlurmctldPidFile=FOLDER/slurmctld.pid',
      'SlurmdPidFile=FOLDER/slurmd-%n.pid',
      'SlurmctldLogFile=FOLDER/slurmctld.log',
      'SlurmdLogFile=FOLDER/slurmd-%n.log',
      'SlurmctldDebug=info',
      'ProctrackType=proctrack/pgid',
      'TaskPlugin=task/none',
      'SelectType=select/cons_tres',
      'SelectTypeParameters=CR_CPU',
      'JobAcctGatherType=jobacct_gather/none',
      'AccountingStorageType=accounting_storage/none',
      'MpiDefault=none',
      'ReturnToService=2',
      'SchedulerParameters=bf_interval=1,sched_min_interval=0',
      'SlurmdParameters=config_overrides',
      'KillWait=1',
      ...config,
      ...NODES.map(
        (n, i) => `NodeName=${n} NodeHostname=${here} NodeAddr=127.0.0.1 Port=${nodePorts[i]} CPUs=4`,
      ),
      'PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP',
    ];
    await writeFile(join(folder, 'slurm.conf'), `${lines.join('\n')}\n`.replaceAll('FOLDER', folder));
  }

  /** As it is delivered, but for the place of its configuration and a wait of 30 s that a test can do without. */
  async #install(name: string): Promise<void> {
    const delivered = await readFile(join(ROOT, 'integrations/slurm', name), 'utf8');
    const text = delivered
      .replaceAll('/etc/writeback/hook.conf', join(this.folder, 'hook.conf'))
      .replace('RECORDED_WITHIN_S = 40', 'RECORDED_WITHIN_S = 0');
    await writeFile(join(this.folder, name), text, { mode: 0o755 });
  }

  async #startDaemon(name: string, args: string[], program = name): Promise<void> {
    const daemon = spawn(program, args, {
      env: this.#env,
      cwd: this.folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#daemons.set(name, daemon);
    let said = '';
    daemon.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-4000);
    });
    await once(daemon, 'spawn');
    if (name === 'munged') {
      await this.#until('munged answers', () =>
        this.command('munge', '--no-input', `--socket=${this.folder}/munge/socket`).then(
          () => true,
          () => assert.equal(daemon.exitCode, null, said) === undefined && false,
        ),
      );
    }
  }

  #until(what: string, condition: () => Promise<boolean>, shown: () => string = () => ''): Promise<void> {
    return until(
      what,
      () => condition().catch(rethrowAssertion),
      START_MS,
      async () => `${shown()}\n${await this.#logs()}`,
    );
  }

  async #logs(): Promise<string> {
    const names = ['slurmctld.log', 'slurmd-n1.log', 'slurmd-n2.log'];
    const logs = names.map((name) => readFile(join(this.folder, name), 'utf8').catch(() => ''));
    return (await Promise.all(logs)).map((log) => log.slice(-3000)).join('\n');
  }
}

function rethrowAssertion(error: unknown): false {
  if (error instanceof assert.AssertionError) throw error;
  return false;
}
