import type { Config } from '../config/schema.js';
import { hasCredentials } from '../model/access.js';
import type { CacheConfig } from '../model/cache.js';
import { examineAddress, type Finding } from '../nfs/examination.js';
import type { RedisTarget } from '../store/connect.js';
import { examineStore } from '../store/examination.js';
import { type CacheGauges, openGaugeReader } from '../store/gauges.js';
import { runningSocket } from '../store/redis-folder.js';
import { findServer } from '../store/redis-program.js';
import { withoutPassword } from '../store/startup.js';
import { examineAccess, examineListening } from './access.js';
import { examineFile } from './files.js';
import { messageOf } from './finding.js';
import { examineTls } from './tls.js';
import { examineWebhooks } from './webhooks.js';

export interface DoctorSettings {
  config: Config;
  /** Where that stands; null: in the environment alone. */
  configFile: string | null;
  /** The name that AUTH_SYS carries. */
  hostName: string;
  /** Folders where programs are, as in $PATH. */
  searchPath: string;
  /** For each step. */
  timeoutMs: number;
  signal: AbortSignal;
}

export interface Diagnosis extends Finding {
  /** `redis`, a part of the configuration, or a cache and one of its addresses. */
  subject: string;
}

/** Looks at everything the configuration names, one after the other. Never throws; ends early at the abort. */
export async function* diagnose(settings: DoctorSettings): AsyncGenerator<Diagnosis> {
  const { config, signal, hostName, timeoutMs } = settings;
  const known = yield* diagnoseRedis(settings);
  yield* diagnoseApi(settings);
  if (config.caches.length === 0) {
    yield {
      subject: 'caches',
      level: 'warn',
      message:
        'none is configured: only addresses that adHoc.networks allows can be flushed. Add them under "caches".',
    };
  }
  for (const cache of config.caches) {
    const target = {
      addresses: cache.addresses,
      ports: cache.ports,
      credential: cache.credential,
      machineName: hostName,
      privilegedPort: cache.privilegedPort,
      callTimeoutMs: Math.min(timeoutMs, cache.callTimeoutSeconds * 1000),
    };
    for (const address of cache.addresses) {
      if (signal.aborted) return;
      const subject = `${cache.name} ${address}`;
      for await (const finding of examineAddress(address, target, cache.exports, { timeoutMs, signal })) {
        yield { subject, ...finding };
      }
    }
    const gauges = known?.find((each) => each.cache === cache.name);
    yield { subject: cache.name, ...dialectFinding(cache, gauges) };
    if (gauges !== undefined) yield { subject: cache.name, ...workersFinding(gauges) };
  }
}

/** What only a process with the API needs. */
async function* diagnoseApi({
  config,
  configFile,
  timeoutMs,
  signal,
}: DoctorSettings): AsyncGenerator<Diagnosis> {
  const { http, webhooks } = config;
  const parts: [subject: string, findings: Iterable<Finding> | AsyncIterable<Finding>][] = [
    ['http', examineListening(config)],
    ['access', examineAccess(config, timeoutMs)],
    ...(http.tls === null ? [] : [['tls', examineTls(http.tls)] satisfies [string, AsyncIterable<Finding>]]),
    ['webhooks', examineWebhooks(webhooks, timeoutMs, signal)],
  ];
  if (configFile !== null && (holdsSecrets(config) || hasCredentials(config.access))) {
    for (const finding of await examineFile(configFile, 'the configuration', holdsSecrets(config)))
      yield { subject: 'config', ...finding };
  }
  for (const [subject, findings] of parts) {
    for await (const finding of findings) {
      if (signal.aborted) return;
      yield { subject, ...finding };
    }
  }
}

/** Those of webhooks, or the password of Redis. */
function holdsSecrets({ webhooks, redis }: Config): boolean {
  const hasPassword = redis.url !== null && withoutPassword(redis.url) !== redis.url;
  return hasPassword || webhooks.endpoints.length + webhooks.origins.length > 0;
}

