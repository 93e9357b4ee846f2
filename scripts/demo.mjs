/**
 * `npm run demo [-- --keep] [--port N]`: the whole way once, from a fresh clone. A simulated HPC Cache over two
 * folders, the service with its worker and its private Redis, real files in the cache, a list sent over HTTP, and
 * the proof that the long-term store then has the same bytes; then an agent that copies within a limit. Ends with
 * status 0 only if all of it is so.
 */
import { spawn } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { build, ensureDebianPackages, ensureNodeVersion, ensureNpmPackages, REDIS, root } from './setup.mjs';

const FILES = 200;
const EXPORT = '/projects';
const READY_MS = 20_000;
const STOP_MS = 20_000;
const KIB = 1024;
const NODE = 'demo-node';
const TRANSFER_MEBIBYTES = [6, 4, 2];
const LIMIT_MEBIBYTES = 4;

const HELP = `npm run demo -- [options]

  --keep         leave everything running at the end, until Ctrl-C
  --port N       where the service listens (default: a free port)
  --built DIR    use the compiled program in DIR and do not install or build anything`;

/** Undone in reverse order, whatever happens. */
const cleanups = [];
const interrupted = new AbortController();

class DemoError extends Error {}

function say(text) {
  const bold = process.stdout.isTTY && !process.env.NO_COLOR;
  console.log(bold ? `\n\x1b[1m${text}\x1b[0m` : `\n${text}`);
}

function check(condition, broken) {
  if (!condition) throw new DemoError(broken);
}

/** A name that is not UTF-8: names are bytes, and must come through as such. */
const ODD_NAME = Buffer.concat([
  Buffer.from('odd "name"\twith '),
  Buffer.of(0xe9, 0xff),
  Buffer.from('.dat'),
]);

