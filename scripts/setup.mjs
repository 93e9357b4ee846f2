/**
 * What `npm run demo`, `npm test` and `npm run bench` need before they can start, from a fresh clone with nothing
 * but Node and npm. No dependency but Node itself: it runs before the packages are there.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const OLDEST_NODE = [20, 19];
const POLICY_FILE = '/usr/sbin/policy-rc.d';

/** Ends the process with one sentence; what went wrong has been shown already. */
export function fail(message) {
  console.error(`\n${message}`);
  process.exit(1);
}

/** Runs a command in the project's root with its output shown; ends the process if it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (result.error) fail(`${command} cannot be run: ${result.error.message}`);
  if (result.status !== 0)
    fail(`"${command} ${args.join(' ')}" failed (${result.signal ?? `status ${result.status}`}).`);
}

/** A command of an installed npm package. */
export function npmBin(name) {
  return join(root, 'node_modules', '.bin', name);
}

export function hasCommand(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

export function ensureNodeVersion() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    fail(`Node.js ${OLDEST_NODE.join('.')} or later is needed; this is ${process.versions.node}.`);
  }
}

/** Installs the npm packages of the lock file unless they are there already. */
export function ensureNpmPackages() {
  const installed = join(root, 'node_modules', '.package-lock.json');
  const wanted = join(root, 'package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(wanted).mtimeMs) return;
  console.log('Installing the npm packages …');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

/**
 * Installs what is missing with apt-get, where that is possible (root on Debian and its kin).
 * `tools`: { command, package, needed: true | 'what goes without it' }. Ends the process if a needed tool stays missing.
 */
export function ensureDebianPackages(tools) {
  const missing = tools.filter((tool) => !present(tool));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((tool) => tool.package))];
  const isDebian = existsSync('/etc/debian_version') && hasCommand('apt-get');
  if (isDebian && process.getuid?.() === 0) aptInstall(packages);
  else {
    const how = isDebian
      ? `as root: apt-get install ${packages.join(' ')}`
      : `the equivalents of Debian's ${packages.join(' ')}`;
    console.log(
      `Not installed here: ${missing.map(({ command, file }) => command ?? file).join(', ')}. Install ${how}`,
    );
  }
  for (const tool of missing.filter((candidate) => !present(candidate))) {
    const name = tool.command ?? tool.file;
    if (tool.needed === true)
      fail(`${name} is needed. Install it (Debian package: ${tool.package}) and try again.`);
    console.log(`Without ${name}: ${tool.needed}.`);
  }
}

function present(tool) {
  return tool.command ? hasCommand(tool.command) : existsSync(tool.file);
}

function aptInstall(packages) {
  console.log(`Installing ${packages.join(', ')} with apt-get …`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args) =>
    spawnSync('apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=300', ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
    });
  withoutStartingServices(() => {
    let result = apt('install', '-y', '--no-install-recommends', ...packages);
    if (result.status !== 0) {
      apt('update');
      result = apt('install', '-y', '--no-install-recommends', ...packages);
    }
    if (result.status !== 0) console.error(`${result.stdout}${result.stderr}`);
  });
}

/** Debian starts the services of a package it installs, unless policy-rc.d forbids it: we only want the programs. */
function withoutStartingServices(install) {
  const ours = !existsSync(POLICY_FILE);
  if (ours) writeFileSync(POLICY_FILE, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    install();
  } finally {
    if (ours) rmSync(POLICY_FILE, { force: true });
  }
}

/** Compiles the product into `dist`. */
export function build() {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run(npmBin('tsc'), ['-p', 'tsconfig.build.json']);
  buildDashboard('dist/web');
}

/** Compiles product, tests and benchmarks into `build`, which checks all their types. */
export function buildAll() {
  rmSync(join(root, 'build'), { recursive: true, force: true });
  run(npmBin('tsc'), ['-p', 'tsconfig.json']);
  buildDashboard('build/src/web');
}

/** Checks the types of the dashboard and bundles it into a folder. */
function buildDashboard(folder) {
  run(npmBin('tsc'), ['-p', 'src/web']);
  run(process.execPath, ['scripts/build-web.mjs', folder]);
}

export const REDIS = { command: 'redis-server', package: 'redis-server', needed: true };

export function packageVersion() {
  return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version;
}
