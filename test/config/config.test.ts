import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { ConfigError } from '../../src/config/faults.js';
import { loadConfig, unknownVariables } from '../../src/config/load.js';
import { configSchema, ENVIRONMENT } from '../../src/config/schema.js';

function problemOf(source: Parameters<typeof loadConfig>[0]): string {
  try {
    loadConfig(source);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.message;
  }
  return assert.fail('the configuration was taken');
}

test('without a file and variables the service is private to this machine', () => {
  const config = loadConfig({ env: { HOME: '/home/u' } });
  assert.equal(config.http.host, '127.0.0.1');
  assert.deepEqual(config.adHoc.networks, ['127.0.0.0/8', '::1/128']);
  assert.equal(config.redis.url, null);
  assert.equal(config.redis.fsync, 'always');
  assert.equal(config.dataDir, '/home/u/.local/share/writeback');
  assert.deepEqual(config.caches, []);
});

test('a cache needs a name, an address and a dialect; the rest has defaults', () => {
  const config = loadConfig({
    yamlText: 'caches:\n  - {name: fast, addresses: [10.0.0.4], dialect: hpc-cache}\n',
    env: {},
  });
  const cache = config.caches[0];
  assert.equal(cache?.limits.inFlight, 256);
  assert.equal(cache?.ports.portmap, 111);
  assert.equal(cache?.exports, null);
});

test('a variable wins over the file, an option over both, and an empty variable is none', () => {
  const yamlText = 'http: {host: 10.0.0.1, port: 1000}\nredis: {url: redis://file}\n';
  const env = { WRITEBACK_HTTP_HOST: '::', WRITEBACK_HTTP_PORT: '2000', WRITEBACK_REDIS_URL: '' };
  const config = loadConfig({ yamlText, env, options: { port: 3000, host: undefined } });
  assert.equal(config.http.host, '::');
  assert.equal(config.http.port, 3000);
  assert.equal(config.redis.url, 'redis://file');
});

test('a variable works where the file leaves its section empty', () => {
  assert.equal(loadConfig({ yamlText: 'http:\n', env: { WRITEBACK_HTTP_PORT: '81' } }).http.port, 81);
});

test('lists and booleans can be given by variables', () => {
  const env = { WRITEBACK_ADHOC_NETWORKS: '10.0.0.0/8, fd00::/8', WRITEBACK_REDIS_CLUSTER: 'yes' };
  const config = loadConfig({ env });
  assert.deepEqual(config.adHoc.networks, ['10.0.0.0/8', 'fd00::/8']);
  assert.equal(config.redis.cluster, true);
});

test('a misspelt key is refused with the right one, wherever it stands', () => {
  assert.match(
    problemOf({ yamlText: 'cachse: []', env: {} }),
    /cachse: there is no such key\. Did you mean "caches"\?/,
  );
  assert.match(
    problemOf({ yamlText: 'worker: {chunkPerCache: 2}', env: {} }),
    /worker\.chunkPerCache: .*"chunksPerCache"/,
  );
  const cache = '{name: a, addresses: [b], dialect: rfc1813, limits: {inflight: 2}}';
  assert.match(
    problemOf({ yamlText: `caches: [${cache}]`, env: {} }),
    /caches\[0\]\.limits\.inflight: .*"inFlight"/,
  );
});

test('an error names the key, or the variable it came from, and what is expected', () => {
  const yamlText = 'caches:\n  - {name: a, addresses: [b], dialect: nfs4}\n';
  assert.match(
    problemOf({ yamlText, env: {} }),
    /caches\[0\]\.dialect: expected one of "hpc-cache"\|"rfc1813"/,
  );
  assert.match(
    problemOf({ env: { WRITEBACK_HTTP_PORT: '70000' } }),
    /WRITEBACK_HTTP_PORT \(http\.port\): .*65535/,
  );
  assert.match(
    problemOf({ env: { WRITEBACK_HTTP_PORT: 'http' } }),
    /WRITEBACK_HTTP_PORT: expected a number, got "http"/,
  );
  assert.match(problemOf({ env: { WRITEBACK_ADHOC_NETWORKS: '10.0.0.0/33' } }), /adHoc\.networks\[0\]/);
  assert.match(
    problemOf({ yamlText: 'http: 8080', env: { WRITEBACK_HTTP_PORT: '1' } }),
    /http: expected object/,
  );
});

test('every fault is told at once', () => {
  const problem = problemOf({ yamlText: 'http: {port: -1}\nlog: {level: loud}\nnope: 1', env: {} });
  assert.match(problem, /http\.port/);
  assert.match(problem, /log\.level/);
  assert.match(problem, /nope/);
});

test('two caches of one name are refused', () => {
  const cache = '{name: a, addresses: [b], dialect: rfc1813}';
  assert.match(
    problemOf({ yamlText: `caches: [${cache}, ${cache}]`, env: {} }),
    /caches\[1\]\.name: "a" is the name of caches\[0\]/,
  );
});

test('a default above its own maximum is refused', () => {
  const yamlText = 'limits: {deadlineSeconds: {default: 100, max: 10}}';
  assert.match(problemOf({ yamlText, env: {} }), /limits\.deadlineSeconds\.default: 100 is more than/);
});

test('broken YAML is told with its line', () => {
  assert.match(problemOf({ yamlText: 'http:\n  port: [1\n', env: {} }), /line \d/);
  assert.match(problemOf({ yamlText: '- a\n', env: {} }), /must hold keys/);
  assert.match(problemOf({ yamlText: 'http: {port: 1}\nhttp: {port: 2}\n', env: {} }), /unique/);
});

test('a variable that means nothing is told, with the nearest that does', () => {
  const [sentence, ...more] = unknownVariables({
    WRITEBACK_REDIS_ULR: 'x',
    WRITEBACK_CONFIG: 'y',
    HOME: 'z',
  });
  assert.match(sentence ?? '', /WRITEBACK_REDIS_ULR .*"WRITEBACK_REDIS_URL"/);
  assert.deepEqual(more, []);
});

test('a fault of an option is told under the name of the option', () => {
  assert.throws(
    () => loadConfig({ env: {}, options: { 'redis-url': 'http://redis' } }),
    /option --redis-url \(redis\.url\): expected redis:/,
  );
});

test('every key is described, and every variable overrides a key that exists', () => {
  const root = z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema;
  const keys = new Map(leaves(root, ''));
  assert.ok(keys.size > 30);
  for (const [key, description] of keys) assert.ok(description, `${key} has no description`);
  for (const { key } of Object.values(ENVIRONMENT)) assert.ok(keys.has(key), `${key} is no key`);
});

interface JsonSchema {
  description?: string;
  properties?: Record<string, JsonSchema>;
}

function leaves(schema: JsonSchema, path: string): [string, string | undefined][] {
  if (!schema.properties || path === 'caches') return [[path, schema.description]];
  return Object.entries(schema.properties).flatMap(([name, inner]) => {
    // Described where the words of the model are.
    if (path === 'adHoc' && name !== 'networks') return [];
    if (path === 'limits') return [[`limits.${name}`, inner.description]];
    return leaves(inner, path === '' ? name : `${path}.${name}`);
  });
}