async function main() {
  const values = optionsFrom({
    keep: { type: 'boolean', default: false },
    port: { type: 'string' },
    built: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  });
  if (values.help) return console.log(HELP);
  ensureNodeVersion();
  if (values.built === undefined) {
    ensureNpmPackages();
    ensureDebianPackages([REDIS]);
    console.log('Building …');
    build();
  }
  const built = resolve(values.built ?? join(root, 'dist'));
  const startedAt = Date.now();

  const folder = await mkdtemp(join(tmpdir(), 'writeback-demo-'));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  const cacheDir = join(folder, 'cache');
  const filerDir = join(folder, 'filer');
  const paths = await writeFiles(cacheDir);
  await mkdir(filerDir);

  say('1. A simulated HPC Cache');
  const cache = await startCache(built, cacheDir, filerDir);
  console.log(
    `   exports ${EXPORT} on ${cache.address}, NFS port ${cache.ports.nfs}; each flush takes it 0.2 s`,
  );
  console.log(`   what clients wrote: ${cacheDir}`);
  console.log(`   the long-term store: ${filerDir}`);

  say('2. The service, with a worker and a private Redis');
  const port = values.port === undefined ? await freePort() : Number(values.port);
  const url = `http://127.0.0.1:${port}`;
  await startService(built, folder, cache, port, url);
  console.log(`   ${url} is ready; opened in a browser it is the dashboard, to watch what follows`);

  say(`3. ${paths.length} files are in the cache, and not in the store`);
  const sums = await checksums(cacheDir, paths);
  check((await present(filerDir, paths)) === 0, 'the store has files before anybody flushed them');
  console.log(`   ${sums.mebibytes.toFixed(1)} MiB in the cache, 0 files in the store`);

  const writeback = (...args) => runWriteback(built, url, args);
  const target = ['--cache', 'demo', '--export', EXPORT];

  say('4. Submitted over HTTP: writeback submit --cache demo --export /projects --files-from list -0');
  const list = join(folder, 'list');
  await writeFile(list, Buffer.concat(paths.flatMap((path) => [path, Buffer.of(0)])));
  const first = await writeback('submit', ...target, '--label', 'demo=files', '--files-from', list, '-0');
  check(first.status === 0, `"writeback submit" ended with status ${first.status}, not 0`);
  const [firstJob] = await jobsWith(url, 'demo=files');
  check(firstJob?.state === 'succeeded', `the job ended as ${firstJob?.state}`);
  check(
    firstJob.progress.filesSucceeded === paths.length,
    'the job has not counted every file as written back',
  );

  say('5. The store has the same bytes');
  const stored = await checksums(filerDir, paths);
  const same = paths.filter((_, i) => stored.sums[i] === sums.sums[i]).length;
  check(same === paths.length, `${paths.length - same} files differ between cache and store`);
  console.log(`   ${same} of ${paths.length} files have the same SHA-256 on both sides`);

  say('6. When something goes wrong, the job says what, and what to do');
  const missing = Buffer.from('/run42/missing.dat');
  const full = Buffer.from('/run42/no-room.dat');
  await writeFile(join(cacheDir, full.toString()), 'this file finds the store full\n');
  cache.setFaults([{ kind: 'error', path: full.toString(), procedures: ['COMMIT'], status: 28 }]);
  const second = await writeback('submit', ...target, '--label', 'demo=errors', `${missing}`, `${full}`);
  check(
    second.status === 11,
    `"writeback submit" of two bad files ended with status ${second.status}, not 11`,
  );
  check(/ENOENT/.test(second.stdout) && /ENOSPC/.test(second.stdout), 'the errors are not in the output');
  console.log(`   (exit status ${second.status}: failed)`);
  check((await present(filerDir, [missing, full])) === 0, 'the store has a file whose flush failed');

  say('7. The file is written, the store has room again: writeback retry');
  await writeFile(join(cacheDir, missing.toString()), 'here at last\n');
  cache.setFaults([]);
  const [secondJob] = await jobsWith(url, 'demo=errors');
  const third = await writeback('retry', secondJob.id);
  check(third.status === 0, `"writeback retry" ended with status ${third.status}, not 0`);
  const again = await Promise.all([cacheDir, filerDir].map((side) => checksums(side, [missing, full])));
  check(again[0].sums.join() === again[1].sums.join(), 'the retried files differ between cache and store');

  say(`8. Files of a node are copied by its agent, at ${LIMIT_MEBIBYTES} MiB/s at most`);
  const transferred = await transferFiles(built, folder, url, writeback);
  console.log(`   measured: ${transferred.toFixed(2)} MiB/s, and the same SHA-256 on both sides`);
  check(transferred <= LIMIT_MEBIBYTES * 1.05, 'the limit did not hold');

  say(`All as promised, in ${((Date.now() - startedAt) / 1000).toFixed(1)} s.`);
  showWaysOn(built, url, firstJob.id, secondJob.id, values.keep);
  if (values.keep) {
    say('Running until Ctrl-C.');
    await new Promise((end) => interrupted.signal.addEventListener('abort', end));
  }
}

function optionsFrom(options) {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    throw new DemoError(`${error.message}\n\n${HELP}\n`);
  }
}

/** Some kilobytes to some megabytes in a few folders. @returns the paths below the export, as bytes */
async function writeFiles(cacheDir) {
  const folders = [
    'run42',
    'run42/checkpoints',
    'run42/checkpoints/rank-000',
    'results',
    'results/2026 (final)',
  ];
  for (const name of folders) await mkdir(join(cacheDir, name), { recursive: true });
  const names = Array.from({ length: FILES - 1 }, (_, i) =>
    Buffer.from(`/${folders[i % folders.length]}/file-${String(i).padStart(3, '0')}.dat`),
  );
  names.push(Buffer.concat([Buffer.from('/results/'), ODD_NAME]));
  for (const [i, name] of names.entries()) {
    const bytes =
      i === 0 ? 0 : i % 50 === 1 ? 4096 * KIB : i % 9 === 1 ? 512 * KIB : (1 + (i % 64)) * KIB + i;
    await writeFile(at(cacheDir, name), randomFillSync(Buffer.allocUnsafe(bytes)));
  }
  return names;
}

