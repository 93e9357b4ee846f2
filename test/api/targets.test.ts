import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Lookup, Targets } from '../../src/api/target.js';
import { cacheConfigSchema } from '../../src/model/cache.js';
import { type ApiErrorCode, BrokerError } from '../../src/model/errors.js';
import { adHocSchema } from '../../src/model/limits.js';
import { PROJECTS, SCRATCH, startApi } from '../support/api.js';

const noLookup: Lookup = async (name) => assert.fail(`${name} was looked up`);

function targets(
  networks: string[],
  lookup: Lookup = noLookup,
  adHoc: Record<string, unknown> = {},
): Targets {
  return new Targets([PROJECTS, SCRATCH], adHocSchema.parse({ networks, ...adHoc }), lookup);
}

function names(...addresses: string[]): Lookup {
  return async () => addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
}

function resolve(
  from: Targets,
  cache: string,
  more: { export?: string; dialect?: 'rfc1813' | 'hpc-cache' } = {},
) {
  return from.resolve({ cache, export: more.export ?? '/exp1', dialect: more.dialect });
}

async function refused(code: ApiErrorCode, promise: Promise<unknown>): Promise<BrokerError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof BrokerError, `${error}`);
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`not refused with ${code}`);
}

test('a configured cache is found by its name, and by any of its addresses', async () => {
  const from = targets([]);
  for (const name of ['projects', '10.1.0.11', '10.1.0.12']) {
    const target = await resolve(from, name);
    assert.deepEqual(target, {
      cache: 'projects',
      adHocCache: null,
      dialect: 'hpc-cache',
      clientMount: '/mnt/projects',
      export: '/exp1',
    });
  }
});

test('an address within the allowed networks is a cache with the settings for such addresses', async () => {
  const from = targets(['127.0.0.0/8', '10.7.0.0/16', 'fd00::/8'], noLookup, {
    ports: { nfs: 2049, mount: 2049 },
    limits: { inFlight: 7 },
  });
  const target = await resolve(from, '10.7.1.2', { export: '/any//export/' });
  assert.equal(target.cache, '10.7.1.2');
  assert.equal(target.export, '/any/export');
  assert.equal(target.dialect, 'hpc-cache');
  assert.deepEqual(target.adHocCache?.addresses, ['10.7.1.2']);
  assert.deepEqual(target.adHocCache?.limits, { inFlight: 7, filesPerSecond: null });
  assert.deepEqual(target.adHocCache?.ports, { portmap: 111, nfs: 2049, mount: 2049 });
  const rules = cacheConfigSchema.omit({ name: true });
  const { name: _, ...settings } = target.adHocCache ?? {};
  assert.deepEqual(rules.parse(settings), settings);
  assert.equal((await resolve(from, 'FD00:0::1', { dialect: 'rfc1813' })).cache, 'fd00::1');
  assert.equal((await resolve(from, '[fd00::1]')).cache, 'fd00::1');
  assert.equal((await resolve(from, '::ffff:10.7.1.2')).cache, '10.7.1.2');
});

test('an address outside is refused with the setting that allows it', async () => {
  const from = targets(['127.0.0.0/8']);
  for (const address of [
    '10.9.9.9',
    '0.0.0.0',
    '::1',
    '::',
    '::ffff:10.9.9.9',
    '169.254.169.254',
    '255.255.255.255',
  ]) {
    const error = await refused('ADDRESS_NOT_ALLOWED', resolve(from, address));
    assert.match(error.message, /"adHoc.networks"/);
    assert.equal(error.pointer, '/cache');
  }
});

test('loopback alone is allowed unless configured otherwise', async () => {
  const from = new Targets([], adHocSchema.parse({}), noLookup);
  assert.equal((await resolve(from, '127.8.9.10')).cache, '127.8.9.10');
  assert.equal((await resolve(from, '::1')).cache, '::1');
  await refused('ADDRESS_NOT_ALLOWED', resolve(from, '10.0.0.1'));
});

test('every address that a name has must be allowed, and the addresses are what is used', async () => {
  const allowed = ['10.7.0.0/16', 'fd00::/8'];
  const target = await resolve(
    targets(allowed, names('fd00::2', '10.7.0.2', '10.7.0.1', '10.7.0.1')),
    'nas7.example.org',
  );
  assert.equal(target.cache, '10.7.0.1');
  assert.deepEqual(target.adHocCache?.addresses, ['10.7.0.1', '10.7.0.2', 'fd00::2']);
  const mixed = await refused(
    'ADDRESS_NOT_ALLOWED',
    resolve(targets(allowed, names('10.7.0.1', '192.0.2.1')), 'nas7'),
  );
  assert.match(mixed.message, /"nas7" is 192\.0\.2\.1, which/);
});

