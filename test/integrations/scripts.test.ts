import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { jobOf, problemOf, type Reply, ScriptedService } from '../support/scripted-service.js';
import { until } from '../support/until.js';

// Compiled to build/test/integrations/.
const BUILD = fileURLToPath(new URL('../../', import.meta.url));
const ROOT = join(BUILD, '..');
const INTEGRATIONS = join(ROOT, 'integrations');
const CALL_BURST_BUFFER = join(ROOT, 'test/fixtures/call-burst-buffer.lua');
const STAND_IN = join(ROOT, 'test/fixtures/airflow-stand-in');

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function missing(command: string, ...args: string[]): string | false {
  return spawnSync(command, args).error ? `${command} is not installed` : false;
}

/** A folder with what a host of a scheduler has: `writeback` on the path, and hook.conf. */
async function host(url: string, conf: Record<string, string> = {}) {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'writeback-hook-')));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  const [bin, notes] = [join(folder, 'bin'), join(folder, 'notes')];
  for (const made of [bin, notes]) await mkdir(made);
  await chmod(folder, 0o755);
  await chmod(notes, 0o1777);
  const program = `#!/bin/sh\nexec '${process.execPath}' '${BUILD}/src/main.js' "$@"\n`;
  await writeFile(join(bin, 'writeback'), program, { mode: 0o755 });
  const path = [bin, '/usr/bin', '/bin'].join(delimiter);
  const lines = Object.entries({
    PATH: path,
    WRITEBACK_URL: url,
    WRITEBACK_NOTES: notes,
    WRITEBACK_SUBMIT_OPTIONS: '--cache scratch --export /exp1',
    ...conf,
  });
  await writeFile(join(folder, 'hook.conf'), lines.map(([key, value]) => `${key}='${value}'\n`).join(''));

  /** A delivered file, but for where it finds its configuration. */
  async function install(name: string): Promise<string> {
    const text = await readFile(join(INTEGRATIONS, name), 'utf8');
    const file = join(folder, name.replaceAll('/', '-'));
    await writeFile(file, text.replaceAll('/etc/writeback/hook.conf', join(folder, 'hook.conf')), {
      mode: 0o755,
    });
    return file;
  }

  /** With nothing in its environment but what is given, as a scheduler starts it. */
  async function run(command: string, args: string[], env: Record<string, string> = {}) {
    const child: ChildProcess = spawn(command, args, { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    const result = { code: -1, stdout: '', stderr: '' };
    child.stdout?.on('data', (data) => {
      result.stdout += data;
    });
    child.stderr?.on('data', (data) => {
      result.stderr += data;
    });
    [result.code] = await once(child, 'close');
    return result;
  }

  async function note(job: string, paths: string, owner?: number): Promise<void> {
    const directory = join(notes, job);
    await mkdir(directory);
    await writeFile(join(directory, 'x.list'), paths);
    if (owner === undefined) return;
    for (const path of [directory, join(directory, 'x.list')]) await chown(path, owner, owner);
  }

  return { folder, path, notes, install, run, note };
}

/** Takes every flush as job f1; it is in these states when it is asked for, the last one for ever. */
async function service(states: Parameters<typeof jobOf>[1][] = ['succeeded']): Promise<ScriptedService> {
  const left = [...states];
  const started = await ScriptedService.start((request): Reply => {
    if (request.url.endsWith('/errors')) return { json: { items: [] } };
    if (request.method === 'POST') return { status: 202, json: jobOf('f1', 'queued') };
    return { json: jobOf('f1', (left.length > 1 ? left.shift() : left[0]) ?? 'succeeded') };
  });
  cleanups.push(() => started.close());
  return started;
}

function posted({ requests }: ScriptedService): string[] {
  return requests.filter(({ method }) => method === 'POST').map(({ body }) => body.toString());
}

test('shellcheck has nothing against the shell scripts', {
  skip: missing('shellcheck', '--version'),
}, async () => {
  const scripts: string[] = [];
  for (const name of await readdir(INTEGRATIONS, { recursive: true })) {
    const file = join(INTEGRATIONS, name);
    if ((await readFile(file, 'utf8').catch(() => '')).startsWith('#!/bin/sh')) scripts.push(file);
  }
  assert.ok(scripts.length >= 4);
  const { status, stdout } = spawnSync('shellcheck', scripts, { encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});

describe('hooks of schedulers that cannot be installed here, run as these would run them', () => {
  test('the epilogue of PBS submits what the job noted, as its user', {
    skip: process.getuid?.() !== 0,
  }, async () => {
    const started = await service();
    const there = await host(started.url);
    await there.note('pbs-12-3-.server', '/exp1/$(touch oops)\0', 65_534);
    const run = await there.run(await there.install('pbs/epilogue'), ['12[3].server', 'nobody', 'nogroup']);
    assert.deepEqual(run, { code: 0, stdout: '', stderr: '' });
    assert.deepEqual(posted(started), ['/exp1/$(touch oops)\0']);
    assert.deepEqual(await readdir(there.notes), []);
  });

  test('the post-execution command of LSF submits what the job noted', async () => {
    const started = await service();
    const there = await host(started.url);
    await there.note('lsf-7-2', '/exp1/a\0');
    const script = await there.install('lsf/post-exec');
    const run = await there.run(script, [], { LSB_JOBID: '7', LSB_JOBINDEX: '2' });
    assert.deepEqual(run, { code: 0, stdout: '', stderr: '' });
    assert.deepEqual(posted(started), ['/exp1/a\0']);
  });

  test('none of them fails without program, configuration or service', async () => {
    const there = await host('http://127.0.0.1:1', {
      PATH: '/usr/bin:/bin',
      WRITEBACK_SUBMIT_OPTIONS: '--within 1s',
    });
    const env = {
      SLURM_JOB_ID: '1',
      SLURM_JOB_UID: '0',
      SLURM_JOB_GID: '0',
      SLURM_JOB_COMMENT: 'writeback x',
      LSB_JOBID: '1',
    };
    for (const name of ['slurm/epilog.sh', 'slurm/epilog-slurmctld.sh', 'pbs/epilogue', 'lsf/post-exec']) {
      assert.equal((await there.run(await there.install(name), ['1', 'root', 'root'], env)).code, 0, name);
      assert.equal((await there.run(join(INTEGRATIONS, name), ['1', 'root', 'root'], env)).code, 0, name);
    }
  });

  test('the process for Nextflow submits what its inputs link to, and ends as the job ends', async () => {
    const started = await service(['partial']);
    const there = await host(started.url);
    const module = await readFile(join(INTEGRATIONS, 'nextflow/writeback/main.nf'), 'utf8');
    const script = /script:\s+"""\n([^"]*)"""/.exec(module)?.[1] ?? '';
    // Nextflow would take a dollar or a backslash for its own.
    assert.match(script, /^[^$\\]+$/);
    const task = join(there.folder, 'task');
    await mkdir(join(task, 'in'), { recursive: true });
    await writeFile(join(there.folder, 'out 1.h5'), '');
    await symlink(join(there.folder, 'out 1.h5'), join(task, 'out 1.h5'));
    await writeFile(join(task, '.command.sh'), script);
    const place = script.replace('--wait', '--wait --cache scratch --export /exp1');
    await writeFile(join(task, '.command.run'), `cd ${task}\n${place}`);
    const run = await there.run('bash', ['-ue', join(task, '.command.run')], {
      PATH: there.path,
      WRITEBACK_URL: started.url,
    });
    assert.equal(run.code, 10, run.stderr);
    assert.deepEqual(posted(started), ['./out 1.h5\0']);
  });
});

describe("the stage-out of Slurm 24.05 and later, its Lua run by Lua's own interpreter", {
  skip: missing('lua5.1', '-v'),
}, () => {
  const SCRIPT =
    '#!/bin/sh\n#SBATCH -N1\n\n#BB_LUA writeback cache=scratch export=/exp1 file="/it\'s; touch oops"\ntrue\n#WB too late';

  async function slurm(url: string) {
    const there = await host(url, {});
    const bin = join(there.folder, 'bin');
    await writeFile(
      join(bin, 'squeue'),
      '#!/bin/sh\necho "41 2026-11-21T13:00:00 alice"; echo "42 2026-11-21T13:25:25 bob"\n',
      { mode: 0o755 },
    );
    const config = `Configuration data as of now\nClusterName             = c1\nStateSaveLocation       = ${there.folder}\n`;
    await writeFile(join(bin, 'scontrol'), `#!/bin/sh\ncat <<'EOF'\n${config}EOF\n`, { mode: 0o755 });
    const lua = await there.install('slurm/burst_buffer.lua');
    const script = join(there.folder, 'script');
    await writeFile(script, SCRIPT);
    /** What the function returns, each value on a line. */
    const call = async (name: string, ...args: string[]): Promise<string> => {
      const run = await there.run('lua5.1', [CALL_BURST_BUFFER, lua, name, ...args], { PATH: there.path });
      assert.equal(run.stderr, '');
      return run.stdout.trim();
    };
    return { ...there, script, call };
  }

  test('data_out submits and returns, test_data_out is BUSY until the end, and all of it is one flush', async () => {
    const started = await service(['running', 'running', 'succeeded']);
    const { call, script, folder } = await slurm(started.url);
    assert.equal(await call('slurm_bb_job_process', script), '0');
    assert.equal(await call('slurm_bb_data_out', '42', script), '0');
    const answers: string[] = [];
    while (answers.at(-1) !== '0' && answers.length < 20)
      answers.push(await call('slurm_bb_test_data_out', '42', script));
    assert.deepEqual([...new Set(answers)], ['0\nBUSY', '0']);
    const posts = started.requests.filter(({ method }) => method === 'POST');
    assert.deepEqual(
      [...new Set(posts.map(({ headers }) => headers['idempotency-key']))],
      ['slurm-c1-42-2026-11-21T13:25:25-1'],
    );
    assert.deepEqual([...new Set(posted(started))], ["/it's; touch oops\0"]);
    assert.match(posts[0]?.url ?? '', /label=batch-job%3Dslurm-c1-42&label=user%3Dbob/);
    assert.ok(!(await readdir(folder)).includes('oops'));
  });

  test('a service that is away is waited for, a flush that failed fails the stage-out', async () => {
    const started = await service(['partial']);
    const { call, script } = await slurm(started.url);
    assert.match(await call('slurm_bb_test_data_out', '42', script), /^-1\nf1 partial/);
    await started.close();
    assert.equal(await call('slurm_bb_test_data_out', '42', script), '0\nBUSY');
    // squeue does not tell of it: slurmctld has other things to do.
    assert.equal(await call('slurm_bb_test_data_out', '43', script), '0\nBUSY');
  });

  test('a refusal fails the stage-out', async () => {
    const started = await ScriptedService.start(() => problemOf(403, 'FORBIDDEN', 'Not yours.'));
    cleanups.push(() => started.close());
    const { call, script } = await slurm(started.url);
    assert.match(await call('slurm_bb_data_out', '42', script), /^-1\nwriteback: Not yours\./);
  });

  test('directives that are wrong are told at once', async () => {
    const { call, folder } = await slurm('http://127.0.0.1:1');
    const wrong = join(folder, 'wrong');
    for (const words of [
      'cache=c export=/e',
      'cache=c export=/e file=/a;',
      'file',
      'cache=c export=/e url=x file=/a',
    ]) {
      await writeFile(wrong, `#!/bin/sh\n#BB_LUA writeback ${words.replace(';', ' ;')}\n`);
      assert.match(await call('slurm_bb_job_process', wrong), /^-1\nwriteback directive: /, words);
    }
    await writeFile(wrong, '#!/bin/sh\n#BB_LUA capacity=5\n');
    assert.equal(await call('slurm_bb_job_process', wrong), '0');
  });

  test('data_in waits until Slurm has written down that the job has a burst buffer', async () => {
    const { call, folder } = await slurm('http://127.0.0.1:1');
    const state = join(folder, 'burst_buffer_lua_state');
    await writeFile(state, Buffer.from('\0\0\0\x0341\0', 'latin1'));
    const slept = join(folder, 'slept');
    await writeFile(join(folder, 'bin/sleep'), `#!/bin/sh\ntouch ${slept}\nexec /bin/sleep "$@"\n`, {
      mode: 0o755,
    });
    assert.equal(await call('slurm_bb_data_in', '41'), '0');
    await assert.rejects(readFile(slept));
    const waiting = call('slurm_bb_data_in', '42');
    await until('it to sleep', () => existsSync(slept));
    await writeFile(state, Buffer.from('\0\0\0\x0341\0..\0\0\0\x0342\0', 'latin1'));
    assert.equal(await waiting, '0');
  });
});

describe('the operator for Airflow, on stand-ins for Airflow', {
  skip: missing('python3', '--version'),
}, () => {
  async function drive(url: string, how: 'run' | 'kill') {
    const there = await host(url);
    const run = await there.run(
      spawnSync('which', ['python3'], { encoding: 'utf8' }).stdout.trim(),
      [join(STAND_IN, 'drive.py'), how],
      {
        PATH: process.env.PATH ?? '',
        HOME: process.env.HOME ?? '',
        PYTHONPATH: [STAND_IN, join(INTEGRATIONS, 'airflow')].join(delimiter),
        PYTHONDONTWRITEBYTECODE: '1',
        AIRFLOW_CONN_WRITEBACK_DEFAULT: url,
      },
    );
    assert.equal(run.code, 0, run.stderr);
    return JSON.parse(run.stdout);
  }

  test('it submits, defers until the end with the token of its connection, and returns the job', async () => {
    const started = await service(['running', 'succeeded']);
    assert.deepEqual(await drive(started.url, 'run'), { jobs: ['f1', 'f1'], returned: 'f1' });
    const posts = started.requests.filter(({ method }) => method === 'POST');
    assert.equal(new Set(posts.map(({ headers }) => headers['idempotency-key'])).size, 1);
    assert.deepEqual(JSON.parse(posts[0]?.body.toString() ?? '').files, ['/a b']);
    assert.ok(started.requests.every(({ headers }) => headers.authorization === 'Bearer secret'));
  });

  test('a job that has not succeeded fails the task', async () => {
    const started = await service(['partial']);
    assert.match((await drive(started.url, 'run')).failed, /^Writeback job f1: partial\./);
  });

  test('killed in the worker or while deferred, it cancels the job', async () => {
    const started = await service();
    await drive(started.url, 'kill');
    const cancels = started.requests.filter(({ url }) => url === '/v1/jobs/f1/cancel');
    assert.equal(cancels.length, 2);
  });
});
