import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { Job } from '../../src/model/job.js';
import { grantsSchema, type Principal } from '../../src/model/principal.js';
import { type ApiTest, startApi } from '../support/api.js';

function principal(name: string, grants: Record<string, unknown>): Principal {
  return { name, ...grantsSchema.parse(grants) };
}

const PRINCIPALS = {
  alice: principal('alice', {
    caches: [{ name: 'projects', prefixes: ['/exp1/alice', '/exp1/shared/'] }],
    nodes: [{ name: 'n1', sourceRoots: ['/local/alice'], destinationRoots: ['/lustre/alice'] }],
  }),
  bob: principal('bob', { caches: [{ name: 'scratch' }], nodes: [{ name: 'n2' }] }),
  ops: principal('ops', { role: 'operate' }),
  root: principal('root', { role: 'admin', caches: [{ name: '*' }], nodes: [{ name: '*' }] }),
};

/** Whoever reaches the service may call these. What is added here is a decision, see docs/SECURITY.md. */
const PUBLIC = ['healthz', 'openapi', 'readyz'];
/** These show everybody what is one's own, and refuse nobody who is known. */
const OWN = ['getMe', 'listCaches', 'listJobs', 'listNodes', 'listenToJobs'];

interface Operation {
  operationId: string;
  method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  path: string;
  isPublic: boolean;
  needs: string | undefined;
}

async function operations(api: ApiTest): Promise<Operation[]> {
  const { body } = await api.json({ url: '/openapi.json' });
  const { paths } = body as { paths: Record<string, Record<string, Record<string, unknown>>> };
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId, security, description }]) => ({
      operationId: String(operationId),
      method: method.toUpperCase() as Operation['method'],
      path,
      isPublic: Array.isArray(security) && security.length === 0,
      needs: /Needs the role `(\w+)`/.exec(String(description))?.[1],
    })),
  );
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

/** Bodies that are good, so that nothing but the principal can be wrong. */
const BODIES: Record<string, unknown> = {
  createFlush: { cache: 'projects', export: '/exp1', files: ['/alice/a'] },
  createTransfer: { node: 'n1', files: [{ source: '/local/alice/a', destination: '/lustre/alice/a' }] },
  changeJob: { limits: { bytesPerSecond: 1 } },
  pauseCache: { reason: 'x' },
  pauseNode: { reason: 'x' },
  patchCache: { limits: { inFlight: 1 } },
};