/** Folder and path (bytes) to one path (bytes). */
function at(folder, path) {
  return Buffer.concat([Buffer.from(folder), path]);
}

async function checksums(folder, paths) {
  let bytes = 0;
  const sums = [];
  for (const path of paths) {
    const content = await readFile(at(folder, path));
    bytes += content.length;
    sums.push(createHash('sha256').update(content).digest('hex'));
  }
  return { sums, mebibytes: bytes / (KIB * KIB) };
}

async function present(folder, paths) {
  const found = await Promise.all(
    paths.map((path) =>
      access(at(folder, path)).then(
        () => 1,
        () => 0,
      ),
    ),
  );
  return found.reduce((sum, one) => sum + one, 0);
}

async function startCache(built, cacheDir, filerDir) {
  const { startSimulatedCache } = await import(join(built, 'sim', 'server.js'));
  const cache = await startSimulatedCache({
    cacheDir,
    filerDir,
    exports: [{ path: EXPORT }],
    flushLatencyMs: 200,
    flushConcurrency: 16,
    // The service runs as whoever runs the demo; who may read what is not what is shown here.
    permissions: 'ignored',
  });
  cleanups.push(() => cache.close());
  return cache;
}

/** @returns MiB per second over the whole job */
async function transferFiles(built, folder, url, writeback) {
  const [local, parallel] = [join(folder, 'local'), join(folder, 'parallel')];
  await mkdir(local);
  await mkdir(parallel);
  const names = TRANSFER_MEBIBYTES.map((_, i) => Buffer.from(`/checkpoint.${i}`));
  for (const [i, name] of names.entries()) {
    const bytes = Buffer.allocUnsafe(TRANSFER_MEBIBYTES[i] * KIB * KIB);
    await writeFile(at(local, name), randomFillSync(bytes));
  }
  await startAgent(built, folder, local, parallel);
  const files = names.map((name) => at(local, name).toString());
  const wishes = ['--label', 'demo=transfer', '--limit', `${LIMIT_MEBIBYTES}M`, '--to', parallel];
  const run = await writeback('submit', '--transfer', '--node', NODE, ...wishes, ...files);
  check(run.status === 0, `"writeback submit --transfer" ended with status ${run.status}, not 0`);
  const both = await Promise.all([local, parallel].map((side) => checksums(side, names)));
  check(both[0].sums.join() === both[1].sums.join(), 'a copied file differs from its source');
  const [job] = await jobsWith(url, 'demo=transfer');
  const seconds = (Date.parse(job.finishedAt) - Date.parse(job.startedAt)) / 1000;
  return both[0].mebibytes / seconds;
}