/** Tells of Redis; what it knows of the caches comes back, or null. */
async function* diagnoseRedis(settings: DoctorSettings): AsyncGenerator<Diagnosis, CacheGauges[] | null> {
  const { config, timeoutMs, signal } = settings;
  const told = (level: Finding['level'], message: string) => ({ subject: 'redis', level, message });
  let target: RedisTarget;
  try {
    const found = await redisOf(settings);
    if (typeof found === 'string') {
      yield told('ok', found);
      return null;
    }
    target = found;
  } catch (error) {
    yield told(
      'fail',
      `${messageOf(error)}. Or give the path of its program in redis.serverPath, or a Redis in redis.url.`,
    );
    return null;
  }
  try {
    const { version, roundTripMs, settings: set, warnings } = await examineStore(target, timeoutMs, signal);
    const where = withoutPassword(target.url);
    yield told(
      'ok',
      `Redis ${version} at ${where} answers in ${roundTripMs.toFixed(1)} ms: ${set.join(', ')}`,
    );
    for (const warning of warnings) yield told('warn', warning);
    return await knownCaches(target, settings);
  } catch (error) {
    const what = config.redis.url === null ? 'dataDir' : 'redis.url';
    yield told(
      'fail',
      `${messageOf(error)}. Check that it runs, the address and password in ${what}, and the network in between.`,
    );
    return null;
  }
}

/** A private Redis that does not run now is no fault: a sentence then. */
async function redisOf({ config, searchPath }: DoctorSettings): Promise<RedisTarget | string> {
  const { url, cluster, serverPath } = config.redis;
  if (url !== null) return { url, cluster };
  const socket = await runningSocket(config.dataDir);
  if (socket !== null) return { url: `unix://${socket}`, cluster: false };
  const program = await findServer({ serverPath, searchPath });
  return `the service will start a private one, ${program}, with its data in ${config.dataDir}; it does not run now`;
}

async function knownCaches(
  redis: RedisTarget,
  { config, timeoutMs, signal }: DoctorSettings,
): Promise<CacheGauges[] | null> {
  const reader = openGaugeReader({ redis, keyPrefix: config.redis.keyPrefix, caches: config.caches });
  try {
    const deadlineAt = Date.now() + timeoutMs;
    // Its connection is being made.
    while (!(await reader.store()).ok && Date.now() < deadlineAt && !signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return await reader.caches();
  } catch {
    return null;
  } finally {
    reader.close();
  }
}

function dialectFinding({ dialect }: CacheConfig, known: CacheGauges | undefined): Finding {
  const paused = known?.paused ? ' It is paused.' : '';
  if (dialect === 'rfc1813') {
    return {
      level: 'ok',
      message: `dialect rfc1813: an OK means that the data is on its stable storage.${paused}`,
    };
  }
  if (known === undefined) {
    return { level: 'ok', message: 'dialect hpc-cache: whether it was ever shown only Redis knows.' };
  }
  if (known.dialectProven) {
    return { level: 'ok', message: `dialect hpc-cache: shown, its OKs are worth "written-back".${paused}` };
  }
  if (known.up === null) {
    return {
      level: 'ok',
      message: `dialect hpc-cache: nothing was flushed there yet, so it was not shown.${paused}`,
    };
  }
  return {
    level: 'warn',
    message: `dialect hpc-cache: files were flushed there and it was never shown, so an OK is worth only "accepted". If it is a plain NFS server, configure the dialect rfc1813.${paused}`,
  };
}

function workersFinding({ workers }: CacheGauges): Finding {
  if (workers > 0) {
    return {
      level: 'ok',
      message: `${workers} running ${workers === 1 ? 'worker serves' : 'workers serve'} it`,
    };
  }
  return {
    level: 'warn',
    message:
      'no running worker serves it: its jobs would wait. Start one, writeback serve --role worker (or all), with this configuration.',
  };
}
