import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Job } from '../../src/model/job.js';
import { decodeEntry } from '../../src/store/entry.js';
import { startApi } from '../support/api.js';

const JSON_TYPE = { 'content-type': 'application/json' };

function post(payload: unknown, query = '') {
  return {
    method: 'POST',
    url: `/v1/transfers${query}`,
    headers: JSON_TYPE,
    payload: JSON.stringify(payload),
  } as const;
}

const file = (name: string, size?: number) => ({
  source: `/local/${name}`,
  destination: `/lustre/${name}`,
  ...(size !== undefined && { size }),
});

test('a transfer is taken as JSON, with all it may say', async (t) => {
  const api = startApi();
  t.after(api.close);
  const { status, body, headers } = await api.json(
    post({
      node: 'n042',
      files: [file('a', 5), file('caf\udce9')],
      directories: [{ source: '/local/d', destination: '/lustre/d', exclude: ['**/*.tmp'] }],
      limits: { bytesPerSecond: 1e6, cpuPercent: null },
      verify: true,
      labels: { run: '42' },
      deadlineSeconds: 60,
    }),
  );
  const job = body as Job;
  assert.equal(status, 202, JSON.stringify(body));
  assert.equal(headers.location, `/v1/jobs/${job.id}`);
  assert.deepEqual([job.kind, job.node, job.cache, job.export], ['transfer', 'n042', null, null]);
  const request = api.memory.transfer(job.id);
  assert.deepEqual(request.directories, [
    { path: '/local/d', destination: '/lustre/d', include: [], exclude: ['**/*.tmp'] },
  ]);
  assert.deepEqual(
    [request.options.limits, request.options.verify],
    [{ bytesPerSecond: 1e6, cpuPercent: null }, true],
  );
  const entries = api.memory.find(job.id).paths.map((bytes) => decodeEntry(bytes));
  assert.deepEqual(
    entries.map(({ path, destination, size }) => [
      path.toString('latin1'),
      destination?.toString('latin1'),
      size,
    ]),
    [
      ['/local/a', '/lustre/a', 5],
      ['/local/caf\xe9', '/lustre/caf\xe9', null],
    ],
  );
});

test('a long list is streamed, an object per line, with the options in the query', async (t) => {
  const api = startApi();
  t.after(api.close);
  const lines = Array.from({ length: 2000 }, (_, i) => JSON.stringify(file(`f${i}`, i)));
  const { status, body } = await api.json({
    method: 'POST',
    url: '/v1/transfers?node=n1&bytesPerSecond=1000&verify=true&label=run=7',
    headers: { 'content-type': 'application/x-ndjson' },
    payload: `${lines.join('\n')}\n`,
  });
  assert.equal(status, 202, JSON.stringify(body));
  const { id } = body as Job;
  assert.equal(api.memory.find(id).paths.length, 2000);
  const { options, labels } = api.memory.transfer(id);
  assert.deepEqual([options.limits.bytesPerSecond, options.verify, labels], [1000, true, { run: '7' }]);
});

test('what is wrong with a transfer is told with its place, and nothing of it stays', async (t) => {
  const api = startApi();
  t.after(api.close);
  const cases: [unknown, string, string | undefined][] = [
    [{ files: [file('a')] }, 'VALIDATION', '/node'],
    [{ node: 'a:b', files: [file('a')] }, 'VALIDATION', '/node'],
    [{ node: 'n1' }, 'EMPTY_LIST', '/files'],
    [{ node: 'n1', files: [{ source: 'relative', destination: '/b' }] }, 'VALIDATION', '/files/0/source'],
    [{ node: 'n1', files: [{ source: '/a', destination: '/b\0' }] }, 'VALIDATION', '/files/0/destination'],
    [{ node: 'n1', files: [{ source: '/a' }] }, 'VALIDATION', '/files/0/destination'],
    [
      { node: 'n1', files: [file('a')], limits: { bytesPerSecond: 0 } },
      'VALIDATION',
      '/limits/bytesPerSecond',
    ],
    [{ node: 'n1', files: [file('a')], scrTransferFile: '/x' }, 'VALIDATION', '/scrTransferFile'],
    [{ node: 'n1', scrTransferFile: 'x' }, 'VALIDATION', undefined],
    [
      { node: 'n1', directories: [{ source: '/a/b', destination: '/a//b/./c' }] },
      'VALIDATION',
      '/directories/0/destination',
    ],
    [
      { node: 'n1', files: [{ source: `/${'x'.repeat(5000)}`, destination: '/b' }] },
      'PATH_TOO_LONG',
      '/files/0/source',
    ],
  ];
  for (const [payload, code, pointer] of cases) {
    const { status, body } = await api.json(post(payload));
    const problem = body as { code: string; pointer?: string; errors?: { pointer?: string }[] };
    assert.ok(status >= 400 && status < 500, JSON.stringify(body));
    assert.equal(problem.code, code, JSON.stringify(body));
    const told = problem.pointer ?? problem.errors?.[0]?.pointer;
    if (pointer !== undefined) assert.equal(told, pointer, JSON.stringify(body));
  }
  const text = await api.json({
    method: 'POST',
    url: '/v1/transfers?node=n1',
    headers: { 'content-type': 'text/plain' },
    payload: '/a',
  });
  assert.equal(text.status, 415);
  assert.equal(api.memory.jobs.length, 0);
});

test('limits of a transfer are changed one by one; those of a flush, or of nothing, are refused', async (t) => {
  const api = startApi();
  t.after(api.close);
  const made = await api.json(post({ node: 'n1', files: [file('a')], limits: { cpuPercent: 10 } }));
  const { id } = made.body as Job;
  const patch = (job: string, payload: unknown) =>
    api.json({
      method: 'PATCH',
      url: `/v1/jobs/${job}`,
      headers: JSON_TYPE,
      payload: JSON.stringify(payload),
    });
  const changed = await patch(id, { limits: { bytesPerSecond: 2000 } });
  assert.equal(changed.status, 200, JSON.stringify(changed.body));
  assert.deepEqual(api.memory.transfer(id).options.limits, { bytesPerSecond: 2000, cpuPercent: 10 });
  assert.equal((await patch(id, { limits: {} })).status, 422);
  assert.equal((await patch(id, { limits: { bytesPerSecond: -1 } })).status, 422);
  assert.equal((await patch(id, { state: 'canceled' })).status, 422);
  assert.equal((await patch('nothing', { limits: { cpuPercent: 1 } })).status, 404);
  const flush = await api.json({
    method: 'POST',
    url: '/v1/flushes',
    headers: JSON_TYPE,
    payload: JSON.stringify({ cache: 'projects', export: '/exp1', files: ['/a'] }),
  });
  const refused = await patch((flush.body as Job).id, { limits: { cpuPercent: 1 } });
  assert.deepEqual([refused.status, (refused.body as { code: string }).code], [409, 'NOT_A_TRANSFER']);
  api.memory.change(id, 'succeeded');
  const late = await patch(id, { limits: { cpuPercent: 1 } });
  assert.deepEqual([late.status, (late.body as { code: string }).code], [409, 'JOB_ENDED']);
});
