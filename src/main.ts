#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { constants, hostname } from 'node:os';
import { resolve } from 'node:path';
import type { Logger } from 'pino';
import { CliError } from './cli/cli-error.js';
import type { CliContext } from './cli/context.js';
import type { DoctorCommandOptions, DoctorLine } from './cli/doctor.js';
import { EXIT } from './cli/exit-codes.js';
import { type RegisterCommand, runProgram } from './cli/program.js';
import type { ServeCommandOptions } from './cli/serve.js';
import type { TokenSettings } from './cli/token.js';
import type { Config } from './config/schema.js';
import type { Service } from './serve/service.js';

/**
 * The composition root: reads arguments and environment, takes signals, runs one command, ends the process. Everything
 * else gets what it needs from here.
 */

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const stop = new AbortController();
/** What SIGHUP asks for where it does not end the command. */
let reload: (() => void) | null = null;
for (const signal of SIGNALS) {
  process.on(signal, () => {
    if (signal === 'SIGHUP' && reload !== null) return reload();
    if (stop.signal.aborted) process.exit(128 + constants.signals[signal]);
    stop.abort(signal);
  });
}
// `writeback jobs | head` closes our output early: no fault, and nobody left to tell it to.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(128 + constants.signals.SIGPIPE);
    throw error;
  });
}

const context: CliContext = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signal: stop.signal,
  version: packageVersion(),
  becomeUser,
  setExitCode(code) {
    process.exitCode = code;
  },
};

/**
 * In the order of the help. A command is loaded when it is asked for: a hook that submits a job runs on every node,
 * and must not pay for loading the service.
 */
const COMMANDS: Readonly<Record<string, () => Promise<RegisterCommand>>> = {
  serve: async () => (await import('./cli/serve.js')).registerServe(serve),
  later: async () => (await import('./cli/later.js')).registerLater,
  submit: async () => (await import('./cli/submit.js')).registerSubmit,
  wait: async () => (await import('./cli/wait.js')).registerWait,
  jobs: async () => (await import('./cli/jobs.js')).registerJobs,
  files: async () => (await import('./cli/files.js')).registerFiles,
  cancel: async () => (await import('./cli/cancel.js')).registerCancel,
  retry: async () => (await import('./cli/retry.js')).registerRetry,
  deliveries: async () => (await import('./cli/deliveries.js')).registerDeliveries,
  caches: async () => (await import('./cli/caches.js')).registerCaches,
  nodes: async () => (await import('./cli/nodes.js')).registerNodes,
  'flush-file': async () => (await import('./cli/flush-file.js')).registerFlushFile,
  'scr-transfer': async () => (await import('./cli/scr-transfer.js')).registerScrTransfer,
  simulate: async () => (await import('./cli/simulate.js')).registerSimulate,
  token: async () => (await import('./cli/token.js')).registerToken(tokenSettings),
  health: async () => (await import('./cli/health.js')).registerHealth,
  doctor: async () => (await import('./cli/doctor.js')).registerDoctor(doctor),
  openapi: async () => (await import('./cli/openapi.js')).registerOpenapi(openApiYaml),
};

const args = process.argv.slice(2);
const exitCode = await runProgram(args, context, await commandsFor(args[0] ?? ''));
// A pipe takes what was written later than this: end only when it has.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit(exitCode);

/** The command that is asked for; all of them where the help may be. */
function commandsFor(first: string): Promise<RegisterCommand[]> {
  if (first === '--version' || first === '-V') return Promise.resolve([]);
  const asked = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  return Promise.all((asked ? [asked] : Object.values(COMMANDS)).map((load) => load()));
}

/**
 * The process itself changes, it starts no other: the kernel then lets that user neither trace it nor read what it
 * holds, such as a token that only root may read.
 */
