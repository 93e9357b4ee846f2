import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { startSimulatedCache } from '../../src/sim/server.js';
import { proofField } from '../../src/store/dialect-proof.js';
import { Keys, queueName } from '../../src/store/keys.js';
import { testFolder } from '../e2e/processes.js';
import { startGanesha } from '../support/ganesha.js';
import { startRedis } from '../support/redis.js';
import { closedPort, doctor } from './doctor.js';

async function simulated(t: TestContext) {
  const folder = await testFolder(t);
  await mkdir(join(folder, 'cache'));
  const sim = await startSimulatedCache({ cacheDir: join(folder, 'cache'), filerDir: join(folder, 'filer') });
  t.after(() => sim.close());
  return sim;
}

/** A TCP port on which nobody says anything. */
async function silentPort(t: TestContext): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

test('where all is well, every step says so, and the exit status is 0', async (t) => {
  const redis = await startRedis({ durable: true });
  t.after(() => redis.stop());
  const { address, ports } = await simulated(t);
  const keys = new Keys('writeback');
  const client = redis.client();
  const proof = proofField({
    addresses: [address],
    ports: { portmap: ports.portmap, mount: null, nfs: null },
  });
  await client.hset(keys.cache(queueName('shown', false)), proof, '1', 'health', 'up');
  await client.hset(keys.cache(queueName('doubtful', false)), 'health', 'up');
  for (const served of ['shown', 'fixed', 'doubtful']) {
    await client.zadd(keys.servers(queueName(served, false)), Date.now() + 60_000, 'worker');
  }
  const target = { addresses: [address], ports, dialect: 'hpc-cache' };
  const { failed, has, lines } = await doctor(t, {
    redis: { url: redis.url },
    caches: [
      { name: 'shown', ...target, ports: { portmap: ports.portmap }, exports: ['/cache'] },
      { name: 'fixed', ...target, ports: { mount: ports.mount, nfs: ports.nfs } },
      { name: 'doubtful', ...target },
      { name: 'plain', ...target, dialect: 'rfc1813' },
    ],
  });
  assert.deepEqual(failed, []);
  has(
    'ok',
    'redis',
    /^Redis \d+\.\d+\.\d+ at unix:.* answers in \d+\.\d ms: appendonly yes, maxmemory-policy noeviction/,
  );
  const at = `shown ${address}`;
  has('ok', at, /the port mapper has MOUNT version 3 at port \d+/);
  has('ok', at, /the port mapper has NFS version 3 at port \d+/);
  has('ok', at, /^NFS at port \d+ answers in \d+\.\d ms/);
  has('ok', at, /^MOUNT at port \d+ answers in \d+\.\d ms/);
  has('ok', at, /lists the exports \/cache/);
  has(
    'ok',
    at,
    /^\/cache can be mounted, and its root answers uid 0, gid 0 with AUTH_SYS \(flavours of the export: sys\)/,
  );
  has('ok', 'shown', /hpc-cache: shown/);
  has('ok', `fixed ${address}`, /port mapper is not needed/);
  has('ok', `fixed ${address}`, /^\/cache can be mounted/);
  has('ok', 'fixed', /nothing was flushed there yet/);
  has('warn', 'doubtful', /never shown.*configure the dialect rfc1813/);
  has('ok', 'plain', /rfc1813/);
  has('ok', 'shown', /^1 running worker serves it/);
  has('warn', 'plain', /no running worker serves it.*writeback serve --role worker/);
  assert.equal(lines.filter(({ level }) => level === 'warn').length, 2);
});

test('everything that is broken is told, each with what to do, and the rest is looked at nevertheless', async (t) => {
  const { address, ports } = await simulated(t);
  const closed = await closedPort();
  const silent = await silentPort(t);
  const hpc = { dialect: 'hpc-cache' };
  const { status, has } = await doctor(
    t,
    {
      redis: { url: `redis://:secret-word@127.0.0.1:${closed}` },
      caches: [
        { name: 'closed', addresses: ['127.0.0.1'], ...hpc, ports: { portmap: closed } },
        { name: 'silent', addresses: ['127.0.0.1'], ...hpc, ports: { mount: silent, nfs: silent } },
        { name: 'swapped', addresses: [address], ...hpc, ports: { mount: ports.nfs, nfs: ports.mount } },
        { name: 'nameless', addresses: ['no-such-host.invalid'], ...hpc },
        { name: 'wrong', addresses: [address], ...hpc, ports, exports: ['/nope'] },
        { name: 'good', addresses: [address], ...hpc, ports },
      ],
    },
    ['--timeout', '1'],
  );
  assert.equal(status, 1);
  has(
    'fail',
    'redis',
    /^Redis at redis:\/\/:…@127\.0\.0\.1:\d+ does not answer: .*ECONNREFUSED.* Check that it runs/,
  );
  has('fail', 'closed 127.0.0.1', /port mapper for the port of MOUNT failed: .*ECONNREFUSED.*Fixed ports/);
  has('fail', 'silent 127.0.0.1', /^NFS NULL .*did not answer.*Check that the server is well/);
  has('fail', 'silent 127.0.0.1', /^MOUNT NULL .*did not answer/);
  has('fail', `swapped ${address}`, /^NFS NULL/);
  has('fail', 'nameless no-such-host.invalid', /does not resolve.*Check the address/);
  has('warn', `wrong ${address}`, /\/nope is configured and not listed/);
  has('fail', `wrong ${address}`, /^\/nope: .*not among its exports\. Its exports: \/cache\./);
  has('ok', `good ${address}`, /^\/cache can be mounted/);
  has('ok', 'good', /only Redis knows/);
});

test('without a Redis URL the private one is looked for, and whether it can be started', async (t) => {
  const fine = await doctor(t, {});
  fine.has('ok', 'redis', /will start a private one, .*redis-server/);
  fine.has('warn', 'caches', /none is configured/);
  const none = await doctor(t, { redis: { serverPath: '/no/such/redis-server' } });
  none.has('fail', 'redis', /\/no\/such\/redis-server is not there.*redis\.serverPath/);
});

test('a Redis that would lose jobs is a warning for each reason', async (t) => {
  const redis = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] });
  t.after(() => redis.stop());
  const { status, has } = await doctor(t, { redis: { url: redis.url } });
  assert.equal(status, 0);
  has('warn', 'redis', /Set "appendonly yes"/);
  has('warn', 'redis', /Set "maxmemory-policy noeviction"/);
});

test('NFS-Ganesha: its port mapper, its exports with their flavours, and one that it refuses', async (t) => {
  const folder = await testFolder(t);
  const path = join(folder, 'exported');
  await mkdir(path);
  const ganesha = await startGanesha({ exports: [{ path }] });
  if ('skip' in ganesha) return t.skip(ganesha.skip);
  t.after(() => ganesha.stop());
  const target = { addresses: [ganesha.host], dialect: 'rfc1813', ports: { portmap: ganesha.portmapPort } };
  const { has } = await doctor(t, {
    caches: [
      { name: 'any', ...target },
      { name: 'wrong', ...target, exports: [`${path}-not`] },
    ],
  });
  const any = `any ${ganesha.host}`;
  has('ok', any, new RegExp(`port mapper has NFS version 3 at port ${ganesha.nfsPort}`));
  has('ok', any, new RegExp(`lists the exports .*${path}`));
  has('ok', any, /can be mounted, and its root answers .* \(flavours of the export: .*sys/);
  has('fail', `wrong ${ganesha.host}`, /not among its exports/);
});
