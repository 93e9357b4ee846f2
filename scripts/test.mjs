/**
 * `npm test [-- PATTERN…]`: installs what is missing, then lint, types and every test. With patterns, only the test
 * files whose path contains one of them are run.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import {
  build,
  buildAll,
  ensureDebianPackages,
  ensureNodeVersion,
  ensureNpmPackages,
  fail,
  npmBin,
  REDIS,
  root,
  run,
} from './setup.mjs';

// Many tests wait for processes and timers more than they compute.
const FILES_AT_ONCE = 5;
const TEST_TIMEOUT_MS = 240_000;
/** Begun first, in this order, so that none of them is left alone at the end: for most of their time they wait. */
const LONGEST = [
  'e2e/nfs-restart-60s',
  'flush/outage-60s',
  'worker/worker',
  'api/docs-page',
  'e2e/redis-loss',
  'demo/demo',
  'worker/interruptions',
  'e2e/transfer',
  'worker/circuit-breaker',
  'scr/kill',
  'scr/daemon',
  'e2e/crash',
  'e2e/service',
  'worker/transfer',
  'web/dashboard',
  'e2e/slurm',
].map((name) => join('build', 'test', `${name}.test.js`));

ensureNodeVersion();
ensureNpmPackages();
ensureDebianPackages([
  REDIS,
  {
    command: 'ganesha.nfsd',
    package: 'nfs-ganesha',
    needed: 'the tests against a real NFS server are skipped',
  },
  {
    file: `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/ganesha/libfsalvfs.so`,
    package: 'nfs-ganesha-vfs',
    needed: 'the tests against a real NFS server are skipped',
  },
  { command: 'rpcbind', package: 'rpcbind', needed: 'the tests against a real portmapper are skipped' },
  {
    command: 'chromium',
    package: 'chromium',
    needed: 'the tests of the dashboard and of the page /docs in a browser are skipped',
  },
  ...['slurmctld', 'slurmd'].map((command) => ({
    command,
    package: command,
    needed: 'the tests with a real Slurm are skipped',
  })),
  { command: 'sbatch', package: 'slurm-client', needed: 'the tests with a real Slurm are skipped' },
  {
    file: `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/slurm-wlm/auth_jwt.so`,
    package: 'slurm-wlm-jwt-plugin',
    needed: 'the tests with a real Slurm are skipped',
  },
  { command: 'munged', package: 'munge', needed: 'the tests with a real Slurm are skipped' },
  { command: 'lua5.1', package: 'lua5.1', needed: 'the tests of the polling stage-out are skipped' },
  {
    command: 'shellcheck',
    package: 'shellcheck',
    needed: 'the shell scripts for schedulers are not checked',
  },
  {
    command: 'promtool',
    package: 'prometheus',
    needed: 'metrics, alert rules and dashboard are not shown to Prometheus',
  },
  { command: 'nfs-ls', package: 'libnfs-utils', needed: 'the tests with an independent client are skipped' },
]);

const patterns = process.argv.slice(2);
if (patterns.length === 0) {
  console.log('Lint …');
  run(npmBin('biome'), ['check', '--error-on-warnings', '.']);
}
console.log('Types and build …');
build();
buildAll();

const folder = join(root, 'build', 'test');
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.js'))
  .map((file) => relative(root, join(folder, file)))
  .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)))
  .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
if (files.length === 0) fail('No test file matches.');

console.log(`Tests (${files.length} files, Node ${process.versions.node}) …`);
const result = spawnSync(
  process.execPath,
  [
    '--enable-source-maps',
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    join(root, 'scripts', 'run-tests.mjs'),
    String(FILES_AT_ONCE),
    String(TEST_TIMEOUT_MS),
    ...files,
  ],
  { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] },
);
process.exit(result.status ?? 1);

function rank(file) {
  const place = LONGEST.indexOf(file);
  return place === -1 ? LONGEST.length : place;
}
