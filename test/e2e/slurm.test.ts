import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Job } from '../../src/model/job.js';
import { isTerminalJobState } from '../../src/model/words.js';
import { type SimulatedCache, startSimulatedCache } from '../../src/sim/server.js';
import { startRedis, type TestRedis } from '../support/redis.js';
import { exampleConf, Slurm, whyNoSlurm } from '../support/slurm.js';
import { until } from '../support/until.js';
import { cacheAt, type Owner, type ServiceProcess, startService } from './processes.js';

const skip = await whyNoSlurm();

/** A real Slurm whose batch jobs write into the folder of the simulated cache. */
describe('Slurm', { skip: skip ?? false }, () => {
  let slurm: Slurm;
  let sim: SimulatedCache;
  let redis: TestRedis;
  let notes = '';
  let operator = '';

  before(async () => {
    slurm = await Slurm.start({
      config: [
        'Epilog=FOLDER/epilog.sh',
        'EpilogSlurmctld=FOLDER/epilog-slurmctld.sh',
        'BurstBufferType=burst_buffer/lua',
      ],
    });
    operator = await slurm.token('operator');
    notes = join(slurm.folder, 'notes');
    for (const folder of [notes, join(slurm.folder, 'cache'), join(slurm.folder, 'filer')]) {
      await mkdir(folder);
      await chmod(folder, 0o1777);
    }
    sim = await startSimulatedCache({
      cacheDir: join(slurm.folder, 'cache'),
      filerDir: join(slurm.folder, 'filer'),
      flushLatencyMs: 300,
    });
    redis = await startRedis({ durable: true });
  });
  after(async () => {
    await sim?.close();
    await redis?.stop();
    await slurm?.stop();
  });

  /** A service on the Redis of all, and the hooks told of it. */
  async function service(t: Owner): Promise<ServiceProcess> {
    const everything = [{ name: '*' }];
    const started = await startService(t, {
      redis: { url: redis.url },
      caches: [cacheAt(sim.ports, { exports: ['/cache'], clientMount: slurm.folder })],
      access: {
        jwt: [{ secretFile: join(slurm.folder, 'jwt.key'), principalClaim: 'sun' }],
        principals: [
          { name: 'nobody', caches: everything },
          { name: 'operator', role: 'operate', caches: everything },
        ],
      },
    });
    await tellHooks(started.url);
    return started;
  }

  /** Every hook is the user of its batch job. */
  async function tellHooks(url: string, options = ''): Promise<void> {
    await slurm.configureHooks([
      // A Slurm that is not in /etc/slurm.
      `SLURM_CONF=${slurm.folder}/slurm.conf`,
      `WRITEBACK_URL=${url}`,
      `WRITEBACK_NOTES='${notes}'`,
      `WRITEBACK_SUBMIT_OPTIONS='--cache sim --export /cache --paths-are client ${options}'`,
      ...(await exampleConf('WRITEBACK_TOKEN')),
    ]);
  }

  async function ask<T>(url: string, init: RequestInit = {}): Promise<T> {
    const headers = { authorization: `Bearer ${operator}`, 'content-type': 'application/json' };
    const reply = await fetch(url, { ...init, headers });
    const text = await reply.text();
    assert.ok(reply.ok, text);
    return JSON.parse(text) as T;
  }

  async function nodesAreFree(): Promise<boolean> {
    return /^idle\s+idle$/.test((await slurm.command('sinfo', '-hNo', '%T')).trim());
  }

  async function isNoted(job: string): Promise<boolean> {
    return (await readdir(notes)).some((name) => name.startsWith(`slurm-test-${job}`));
  }

  /** A batch script finds the folder of the cache in `$CACHE`. */
  function batch(script: string, args: string[] = [], env: Record<string, string> = {}): Promise<string> {
    return slurm.batch(script, args, { CACHE: join(slurm.folder, 'cache'), WRITEBACK_NOTES: notes, ...env });
  }

  async function flushesOf(url: string, job: string): Promise<Job[]> {
    return (await ask<{ items: Job[] }>(`${url}/v1/jobs?label=batch-job%3Dslurm-test-${job}`)).items;
  }

  /** The one flush for a batch job, at its end. */
  async function flushOf(url: string, job: string): Promise<Job> {
    let found: Job[] = [];
    await until(
      `the flush for Slurm job ${job} has ended`,
      async () => {
        found = await flushesOf(url, job);
        return found[0] !== undefined && isTerminalJobState(found[0].state);
      },
      60_000,
      () => JSON.stringify(found),
    );
    assert.equal(found.length, 1);
    return found[0] as Job;
  }

  function onFiler(name: string): Promise<string> {
    return readFile(join(slurm.folder, 'filer', name), 'utf8');
  }

  describe('with a service', { concurrency: true }, () => {
    let running: ServiceProcess;
    const endings: (() => unknown)[] = [];
    before(async () => {
      running = await service({ after: (ending) => endings.push(ending as () => unknown) });
    });
    after(async () => {
      for (const ending of endings.reverse()) await ending();
    });

    test('what the processes of two nodes note, the epilogs of both submit as one job, and it is on the filer at its end', async () => {
      const { url } = running;
      const job = await batch(
        `srun -N2 -n2 sh -c 'f="$CACHE/two nodes $SLURM_PROCID.dat"; echo "rank $SLURM_PROCID" > "$f"; writeback later "$f"'`,
        ['-N2', '-n2'],
      );
      await slurm.untilState(job, 'COMPLETED');
      const flush = await flushOf(url, job);
      assert.equal(flush.state, 'succeeded', JSON.stringify(flush));
      assert.equal(flush.progress.filesTotal, 2);
      assert.equal(flush.principal, 'nobody');
      assert.deepEqual(flush.labels, {
        'batch-job': `slurm-test-${job}`,
        user: 'nobody',
      });
      assert.equal(await onFiler('two nodes 0.dat'), 'rank 0\n');
      assert.equal(await onFiler('two nodes 1.dat'), 'rank 1\n');
      await until('both nodes have ended their epilogs', nodesAreFree);
      assert.equal((await flushesOf(url, job)).length, 1);
      assert.equal(await isNoted(job), false);
    });

    test('one line in a batch script has its files on the filer before the batch job ends', async () => {
      const { url } = running;
      const job = await batch(
        `echo here > "$CACHE/line.dat"
  export WRITEBACK_TOKEN=$(scontrol token lifespan=300 | sed s/SLURM_JWT=//)
writeback submit --wait --cache sim --export /cache line.dat`,
        [],
        { WRITEBACK_URL: url },
      );
      await slurm.untilState(job, 'COMPLETED');
      assert.equal(await onFiler('line.dat'), 'here\n');
    });

    test('EpilogSlurmctld submits what the comment of a job asks for, and takes nothing of it for a command', async () => {
      const { url } = running;
      const script = 'mkdir "$CACHE/commented" && echo x > "$CACHE/commented/out.h5"';
      const comment = 'writeback cache=sim export=/cache directory=/commented include=*.h5';
      const [job, bad] = [
        await batch(script, ['--comment', comment]),
        await batch('true', [
          '--comment',
          `${comment} file=$(touch\${IFS}/tmp/oops) --url=http://127.0.0.1:1`,
        ]),
      ];
      const flush = await flushOf(url, job);
      assert.equal(flush.state, 'succeeded', JSON.stringify(flush));
      assert.equal(await onFiler('commented/out.h5'), 'x\n');
      await slurm.untilState(bad, 'COMPLETED');
    });

    test('the stage-out of a job ends when its output is on the filer; a directive that is wrong is refused by sbatch', async () => {
      const job = await batch(`#BB_LUA writeback cache=sim export=/cache file="/staged out.dat"
  echo staged > "$CACHE/staged out.dat"`);
      await slurm.untilState(job, 'COMPLETED');
      assert.equal(await onFiler('staged out.dat'), 'staged\n');
      await assert.rejects(
        batch('#BB_LUA writeback cache=sim exprt=/cache file=/x\ntrue'),
        /writeback directive: not understood: exprt=\/cache/,
      );
    });

    test('a file that fails keeps the job in its stage-out, with the reason, until scancel --hurry', async () => {
      const job = await batch('#BB_LUA writeback cache=sim export=/cache file=/never-written.dat\ntrue');
      await until('the stage-out has failed', async () => {
        return /SystemComment=.*0 of 1 file written back/.test(
          await slurm.command('scontrol', 'show', 'job', job),
        );
      });
      assert.equal(await slurm.stateOf(job), 'STAGE_OUT');
      await slurm.command('scancel', '--hurry', job);
      await slurm.untilState(job, 'COMPLETED');
    });
  });

  test('with the service down an epilog lets the node go, and the next one of the user submits what stayed', async (t) => {
    const gone = await service(t);
    gone.kill('SIGKILL');
    await gone.ended;
    await tellHooks(gone.url, '--within 1s');
    const script = 'echo late > "$CACHE/$NAME"; writeback later "$CACHE/$NAME"';
    const first = await batch(script, [], { NAME: 'down.dat' });
    await slurm.untilState(first, 'COMPLETED');
    await until('the node is free again', nodesAreFree);
    assert.equal(await isNoted(first), true);
    const { url } = await service(t);
    const second = await batch(script, [], { NAME: 'up.dat' });
    assert.equal((await flushOf(url, second)).state, 'succeeded');
    await until('the files of the first job are on the filer too', () =>
      onFiler('down.dat').then(
        (text) => text === 'late\n',
        () => false,
      ),
    );
  });

  test('kill -9 of slurmctld and of the service during the stage-out loses nothing: the same flush ends it', async (t) => {
    const first = await service(t);
    const gate = join(slurm.folder, 'work/gate');
    const job = await batch(`#BB_LUA writeback cache=sim export=/cache file=/killed-%j.dat
while [ ! -e ${gate} ]; do sleep 0.1; done
echo "$SLURM_JOB_ID" > "$CACHE/killed-$SLURM_JOB_ID.dat"`);
    await slurm.untilState(job, 'RUNNING');
    // Slurm writes down its burst buffers every 30 s, and at an orderly end.
    await slurm.endController('SIGTERM');
    await slurm.startController();
    const body = '{"reason": "nothing may end before the kill"}';
    await ask(`${first.url}/v1/caches/sim/pause`, { method: 'POST', body });
    await mkdir(gate);
    await until('slurmctld has written down that the stage-out runs', async () => {
      return /staging-out/.test(await slurm.savedState()) && (await flushesOf(first.url, job)).length === 1;
    });
    await slurm.endController('SIGKILL');
    first.kill('SIGKILL');
    await first.ended;
    await assert.rejects(onFiler(`killed-${job}.dat`));

    const second = await service(t);
    await slurm.startController();
    assert.equal(await slurm.stateOf(job), 'STAGE_OUT');
    await ask(`${second.url}/v1/caches/sim/resume`, { method: 'POST', body: '{}' });
    await slurm.untilState(job, 'COMPLETED');
    assert.equal(await onFiler(`killed-${job}.dat`), `${job}\n`);
    assert.equal((await flushesOf(second.url, job)).length, 1);
  });
});
