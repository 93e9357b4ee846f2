import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, readdir, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runCli } from '../support/cli.js';
import { jobOf, problemOf, type Reply, ScriptedService } from '../support/scripted-service.js';

// Compiled to build/test/cli/: the program lies in build/src.
const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));
const TARGET = ['--cache', 'projects', '--export', '/exp1'];
const IN_JOB = { SLURM_CLUSTER_NAME: 'c1', SLURM_JOB_ID: '42' };

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

async function temporaryFolder(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'writeback-later-')));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Accepts everything, unless `refusal` says otherwise; jobs f1, f2 … by idempotency key. */
async function service(refusal: (nth: number) => Reply | null = () => null): Promise<ScriptedService> {
  const keys: (string | undefined)[] = [];
  const started = await ScriptedService.start((request, nth): Reply => {
    const refused = refusal(nth);
    if (refused) return refused;
    if (request.method !== 'POST') return { json: jobOf('f1', 'succeeded') };
    const key = String(request.headers['idempotency-key']);
    if (!keys.includes(key)) keys.push(key);
    return { status: 202, json: jobOf(`f${keys.indexOf(key) + 1}`, 'queued') };
  });
  cleanups.push(() => started.close());
  return started;
}

async function note(notes: string, files: string[], env: Record<string, string> = IN_JOB): Promise<void> {
  const run = await runCli(['later', ...files], { env: { ...env, WRITEBACK_NOTES: notes } });
  assert.equal(run.code, 0, run.stderr);
}

function epilog(url: string, notes: string, args: string[] = [], env: Record<string, string> = IN_JOB) {
  const all = ['submit', '--epilog', '--later', ...TARGET, ...args];
  return runCli(all, { url, env: { ...env, WRITEBACK_NOTES: notes } });
}

function bodies(started: ScriptedService): string[] {
  return started.requests.filter(({ method }) => method === 'POST').map(({ body }) => body.toString());
}

describe('writeback later', () => {
  test('keeps paths absolute and as bytes, for a hook that submits them in the order they were noted', async () => {
    const [notes, { url, requests }] = [await temporaryFolder(), await service()];
    await note(notes, ['a b.dat', '/exp1/$(x)']);
    const list = [Buffer.from('/caf\xe9\0', 'latin1'), Buffer.from('rel\0')];
    const env = { ...IN_JOB, WRITEBACK_NOTES: notes };
    assert.equal((await runCli(['later', '-f', '-', '-0'], { env, stdin: list })).code, 0);
    const run = await epilog(url, notes);
    assert.deepEqual([run.code, run.stdout.toString(), run.stderr], [0, 'f1\n', '']);
    const here = Buffer.from(await realpath('.')).toString('latin1');
    const paths = requests[0]?.body.toString('latin1').split('\0').sort();
    assert.deepEqual(paths, ['', '/caf\xe9', '/exp1/$(x)', `${here}/a b.dat`, `${here}/rel`].sort());
    assert.match(requests[0]?.url ?? '', /label=batch-job%3Dslurm-c1-42/);
    assert.deepEqual(await readdir(notes), []);
  });

  test('says what is missing outside of a batch job, and without files', async () => {
    const env = { WRITEBACK_NOTES: await temporaryFolder() };
    const outside = await runCli(['later', 'x'], { env });
    assert.equal(outside.code, 2);
    assert.match(outside.stderr, /no batch job of Slurm, PBS or LSF/);
    assert.equal((await runCli(['later'], { env: { ...env, ...IN_JOB } })).code, 2);
  });

  test('knows the batch jobs of PBS and LSF, and arrays of them', async () => {
    const notes = await temporaryFolder();
    await note(notes, ['x'], { PBS_JOBID: '12[3].server' });
    await note(notes, ['x'], { LSB_JOBID: '7', LSB_JOBINDEX: '2' });
    await note(notes, ['x'], { LSB_JOBID: '8', LSB_JOBINDEX: '0' });
    assert.deepEqual((await readdir(notes)).sort(), ['lsf-7-2', 'lsf-8', 'pbs-12-3-.server']);
  });
});

