import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { problemSchema } from '../../src/api/problem.js';
import { startApi } from '../support/api.js';

/** Whatever is sent: an answer that is documented, and never a fault of ours. */

const path = fc.oneof(
  fc.constantFrom('/a', '/run/x', '', '/..', '/\0', '/caf\udce9', '\ud800', `/${'x'.repeat(5000)}`),
  fc.string({ unit: 'binary' }),
);
const junk = fc.jsonValue({ maxDepth: 3 });
const mostly = <T>(good: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 6, arbitrary: good }, { weight: 1, arbitrary: junk });

const flush = fc.record(
  {
    cache: mostly(
      fc.constantFrom('projects', 'scratch', '127.0.0.1', '10.0.0.1', '::1', 'fe80::1%lo', 'no host', ''),
    ),
    export: mostly(fc.constantFrom('/exp1', '/exp2/', '/', 'x', '/..')),
    files: mostly(fc.array(mostly(path), { maxLength: 5 })),
    directories: mostly(
      fc.array(
        fc.record(
          { path: mostly(path), include: mostly(fc.array(fc.string())), exclude: junk },
          { requiredKeys: [] },
        ),
        {
          maxLength: 3,
        },
      ),
    ),
    pathsAre: mostly(fc.constantFrom('export', 'namespace', 'client')),
    mode: mostly(fc.constantFrom('async', 'sync')),
    dialect: mostly(fc.constantFrom('hpc-cache', 'rfc1813')),
    fileTimeoutSeconds: mostly(fc.double()),
    deadlineSeconds: mostly(fc.integer()),
    labels: mostly(fc.dictionary(fc.string(), fc.string())),
    more: junk,
  },
  { requiredKeys: [] },
);

const bytes = fc.oneof(
  flush.map((value) => Buffer.from(JSON.stringify(value))),
  fc.tuple(flush, fc.nat(), fc.nat(255)).map(([value, at, byte]) => {
    const body = Buffer.from(JSON.stringify(value));
    body[at % body.length] = byte;
    return body;
  }),
  fc.uint8Array({ maxLength: 200 }).map((value) => Buffer.from(value)),
  fc.array(path).map((lines) => Buffer.from(lines.join('\n'))),
  fc.array(junk).map((lines) => Buffer.from(lines.map((line) => JSON.stringify(line)).join('\n'))),
);

const query = fc.oneof(
  fc.constant(''),
  fc.constant('?cache=projects&export=/exp1'),
  fc
    .dictionary(
      fc.constantFrom('cache', 'export', 'label', 'mode', 'delimiter', 'limit', 'state', 'cursor', 'x'),
      fc.string(),
    )
    .map((parameters) => `?${new URLSearchParams(parameters)}`),
  fc.webQueryParameters().map((text) => `?${text}`),
);

test('no body and no query to any path gives a 5xx, and what is accepted is kept whole', async (t) => {
  const api = startApi();
  t.after(api.close);
  const url = fc.constantFrom(
    '/v1/flushes',
    '/v1/flushes',
    '/v1/flushes',
    '/v1/jobs',
    '/v1/jobs/f1',
    '/v1/jobs/f1/files',
    '/v1/jobs/f1/errors',
    '/v1/jobs/f1/cancel',
    '/v1/jobs/f1/retry',
    '/v1/caches',
    '/v1/caches/x/pause',
    '/v1/caches/x/resume',
    '/readyz',
  );
  const type = fc.constantFrom(
    'application/json',
    'text/plain',
    'application/x-ndjson',
    'text/csv',
    ';',
    'application/json; charset=x',
  );
  await fc.assert(
    fc.asyncProperty(
      url,
      query,
      fc.constantFrom('POST', 'GET', 'PUT'),
      type,
      bytes,
      fc.constantFrom(0, 1, 2),
      async (to, search, method, contentType, body, coding) => {
        const before = api.memory.jobs.length;
        const response = await api.app.inject({
          method: method as 'POST',
          url: to + search,
          ...(method !== 'GET' && {
            headers: { 'content-type': contentType, ...(coding > 0 && { 'content-encoding': 'gzip' }) },
            payload: coding === 2 ? gzipSync(body) : body,
          }),
        });
        assert.ok(response.statusCode < 500, `${response.statusCode} ${response.body}`);
        if (response.statusCode >= 400) problemSchema.strict().parse(response.json());
        const accepted = response.statusCode === 202 && to === '/v1/flushes' ? 1 : 0;
        if (to === '/v1/flushes') assert.equal(api.memory.jobs.length, before + accepted);
        for (const { paths, request } of api.memory.jobs.slice(before)) {
          assert.ok(paths.length + request.directories.length > 0);
          assert.ok(paths.every((one) => one.length > 0 && one.length <= 4096 && !one.includes(0)));
        }
      },
    ),
    { numRuns: 3000 },
  );
});