test('a name that changes between two requests is checked each time', async () => {
  const answers = ['127.0.0.1', '10.9.9.9'];
  const from = targets(['127.0.0.0/8'], async () => [{ address: answers.shift() as string, family: 4 }]);
  assert.equal((await resolve(from, 'rebound.example.org')).cache, '127.0.0.1');
  await refused('ADDRESS_NOT_ALLOWED', resolve(from, 'rebound.example.org'));
});

test('a configured cache keeps its limits also under another name', async () => {
  const target = await resolve(targets(['10.0.0.0/8'], names('10.2.0.1')), 'scratch.example.org', {
    export: '/x',
  });
  assert.deepEqual([target.cache, target.adHocCache, target.dialect], ['scratch', null, 'rfc1813']);
});

test('localhost is looked up by the system', async (t) => {
  const api = startApi({ caches: [] });
  t.after(api.close);
  const payload = { cache: 'localhost', export: '/exp', files: ['/a'], dialect: 'rfc1813' };
  const { status, body } = await api.json({ method: 'POST', url: '/v1/flushes', payload });
  assert.equal(status, 202);
  assert.match((body as { cache: string }).cache, /^(127\.0\.0\.1|::1)$/);
});

test('what is neither a cache nor a host is refused with the caches there are', async () => {
  const gone: Lookup = async () =>
    Promise.reject(Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' }));
  const from = targets(['127.0.0.0/8'], gone);
  for (const name of ['projets', 'a.b.c.', 'x'.repeat(63)]) {
    const error = await refused('UNKNOWN_CACHE', resolve(from, name));
    assert.match(error.message, /configured: "projects", "scratch"/);
  }
  const silent = targets(['127.0.0.0/8']);
  for (const name of [
    'no host',
    'a..b',
    '-x',
    '127.0.0.1:2049',
    'nfs://x',
    '../x',
    '',
    'x'.repeat(64),
    'ä',
  ]) {
    await refused('UNKNOWN_CACHE', resolve(silent, name));
  }
  await refused('UNKNOWN_CACHE', resolve(targets([]), 'localhost'));
  await refused('UNKNOWN_CACHE', resolve(targets(['10.0.0.0/8'], names()), 'empty'));
  await refused('VALIDATION', resolve(targets(['::/0']), 'fe80::1%eth0'));
});

test('a resolver that hangs is given up, and holds only so many look-ups', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let begun = 0;
  const finish: (() => void)[] = [];
  const from = targets(['127.0.0.0/8'], (name) => {
    begun++;
    if (name === 'late') return names('127.0.0.9')(name);
    return new Promise((_, reject) => finish.push(() => reject(new Error('too late'))));
  });
  const waiting = ['a', 'b', 'b', 'c', 'd'].map((name) => refused('UNKNOWN_CACHE', resolve(from, name)));
  await new Promise((done) => setImmediate(done));
  assert.equal(begun, 2);
  t.mock.timers.tick(5000);
  for (const error of await Promise.all(waiting)) assert.match(error.message, /within 5 seconds/);
  assert.equal(begun, 2);
  for (const end of finish) end();
  await new Promise((done) => setImmediate(done));
  assert.equal((await resolve(from, 'late')).cache, '127.0.0.9');
  assert.equal(begun, 3);
});

test('the export must be absolute, and one of the configured ones', async () => {
  const from = targets([]);
  assert.equal((await resolve(from, 'projects', { export: '/exp2' })).export, '/exp2');
  assert.equal((await resolve(from, 'projects', { export: '//exp2//' })).export, '/exp2');
  assert.equal((await resolve(from, 'scratch', { export: '/' })).export, '/');
  const error = await refused('UNKNOWN_EXPORT', resolve(from, 'projects', { export: '/exp' }));
  assert.match(error.message, /it has "\/exp1", "\/exp2\/"/);
  for (const path of ['exp1', '', '/exp1/..', '/./exp1', '/exp1\0']) {
    await refused('VALIDATION', resolve(from, 'projects', { export: path }));
  }
});

test('the dialect of a configured cache cannot be chosen by a request', async () => {
  const from = targets(['127.0.0.0/8']);
  assert.equal((await resolve(from, 'projects', { dialect: 'hpc-cache' })).dialect, 'hpc-cache');
  const error = await refused('VALIDATION', resolve(from, 'projects', { dialect: 'rfc1813' }));
  assert.equal(error.pointer, '/dialect');
  assert.equal((await resolve(from, '127.0.0.1', { dialect: 'rfc1813' })).adHocCache?.dialect, 'rfc1813');
});