describe('writeback submit --epilog', () => {
  test('of many hooks at once one list becomes one job', async () => {
    const [notes, started] = [await temporaryFolder(), await service()];
    await note(notes, ['/a', '/b']);
    const runs = await Promise.all(Array.from({ length: 8 }, () => epilog(started.url, notes)));
    assert.deepEqual([...new Set(runs.map(({ code, stderr }) => `${code}${stderr}`))], ['0']);
    const ids = runs.flatMap(({ stdout }) => stdout.toString().split('\n').filter(Boolean));
    assert.deepEqual([...new Set(ids)], ['f1']);
    assert.deepEqual([...new Set(bodies(started))], ['/a\0/b\0']);
    assert.deepEqual(await readdir(notes), []);
  });

  test('the same paths noted again, by a requeued batch job, are another job', async () => {
    const [notes, { url }] = [await temporaryFolder(), await service()];
    await note(notes, ['/a']);
    assert.equal((await epilog(url, notes)).stdout.toString(), 'f1\n');
    await note(notes, ['/a']);
    assert.equal((await epilog(url, notes)).stdout.toString(), 'f2\n');
  });

  test('with the service down it ends in time and with 0, the files stay, and the next hook submits them', async () => {
    const [notes, started] = [await temporaryFolder(), await service()];
    await note(notes, ['/a']);
    await started.close();
    const down = await epilog(started.url, notes, ['--within', '1s']);
    assert.equal(down.code, 0);
    assert.match(down.stderr, /connection refused.*The files stay noted for the next hook of this user/);
    await started.listen();
    const next = await epilog(started.url, notes, [], { ...IN_JOB, SLURM_JOB_ID: '43' });
    assert.equal(next.code, 0, next.stderr);
    assert.deepEqual(bodies(started), ['/a\0']);
    assert.deepEqual(await readdir(notes), []);
  });

  test('a service that comes back within the time is asked again; one that never answers costs no more than that', async () => {
    const [notes, busy] = [
      await temporaryFolder(),
      await service((nth) => (nth < 3 ? problemOf(503, 'UNAVAILABLE', 'Restarting.') : null)),
    ];
    await note(notes, ['/a']);
    const run = await epilog(busy.url, notes);
    assert.deepEqual([run.code, run.stdout.toString(), run.stderr], [0, 'f1\n', '']);
    const silent = await ScriptedService.start(() => new Promise<Reply>(() => {}));
    cleanups.push(() => silent.close());
    await note(notes, ['/a']);
    const late = await epilog(silent.url, notes, ['--within', '1s']);
    assert.equal(late.code, 0);
    assert.match(late.stderr, /Not submitted within 1 s/);
    assert.equal((await readdir(notes)).length, 1);
  });

  test('what a hook is told wrongly ends with 0 and a sentence too', async () => {
    const { url } = await service();
    for (const args of [
      ['--odd'],
      ['--within', 'x'],
      ['--as', 'root', '--later'],
      [],
      ['--request', 'cache=c rm'],
    ]) {
      const run = await runCli(['submit', '--epilog', ...args], { url });
      assert.equal(run.code, 0, args.join(' '));
      assert.notEqual(run.stderr, '');
    }
    assert.equal((await runCli(['submit', '--label', 'x', '--', '--epilog'], { url })).code, 2);
  });

  test('one list that is refused keeps no other back', async () => {
    const refused: Reply = problemOf(400, 'VALIDATION', 'No.');
    const [notes, { url }] = [await temporaryFolder(), await service((nth) => (nth === 1 ? refused : null))];
    await note(notes, ['/refused']);
    await epilog(url, notes);
    await note(notes, ['/a'], { ...IN_JOB, SLURM_JOB_ID: '43' });
    const run = await epilog(url, notes, [], { ...IN_JOB, SLURM_JOB_ID: '43' });
    assert.equal(run.stdout.toString(), 'f1\nf2\n');
    assert.deepEqual(await readdir(notes), []);
  });

  test('a list without a file, as a killed process leaves it, is dropped', async () => {
    const [notes, started] = [await temporaryFolder(), await service()];
    await mkdir(join(notes, 'slurm-c1-42'));
    await writeFile(join(notes, 'slurm-c1-42', '.1-half'), '/half');
    const run = await epilog(started.url, notes);
    assert.deepEqual([run.code, run.stderr], [0, '']);
    assert.deepEqual(bodies(started), []);
    assert.deepEqual(await readdir(notes), []);
  });

  test('a list that links elsewhere or belongs to another user is not read', {
    skip: process.getuid?.() !== 0,
  }, async () => {
    const [notes, started] = [await temporaryFolder(), await service()];
    const secret = join(notes, 'secret');
    await writeFile(secret, '/secret\0');
    await mkdir(join(notes, 'slurm-c1-42'));
    await symlink(secret, join(notes, 'slurm-c1-42', 'x.list'));
    const linked = await epilog(started.url, notes);
    assert.equal(linked.code, 0);
    assert.match(linked.stderr, /Cannot use the lists in .*The files stay noted/);
    await mkdir(join(notes, 'slurm-c1-43'));
    await chown(join(notes, 'slurm-c1-43'), 1, 1);
    const foreign = await epilog(started.url, notes, [], { ...IN_JOB, SLURM_JOB_ID: '43' });
    assert.match(foreign.stderr, /belongs to another user/);
    assert.deepEqual((await readdir(notes)).map((name) => name.split('.')[0]).sort(), [
      'secret',
      'slurm-c1-42',
      'slurm-c1-43',
    ]);
    assert.deepEqual(bodies(started), []);
  });

  test('a Node.js that cannot give up root submits nothing, says what to do, and ends with 0', async () => {
    const notes = await temporaryFolder();
    await mkdir(join(notes, 'slurm-c1-42'));
    const started = await service(() => null);
    const { code, stderr } = await runCli(['submit', '--epilog', '--later', '--as', '65534:65534'], {
      url: started.url,
      env: { ...IN_JOB, WRITEBACK_NOTES: notes },
      becomeUser: () => {
        throw new Error('initgroups() disabled: io_uring may be enabled. See CVE-2024-22017.');
      },
    });
    assert.equal(code, 0);
    assert.match(stderr, /Cannot take the rights of user 65534: .*nodejs\.org/);
    assert.deepEqual(bodies(started), []);
    assert.deepEqual(await readdir(notes), ['slurm-c1-42']);
  });

  test('as root it reads a list with the rights of its user, who can neither read its token nor trace it', {
    skip: process.getuid?.() !== 0,
  }, async () => {
    const notes = await temporaryFolder();
    await chmod(notes, 0o1777);
    const [job, hidden, token] = ['slurm-c1-42', 'hidden', 'token'].map((name) => join(notes, name)) as [
      string,
      string,
      string,
    ];
    await writeFile(token, 'wbt_secret', { mode: 0o600 });
    await mkdir(join(hidden, 'slurm-c1-42'), { recursive: true });
    await chmod(hidden, 0o700);
    await mkdir(job);
    await writeFile(join(job, 'x.list'), '/mine\0');
    for (const path of [job, join(job, 'x.list')]) await chown(path, 65_534, 65_534);

    let pid = 0;
    const readable: (number | null)[] = [];
    const started = await service((nth) => {
      if (nth > 1) return null;
      const asUser = { uid: 65_534, gid: 65_534 };
      readable.push(spawnSync('cat', [`/proc/${pid}/environ`], asUser).status);
      readable.push(spawnSync('cat', ['/proc/self/environ'], asUser).status);
      // The second try has the token still.
      return problemOf(503, 'UNAVAILABLE', 'Restarting.');
    });
    const options = ['submit', '--epilog', '--later', '--as', '65534:65534', ...TARGET];
    const asRoot = async (folder: string): Promise<string> => {
      const env = {
        PATH: process.env.PATH,
        WRITEBACK_URL: started.url,
        WRITEBACK_TOKEN_FILE: token,
        WRITEBACK_NOTES: folder,
        ...IN_JOB,
      };
      const child = spawn(process.execPath, [MAIN, ...options], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      pid = child.pid as number;
      let said = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (data) => {
          said += data;
        });
      }
      const [code] = await once(child, 'close');
      return `${code} ${said}`;
    };
    assert.equal(await asRoot(notes), '0 f1\n');
    assert.deepEqual(readable, [1, 0]);
    assert.match(await asRoot(hidden), /^0 writeback: Cannot use the lists in .*permission denied/i);
    assert.deepEqual(bodies(started), ['/mine\0', '/mine\0']);
    assert.ok(started.requests.every(({ headers }) => headers.authorization === 'Bearer wbt_secret'));
  });
});