/** An agent as it would run on a compute node, with the private Redis of the service, because it is the same host. */
async function startAgent(built, folder, local, parallel) {
  const agent = spawn(
    process.execPath,
    [join(built, 'main.js'), 'serve', '--role', 'agent', '--node', NODE],
    {
      env: {
        ...cleanEnvironment(),
        WRITEBACK_REDIS_URL: `unix://${encodeURI(join(folder, 'data', 'redis.sock'))}`,
        WRITEBACK_AGENT_SOURCE_ROOTS: local,
        WRITEBACK_AGENT_DESTINATION_ROOTS: parallel,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let log = '';
  agent.stderr.on('data', (data) => {
    log = (log + data).slice(-8000);
  });
  const exited = once(agent, 'exit');
  cleanups.push(() => stop(agent, exited));
  const ready = await Promise.race([once(agent.stdout, 'data').then(() => true), exited.then(() => false)]);
  if (ready) return;
  console.error(log);
  throw new DemoError('the agent ended');
}

/** Starts `writeback serve` and waits until it is ready. Its log is shown if it does not become so. */
async function startService(built, folder, cache, port, url) {
  const config = join(folder, 'writeback.yaml');
  await writeFile(
    config,
    JSON.stringify({
      http: { host: '127.0.0.1', port },
      dataDir: join(folder, 'data'),
      caches: [
        {
          name: 'demo',
          addresses: [cache.address],
          dialect: 'hpc-cache',
          exports: [EXPORT],
          ports: cache.ports,
        },
      ],
    }),
  );
  const service = spawn(process.execPath, [join(built, 'main.js'), 'serve', '--config', config], {
    env: cleanEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  for (const stream of [service.stdout, service.stderr]) {
    stream.on('data', (data) => {
      log = (log + data).slice(-8000);
    });
  }
  const exited = once(service, 'exit');
  cleanups.push(() => stop(service, exited));
  const readyBy = Date.now() + READY_MS;
  for (;;) {
    if (interrupted.signal.aborted) throw new DemoError('interrupted');
    const ready = await fetch(`${url}/readyz`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (ready) return;
    if (service.exitCode !== null || service.signalCode !== null || Date.now() > readyBy) {
      console.error(log);
      throw new DemoError(
        service.exitCode === null
          ? `the service is not ready after ${READY_MS / 1000} s`
          : 'the service ended',
      );
    }
    await delay(100);
  }
}

async function stop(child, exited) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const late = setTimeout(() => {
    console.error('The service did not stop by itself.');
    child.kill('SIGKILL');
  }, STOP_MS);
  await exited;
  clearTimeout(late);
}

/** Runs the command line client; what it prints is shown as it comes. */
async function runWriteback(built, url, args) {
  const child = spawn(process.execPath, [join(built, 'main.js'), ...args], {
    env: { ...cleanEnvironment(), WRITEBACK_URL: url },
    stdio: ['ignore', 'pipe', 'inherit'],
    signal: interrupted.signal,
  });
  let stdout = '';
  child.stdout.on('data', (data) => {
    stdout += data;
    process.stdout.write(data);
  });
  const [status] = await once(child, 'close');
  return { status, stdout };
}

/** The demo is the same whatever WRITEBACK_ variables are set. */
function cleanEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('WRITEBACK_')));
}

async function jobsWith(url, label) {
  const answer = await fetch(`${url}/v1/jobs?label=${encodeURIComponent(label)}`);
  check(answer.ok, `GET /v1/jobs answered ${answer.status}`);
  return (await answer.json()).items;
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function showWaysOn(built, url, goodJob, badJob, keep) {
  console.log(`
   The dashboard:                 ${url}/
   API, with a page to try it:    ${url}/docs
   The job:                       curl ${url}/v1/jobs/${goodJob}
   Its files:                     curl '${url}/v1/jobs/${goodJob}/files?limit=3'
   What went wrong in the other:  curl ${url}/v1/jobs/${badJob}/errors
   A flush of your own:           curl ${url}/v1/flushes -H content-type:application/json -d '{"cache":"demo","export":"${EXPORT}","files":["/results/file-003.dat"]}'
   The command line:              WRITEBACK_URL=${url} node ${relative('', join(built, 'main.js'))} jobs`);
  if (!keep) console.log('\n   (They answer while the demo runs: npm run demo -- --keep)');
}

function interrupt() {
  if (interrupted.signal.aborted) process.exit(130);
  interrupted.abort();
}
process.on('SIGINT', interrupt);
process.on('SIGTERM', interrupt);

let status = 0;
try {
  await main();
} catch (error) {
  status = interrupted.signal.aborted ? 130 : 1;
  if (status === 1) {
    console.error(`\nThe demo failed: ${error instanceof DemoError ? `${error.message}.` : error.stack}`);
  }
}
for (const cleanup of cleanups.reverse()) {
  await cleanup().catch((error) => {
    console.error(`Cleaning up failed: ${error.message}`);
    status ||= 1;
  });
}
process.exit(status);