describe('every operation of the OpenAPI document', () => {
  let api: ApiTest;
  let all: Operation[];
  let job: Job;

  before(async () => {
    api = startApi({ principals: PRINCIPALS });
    all = await operations(api);
    const url = '/v1/flushes';
    const made = await api.json({
      method: 'POST',
      url,
      headers: bearer('alice'),
      payload: BODIES.createFlush as object,
    });
    assert.equal(made.status, 202, JSON.stringify(made.body));
    job = made.body as Job;
  });
  after(() => api.close());

  function request({ operationId, method, path }: Operation) {
    const name = path.startsWith('/v1/nodes') ? 'n1' : 'projects';
    const url = path.replace('{id}', job.id).replace('{name}', name).replace('{deliveryId}', 'd1');
    const payload = BODIES[operationId] as object | undefined;
    return { method, url, ...(payload && { payload }) };
  }

  test('is public on purpose, or wants a credential', () => {
    const open = all.filter(({ isPublic }) => isPublic).map(({ operationId }) => operationId);
    assert.deepEqual(open.sort(), PUBLIC);
    assert.ok(all.length > 20, `${all.length} operations`);
  });

  test('refuses a request without a credential, and one with a wrong one', async () => {
    for (const operation of all.filter(({ isPublic }) => !isPublic)) {
      const without = await api.app.inject(request(operation));
      assert.equal(without.statusCode, 401, operation.operationId);
      assert.equal(without.headers['www-authenticate'], 'Bearer realm="writeback-broker"');
      const wrong = await api.app.inject({ ...request(operation), headers: bearer('mallory') });
      assert.equal(wrong.statusCode, 401, operation.operationId);
      assert.match(String(wrong.headers['www-authenticate']), /error="invalid_token"/);
    }
  });

  test('refuses another principal, whom it tells no more than if there were nothing', async () => {
    for (const operation of all.filter(({ isPublic }) => !isPublic)) {
      if (OWN.includes(operation.operationId)) continue;
      const { statusCode, body } = await api.app.inject({ ...request(operation), headers: bearer('bob') });
      const expected = operation.needs === undefined && operation.path.includes('{') ? 404 : 403;
      assert.equal(statusCode, expected, `${operation.operationId}: ${body}`);
      assert.ok(!body.includes('alice') || operation.method !== 'GET', body);
    }
    assert.equal(api.memory.jobs.length, 1);
    assert.equal(api.memory.find(job.id).job.state, 'queued');
  });

  test('refuses a role that is too low, and says which one is needed', async () => {
    const higher = all.filter(({ needs }) => needs !== undefined);
    assert.ok(higher.length >= 5);
    for (const operation of higher) {
      const asking = operation.needs === 'admin' ? 'ops' : 'alice';
      const problem = await api.refused('ROLE_TOO_LOW', { ...request(operation), headers: bearer(asking) });
      assert.match(problem.detail, new RegExp(`role ${operation.needs};.*"${asking}"`));
    }
  });

  test("that lists something shows what is one's own; operators see all", async () => {
    for (const [token, seen] of [
      ['alice', 1],
      ['bob', 0],
      ['ops', 1],
    ] as const) {
      const { body } = await api.json({ url: '/v1/jobs', headers: bearer(token) });
      assert.equal((body as { items: Job[] }).items.length, seen, token);
    }
    const others = { url: '/v1/jobs?principal=alice', headers: bearer('bob') };
    await api.refused('ROLE_TOO_LOW', others);
    const me = await api.json({ url: '/v1/me', headers: bearer('alice') });
    assert.equal((me.body as Principal).name, 'alice');
    for (const list of all.filter(({ operationId }) => OWN.includes(operationId))) {
      assert.ok(!list.path.includes('{'), `${list.operationId} is about one thing: it must refuse`);
    }
  });
});

