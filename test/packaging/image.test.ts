import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseDocument } from 'yaml';
import { loadConfig, unknownVariables } from '../../src/config/load.js';

const root = new URL('../../../', import.meta.url);
const read = (name: string) => readFileSync(new URL(name, root), 'utf8');

/** Instructions of the Dockerfile, each on one line. */
const instructions = read('Dockerfile')
  .replaceAll(/^#.*\n/gm, '')
  .replaceAll(/\\\n\s*/g, ' ')
  .split('\n')
  .filter((line) => line !== '');

function argumentsOf(instruction: string): string[] {
  return instructions
    .filter((line) => line.startsWith(`${instruction} `))
    .map((line) => line.slice(instruction.length + 1));
}

const environment: Record<string, string> = Object.fromEntries(
  argumentsOf('ENV').flatMap((line) => line.split(/\s+/).map((pair) => pair.split('=') as [string, string])),
);

test('the image gets every file that it copies, and is not that of root', () => {
  const ignored = read('.dockerignore').trim().split('\n');
  assert.equal(ignored[0], '**', 'what is not named stays out of the image');
  const admitted = ignored.slice(1).map((line) => line.replace(/^!/, ''));
  const sources = argumentsOf('COPY')
    .filter((line) => !line.startsWith('--from'))
    .flatMap((line) => line.split(/\s+/).slice(0, -1));
  assert.ok(sources.length > 0);
  for (const source of sources) {
    assert.ok(existsSync(new URL(source, root)), `${source} is not there`);
    assert.ok(admitted.includes(source), `${source} is ignored by .dockerignore`);
  }
  assert.deepEqual(argumentsOf('USER'), ['node']);
});

test('the environment of the image is one that the service knows, and its ports are exposed', () => {
  assert.deepEqual(unknownVariables(environment), []);
  const { http, worker } = loadConfig({ env: environment, yamlText: 'access: { tokensFile: /tokens }' });
  assert.deepEqual(argumentsOf('EXPOSE'), [`${http.port} ${worker.metricsPort}`]);
  assert.deepEqual(JSON.parse(argumentsOf('ENTRYPOINT')[0] ?? ''), ['node', '/app/dist/main.js']);
  assert.deepEqual(JSON.parse(argumentsOf('CMD')[0] ?? ''), ['serve']);
});

test('the health check asks the process that the image starts, by its own socket', () => {
  const [line = ''] = argumentsOf('HEALTHCHECK');
  const command = JSON.parse(line.slice(line.indexOf('['))) as string[];
  // What it answers while a service runs, with TLS and client certificates too: test/e2e/client-certificates.test.ts.
  assert.deepEqual(command, [...(JSON.parse(argumentsOf('ENTRYPOINT')[0] ?? '') as string[]), 'health']);
  assert.ok(environment.WRITEBACK_HEALTH_SOCKET?.startsWith('/tmp/'), 'writable for the user of the image');
});

interface Service {
  command?: string | string[];
  volumes?: string[];
  environment?: Record<string, string>;
  depends_on?: Record<string, unknown>;
  ports?: string[];
  build?: string;
}

test('docker-compose.yml is strict YAML whose parts are there, with a configuration that is valid', () => {
  const document = parseDocument(read('docker-compose.yml'), { merge: true, strict: true });
  assert.deepEqual([...document.errors, ...document.warnings], []);
  const { services, volumes } = document.toJS() as {
    services: Record<string, Service>;
    volumes: Record<string, unknown>;
  };
  assert.deepEqual(Object.keys(services), ['redis', 'api', 'worker', 'simulated-cache']);
  for (const [name, service] of Object.entries(services)) {
    for (const mount of service.volumes ?? []) {
      const [source = ''] = mount.split(':');
      const there = source.startsWith('./') ? existsSync(new URL(source, root)) : source in volumes;
      assert.ok(there, `${name}: ${source}`);
    }
    for (const other of Object.keys(service.depends_on ?? {})) assert.ok(other in services, other);
  }
  for (const role of ['api', 'worker'] as const) {
    const { command, environment: variables = {} } = services[role] as Service;
    assert.deepEqual(command, ['serve', '--role', role]);
    assert.deepEqual(unknownVariables(variables), []);
    const config = loadConfig({
      env: { ...environment, ...variables },
      yamlText: read('compose.config.yaml'),
    });
    assert.equal(new URL(config.redis.url ?? '').hostname, 'redis');
    for (const { addresses } of config.caches)
      for (const address of addresses) assert.ok(address in services);
  }
  assert.ok(services.api?.ports?.every((port) => port.endsWith(`:${environment.WRITEBACK_HTTP_PORT}`)));
  assert.match(String(services.redis?.command), /--appendonly yes --appendfsync always .*noeviction/);
});