describe('what a batch job asks for in words', () => {
  const asked = (url: string, words: string) =>
    runCli(['submit', '--no-wait', '--request', words], { url, env: {} });

  test('is taken as words, with blanks in double quotes', async () => {
    const { url, requests } = await service();
    const run = await asked(
      url,
      'cache=projects export=/exp1 directory=/run include=*.h5 file="/a b" file=/--x',
    );
    assert.equal(run.code, 0, run.stderr);
    const { files, directories } = JSON.parse(requests[0]?.body.toString() ?? '{}');
    assert.deepEqual(files, ['/a b', '/--x']);
    assert.deepEqual(directories, [{ path: '/run', include: ['*.h5'] }]);
  });

  test('can say nothing of how the service is reached, and must name cache and export once', async () => {
    const { url, requests } = await service();
    for (const words of [
      'cache=c export=/e file=/a url=http://127.0.0.1:1',
      'cache=c export=/e file=/a --url=http://127.0.0.1:1',
      'cache=c file=/a',
      'cache=c cache=d export=/e file=/a',
      'cache=c export=/e file="/a',
      'cache=c export=/e',
      '',
    ]) {
      const run = await asked(url, words);
      assert.equal(run.code, 2, words);
    }
    assert.deepEqual(requests, []);
  });
});