describe('a principal flushes what lies in its prefixes', () => {
  let api: ApiTest;
  before(() => {
    api = startApi({ principals: PRINCIPALS });
  });
  after(() => api.close());

  async function flush(payload: Buffer | string | object, query = '', type?: string, encoding?: string) {
    const headers: Record<string, string> = bearer('alice');
    if (type) headers['content-type'] = type;
    if (encoding) headers['content-encoding'] = encoding;
    return api.json({ method: 'POST', url: `/v1/flushes${query}`, headers, payload });
  }
  const LIST = '?cache=projects&export=/exp1';

  const GRANTED: [path: string, pathsAre?: string][] = [
    ['alice/a'],
    ['/alice//./a'],
    ['/shared/x/y'],
    ['/exp1/alice/a', 'namespace'],
    ['/mnt/projects/exp1/alice/a', 'client'],
  ];
  const REFUSED: [path: string, pathsAre?: string][] = [
    ['/bob/a'],
    ['/alicex/a'],
    ['/alice/../bob/a'],
    ['/alice/..'],
    ['..'],
    ['/'],
    ['/exp1/alice/a'],
    ['/exp1/bob/a', 'namespace'],
    ['/exp1/alice/../bob', 'namespace'],
    ['/exp2/alice/a', 'namespace'],
    ['/mnt/projects/exp1/bob/a', 'client'],
    ['/exp1/alice/a', 'client'],
    ['/alice\\..\\..', 'namespace'],
  ];

  test('in every form of the body, and nothing beside them', async () => {
    for (const [granted, cases] of [
      [true, GRANTED],
      [false, REFUSED],
    ] as const) {
      for (const [path, pathsAre = 'export'] of cases) {
        const query = `${LIST}&pathsAre=${pathsAre}`;
        const lines = `${path}\n`;
        const answers = [
          await flush({ files: [path], pathsAre, export: '/exp1', cache: 'projects' }),
          await flush({ cache: 'projects', export: '/exp1', pathsAre, directories: [{ path }] }),
          await flush(lines, query, 'text/plain'),
          await flush(`${path}\0`, `${query}&delimiter=nul`, 'text/plain'),
          await flush(gzipSync(lines), query, 'text/plain', 'gzip'),
          await flush(`${JSON.stringify(path)}\n`, query, 'application/x-ndjson'),
          await flush(`${JSON.stringify({ path })}\n`, query, 'application/x-ndjson'),
        ];
        for (const [i, { status, body }] of answers.entries()) {
          const what = `form ${i}, ${pathsAre} ${path}: ${JSON.stringify(body)}`;
          assert.equal(status, granted ? 202 : 403, what);
          if (!granted) assert.equal((body as { code: string }).code, 'PATH_NOT_ALLOWED', what);
        }
      }
    }
  });

  test('byte for byte: a name that is not UTF-8 is no other name', async () => {
    const grants = { caches: [{ name: 'projects', prefixes: ['/exp1/caf\u00e9'] }] };
    const other = startApi({ principals: { eve: principal('eve', grants) } });
    const send = (payload: Buffer) =>
      other.json({
        method: 'POST',
        url: `/v1/flushes${LIST}`,
        headers: { ...bearer('eve'), 'content-type': 'text/plain' },
        payload,
      });
    try {
      assert.equal((await send(Buffer.from('/caf\u00e9/a\n'))).status, 202);
      // Latin-1, and the same letter of two code points.
      assert.equal((await send(Buffer.from('/caf\u00e9/a\n', 'latin1'))).status, 403);
      assert.equal((await send(Buffer.from('/cafe\u0301/a\n'))).status, 403);
    } finally {
      await other.close();
    }
  });

  test('one such path among many refuses the request, with its place', async () => {
    const files = Array.from({ length: 3000 }, (_, i) => `/alice/${i}`);
    files[2222] = '/bob/x';
    const json = await flush({ files, cache: 'projects', export: '/exp1' });
    assert.equal(json.status, 403);
    assert.equal((json.body as { pointer: string }).pointer, '/files/2222');
    const list = await flush(files.join('\n'), LIST, 'text/plain');
    assert.equal(list.status, 403);
    assert.match(JSON.stringify(list.body), /"line":2223/);
    const before = api.memory.jobs.length;
    assert.equal((await flush({ files: ['/alice/a'], cache: 'projects', export: '/exp1' })).status, 202);
    assert.equal(api.memory.jobs.length, before + 1);
  });

  test('no other cache, export, or address', async () => {
    const asked = (cache: string, exportPath: string) => ({
      method: 'POST' as const,
      url: '/v1/flushes',
      headers: bearer('alice'),
      payload: { cache, export: exportPath, files: ['/alice/a'] },
    });
    await api.refused('CACHE_NOT_ALLOWED', asked('scratch', '/exp1'));
    await api.refused('CACHE_NOT_ALLOWED', asked('127.0.0.1', '/exp1'));
    await api.refused('PATH_NOT_ALLOWED', asked('projects', '/exp2'));
    // Another name of the same cache is the same cache.
    assert.equal((await api.json(asked('10.1.0.11', '/exp1'))).status, 202);
  });
});

