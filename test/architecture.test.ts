import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

// Compiled to build/test/: the sources are two folders up.
const root = fileURLToPath(new URL('../../', import.meta.url));

/** Who may import whom: the table of docs/ARCHITECTURE.md. Every room may import itself. */
const ROOMS: Record<string, readonly string[]> = {
  model: [],
  nfs: [],
  copy: [],
  flush: ['nfs', 'model'],
  scr: ['copy', 'model'],
  sim: ['nfs'],
  store: ['model'],
  worker: ['store', 'flush', 'copy', 'scr', 'model'],
  webhook: ['store', 'model'],
  access: ['model'],
  api: ['store', 'model'],
  metrics: ['worker', 'store', 'model'],
  web: ['model'],
  cli: ['access', 'flush', 'scr', 'sim', 'model'],
  config: ['model'],
  tracing: [],
  serve: ['config', 'model', 'access', 'store', 'worker', 'webhook', 'api', 'metrics', 'tracing'],
  // Of `serve` only what it refuses to listen on.
  doctor: ['config', 'model', 'nfs', 'store', 'access', 'webhook', 'serve'],
  main: ['config', 'model', 'flush', 'scr', 'sim', 'store', 'worker', 'api', 'cli', 'serve', 'doctor'],
};

/** What a room may use from outside: everything else is a decision to write down here and in the architecture document. */
const PACKAGES: Record<string, readonly string[]> = {
  model: ['zod'],
  nfs: [],
  copy: ['koffi'],
  flush: ['lru-cache', 'picomatch'],
  scr: ['koffi'],
  sim: ['picomatch'],
  store: ['bullmq', 'ioredis', 'lru-cache', 'pino', 'zod'],
  worker: ['@opentelemetry/api', 'bullmq', 'pino'],
  webhook: ['bullmq', 'pino'],
  access: ['jose', 'zod'],
  api: [
    '@opentelemetry/api',
    'fastify',
    '@fastify/swagger',
    '@fastify/swagger-ui',
    'fastify-type-provider-zod',
    'pino',
    'zod',
  ],
  metrics: ['prom-client'],
  web: ['preact', 'preact/hooks', '@preact/signals'],
  cli: ['commander', 'zod'],
  config: ['yaml', 'zod'],
  tracing: [
    '@opentelemetry/api',
    '@opentelemetry/core',
    '@opentelemetry/exporter-trace-otlp-http',
    '@opentelemetry/resources',
    '@opentelemetry/sdk-trace',
  ],
  serve: ['pino'],
  main: ['commander', 'pino'],
};

interface Import {
  file: string;
  /** Path below src without its ending, or the name of a package or of a module of Node. */
  target: string;
  ours: boolean;
  typeOnly: boolean;
}

const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => /\.tsx?$/.test(file))
  .sort();

const imports: Import[] = files.flatMap((file) => {
  const source = readFileSync(join(root, 'src', file), 'utf8');
  const statements = source.matchAll(
    /(?:^|\n)\s*(import|export)\s+(type\s)?[^'";]*?from\s+'([^']+)'|import\(\s*'([^']+)'\s*\)/g,
  );
  return [...statements].map((match) => {
    const specifier = match[3] ?? match[4] ?? '';
    const ours = specifier.startsWith('.');
    const target = ours ? normalize(join(dirname(file), specifier)).replace(/\.js$/, '') : specifier;
    return { file, target, ours, typeOnly: match[2] !== undefined };
  });
});

function room(path: string): string {
  return path.includes('/') ? (path.split('/')[0] as string) : path.replace(/\.tsx?$/, '');
}

test('every source file lies in a known room', () => {
  assert.deepEqual(
    files.filter((file) => !(room(file) in ROOMS)),
    [],
  );
});

test('imports between rooms point one way', () => {
  const wrong = imports
    .filter(({ file, target, ours }) => ours && room(file) !== room(target))
    .filter(({ file, target }) => !ROOMS[room(file)]?.includes(room(target)))
    .map(({ file, target }) => `${file} imports ${target}`);
  assert.deepEqual(wrong, []);
});

test('a room uses only the packages it is known to need', () => {
  const wrong = imports
    .filter(
      ({ file, target, ours }) =>
        !ours && !target.startsWith('node:') && !PACKAGES[room(file)]?.includes(target),
    )
    .map(({ file, target }) => `${file} imports ${target}`);
  assert.deepEqual(wrong, []);
});

test('no import goes round in a circle', () => {
  const edges = new Map<string, string[]>();
  for (const { file, target, ours } of imports) {
    if (!ours) continue;
    const from = file.replace(/\.tsx?$/, '');
    edges.set(from, [...(edges.get(from) ?? []), target]);
  }
  const done = new Set<string>();
  const visit = (file: string, path: string[]): void => {
    if (path.includes(file))
      assert.fail(`import cycle: ${[...path.slice(path.indexOf(file)), file].join(' → ')}`);
    if (done.has(file)) return;
    for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of edges.keys()) visit(file, []);
});

test('only main.ts reads the environment, takes signals and ends the process', () => {
  const uses = /\bprocess\.(env|exit\b|exitCode|on\b|once\b|argv)/;
  const wrong = files
    .filter((file) => file !== 'main.ts')
    .filter((file) => uses.test(withoutComments(readFileSync(join(root, 'src', file), 'utf8'))));
  assert.deepEqual(wrong, []);
});

function withoutComments(source: string): string {
  return source.replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*/g, '');
}

test('there is no drawer for things without a place', () => {
  const drawers = /(^|\/)(utils?|helpers?|common|lib|misc|shared)(\/|\.tsx?$)/;
  assert.deepEqual(
    files.filter((file) => drawers.test(file)),
    [],
  );
});