function becomeUser(uid: number, gid: number): void {
  if (process.geteuid?.() === uid && uid !== 0) return;
  // Missing in the types of Node, not in Node.
  (process as unknown as { initgroups(user: number, group: number): void }).initgroups(uid, gid);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

async function openApiYaml(version: string): Promise<string> {
  const { openApiDocument } = await import('./api/openapi-document.js');
  return (await openApiDocument({ version })).yaml;
}

async function serve(
  options: ServeCommandOptions,
  { env, version, signal, stdout }: CliContext,
): Promise<number> {
  const [
    { pino },
    { ConfigError },
    { unknownVariables },
    { longestCloseMs, startService },
    { isLoopback },
    { loggedError },
    { hasCredentials },
  ] = await Promise.all([
    import('pino'),
    import('./config/faults.js'),
    import('./config/load.js'),
    import('./serve/service.js'),
    import('./serve/listening.js'),
    import('./serve/logged-error.js'),
    import('./model/access.js'),
  ]);
  const { role } = options;
  const config = await readConfig(options, env);
  if (role !== 'all' && config.redis.url === null) {
    throw new CliError(
      `--role ${role} needs a Redis that it shares with the other processes: set --redis-url, WRITEBACK_REDIS_URL or redis.url. A private Redis serves one process, which runs as --role all.`,
      EXIT.usage,
    );
  }
  if (role === 'agent') checkAgent(config.agent);
  const serializers = { err: loggedError };
  const log = pino({ level: config.log.level, base: { role }, serializers }, pino.destination(2));
  for (const sentence of unknownVariables(env)) log.warn(sentence);

  let service: Service;
  try {
    service = await startService({
      role,
      config,
      version,
      hostName: hostname(),
      processId: process.pid,
      searchPath: env.PATH ?? '',
      log,
      signal,
    });
  } catch (error) {
    if (signal.aborted) return EXIT.interrupted;
    log.debug({ err: error }, 'not started');
    if (error instanceof ConfigError) throw new CliError(error.message, EXIT.usage, { cause: error });
    throw new CliError(error instanceof Error ? error.message : String(error), EXIT.unavailable, {
      cause: error,
    });
  }
  const { url, metricsUrl, redis } = service;
  log.info({ version, url, metricsUrl, redis, caches: config.caches.map(({ name }) => name) }, 'started');
  stdout.write(
    url === null
      ? `writeback ${version} works with ${redis}\n`
      : `writeback ${version} listens on ${url} (documentation: ${url}/docs) with ${redis}\n`,
  );
  if (url !== null && !isLoopback(config.http.host)) {
    if (!hasCredentials(config.access)) {
      log.warn('Whoever can connect is an administrator: no credential is configured (access).');
    } else if (config.http.tls === null) {
      log.warn('Credentials travel in clear: set http.tls, or put a proxy with TLS in front.');
    }
  }

  let reloading = Promise.resolve();
  reload = () => {
    reloading = reloading.then(() => reloadConfig(service, () => readConfig(options, env), log));
  };
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
  reload = null;
  log.info({ signal: signal.reason }, 'ending');
  // Nothing may keep it: a Redis that is away, a file system that hangs.
  setTimeout(() => {
    log.error('not ended in time, leaving');
    process.exit(EXIT.error);
  }, longestCloseMs(config) + 5000).unref();
  const inOrder = await service.close();
  log.info({ inOrder }, 'ended');
  return inOrder ? EXIT.succeeded : EXIT.error;
}

/** A configuration that is not valid changes nothing. Never rejects. */
async function reloadConfig(service: Service, read: () => Promise<Config>, log: Logger): Promise<void> {
  try {
    const { live, atRestart } = service.reconfigure(await read());
    log.info({ live, atRestart }, 'the configuration was read again');
    if (atRestart.length > 0)
      log.warn(`Changed, but in force only after a restart: ${atRestart.join(', ')}.`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    log.error(`The configuration was not read again, and nothing has changed: ${why}`);
  }
}

/** What `writeback token` needs of the configuration, if there is one. */
async function tokenSettings(config: string | undefined, { env }: CliContext): Promise<TokenSettings> {
  const { access } = await readConfig({ config }, env);
  return {
    tokensFile: access.tokensFile,
    knows: (name) =>
      access.unknownPrincipals !== null || access.principals.some((known) => known.name === name),
  };
}

function checkAgent({ sourceRoots, destinationRoots }: Config['agent']): void {
  const missing = [
    sourceRoots.length === 0 && 'agent.sourceRoots (WRITEBACK_AGENT_SOURCE_ROOTS)',
    destinationRoots.length === 0 && 'agent.destinationRoots (WRITEBACK_AGENT_DESTINATION_ROOTS)',
  ].filter((key) => key !== false);
  if (missing.length === 0) return;
  throw new CliError(
    `--role agent copies only from and to directories that it is allowed: set ${missing.join(' and ')}.`,
    EXIT.usage,
  );
}

async function* doctor(
  options: DoctorCommandOptions,
  { env, signal }: CliContext,
): AsyncGenerator<DoctorLine> {
  const { timeout, config: file, redisUrl, dataDir } = options;
  const configFile = file ?? (env.WRITEBACK_CONFIG || null);
  const config = await readConfig({ config: file, redisUrl, dataDir }, env);
  const { diagnose } = await import('./doctor/diagnosis.js');
  const searchPath = env.PATH ?? '';
  const timeoutMs = timeout * 1000;
  yield* diagnose({ config, configFile, hostName: hostname(), searchPath, timeoutMs, signal });
}

async function readConfig(options: Partial<ServeCommandOptions>, env: CliContext['env']): Promise<Config> {
  const file = options.config ?? (env.WRITEBACK_CONFIG || undefined);
  let yamlText: string | undefined;
  if (file !== undefined) {
    try {
      yamlText = await readFile(file, 'utf8');
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new CliError(`the configuration file ${file} cannot be read: ${why}`, EXIT.usage, {
        cause: error,
      });
    }
  }
  const [{ ConfigError }, { loadConfig }] = await Promise.all([
    import('./config/faults.js'),
    import('./config/load.js'),
  ]);
  try {
    return loadConfig({
      yamlText,
      env,
      options: {
        host: options.host,
        port: options.port,
        'data-dir': options.dataDir && resolve(options.dataDir),
        'redis-url': options.redisUrl,
        node: options.node,
      },
    });
  } catch (error) {
    if (error instanceof ConfigError) {
      const where = file === undefined ? '' : ` (${file})`;
      throw new CliError(`${error.message}${where}`, EXIT.usage, { cause: error });
    }
    throw error;
  }
}

/** From the package.json beside the folder this was compiled to. */
function packageVersion(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const found = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as Record<
        string,
        unknown
      >;
      if (found.name === 'writeback-broker') return String(found.version);
    } catch {
      // Not there: the next.
    }
  }
  return '0.0.0';
}