test('what may be a secret in the URL of a request is in no line of the log', async () => {
  const open = startApi({
    webhooks: { origins: [{ origin: 'https://hooks.example.org', secrets: [`whsec_${'A'.repeat(43)}=`] }] },
  });
  try {
    const target = 'cache=scratch&export=/x';
    const url = encodeURIComponent('https://hooks.example.org/services/T0/s3cret?key=s3cret');
    const token = `wbt_abcdefghijkl_s3cret${'x'.repeat(37)}`;
    for (const [query, status] of [
      [`${target}&webhook=${url}`, 202],
      [`${target}&w%65bhook=${url}&webhookEvents=job.started`, 202],
      [`webhook=${url}&webhook=${url}&${target}`, 422],
      [`${target}&webhook=not+a+URL+s3cret`, 403],
      [`${target}&access_token=${token}`, 422],
      [`${target}&jwt=eyJhbGciOiJIUzI1NiJ9.s3cret.s3cret`, 422],
    ] as const) {
      const answer = await open.app.inject({
        method: 'POST',
        url: `/v1/flushes?${query}`,
        headers: { 'content-type': 'text/plain' },
        payload: '/a\n',
      });
      assert.equal(answer.statusCode, status, answer.body);
    }
    const lines = JSON.stringify(open.log);
    assert.doesNotMatch(lines, /s3cret/);
    assert.match(lines, /cache=scratch&export=%2Fx&webhook=https:\/\/hooks\.example\.org\/…/);
  } finally {
    await open.close();
  }
});

test("without a credential configured a name that could be anybody's is not answered to", async () => {
  const api = startApi();
  try {
    for (const host of ['127.0.0.1:8080', '[::1]:8080', 'localhost', 'LOCALHOST:1']) {
      assert.equal((await api.json({ url: '/v1/me', headers: { host } })).status, 200, host);
    }
    for (const host of ['evil.example.org', 'localhost.example.org:8080', '127.0.0.1.example.org']) {
      await api.refused('CROSS_SITE', { url: '/v1/jobs', headers: { host } });
    }
  } finally {
    await api.close();
  }
});

test('a principal copies from its source roots to its destination roots, and nothing else', async () => {
  const api = startApi({ principals: PRINCIPALS });
  const send = (payload: object | string, query = '') =>
    api.json({
      method: 'POST',
      url: `/v1/transfers${query}`,
      headers: {
        ...bearer('alice'),
        'content-type': query === '' ? 'application/json' : 'application/x-ndjson',
      },
      payload,
    });
  const granted = { source: '/local/alice/a', destination: '/lustre/alice/a' };
  const refused = [
    { ...granted, source: '/local/bob/a' },
    { ...granted, source: '/local/alice/../bob/a' },
    { ...granted, destination: '/lustre/alicex/a' },
    { ...granted, destination: '/lustre/alice/../../etc/cron.d/a' },
  ];
  try {
    assert.equal((await send({ node: 'n1', files: [granted] })).status, 202);
    // Within the roots of the agent a link could lead to somebody else's files.
    assert.equal(api.memory.transfer(api.memory.jobs.at(-1)?.job.id ?? '').followsLinks, false);
    assert.equal((await send(`${JSON.stringify(granted)}\n`, '?node=n1')).status, 202);
    assert.equal((await send({ node: 'n1', directories: [granted] })).status, 202);
    for (const file of refused) {
      for (const { status, body } of [
        await send({ node: 'n1', files: [granted, file] }),
        await send(`${JSON.stringify(granted)}\n${JSON.stringify(file)}\n`, '?node=n1'),
        await send({ node: 'n1', directories: [file] }),
      ]) {
        assert.equal(status, 403, JSON.stringify(file));
        assert.equal((body as { code: string }).code, 'PATH_NOT_ALLOWED');
      }
    }
    assert.equal((await send({ node: 'n1', scrTransferFile: '/local/alice/t.scr' })).status, 403);
    const other = await send({ node: 'n2', files: [granted] });
    assert.equal((other.body as { code: string }).code, 'NODE_NOT_ALLOWED');
  } finally {
    await api.close();
  }
});
