import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { type CacheUnderTest, simulatedCache } from '../support/simulated-cache.js';

/** Clients that others wrote: nfs-ls and nfs-cat of libnfs, and rpcinfo. */

const run = promisify(execFile);

function missing(...programs: string[]): string | false {
  const folders = (process.env.PATH ?? '').split(':').concat('/usr/sbin', '/sbin');
  const absent = programs.filter((name) => !folders.some((folder) => fs.existsSync(path.join(folder, name))));
  return absent.length > 0 && `${absent.join(' and ')} not installed (Debian: libnfs-utils, rpcbind)`;
}

async function output(program: string, ...args: string[]): Promise<Buffer> {
  const { stdout } = await run(program, args, { encoding: 'buffer', maxBuffer: 1 << 26, timeout: 20_000 });
  return stdout;
}

test('nfs-ls lists directories and nfs-cat reads files, through subdirectories and links', {
  skip: missing('nfs-ls', 'nfs-cat'),
}, async (t) => {
  const large = randomBytes(5_000_003);
  const under = await simulatedCache(t, {}, (cacheDir) => {
    fs.mkdirSync(path.join(cacheDir, 'a/b'), { recursive: true });
    fs.writeFileSync(path.join(cacheDir, 'a/b/large'), large);
    fs.writeFileSync(path.join(cacheDir, 'empty'), '');
    fs.symlinkSync('a/b/large', path.join(cacheDir, 'link'));
    for (let i = 0; i < 1000; i++) fs.writeFileSync(path.join(cacheDir, `a/file-${i}`), '');
  });
  const { nfs, mount } = under.sim.ports;
  const url = (file: string) => `nfs://127.0.0.1${file}?nfsport=${nfs}&mountport=${mount}`;
  const names = (listing: Buffer) =>
    listing
      .toString()
      .trim()
      .split('\n')
      .map((line) => line.split(/\s+/).at(-1))
      .sort();
  assert.deepEqual(names(await output('nfs-ls', url('/cache'))), ['a', 'empty', 'link']);
  const inA = names(await output('nfs-ls', url('/cache/a')));
  assert.deepEqual(inA, fs.readdirSync(path.join(under.cacheDir, 'a')).sort());
  assert.ok(names(await output('nfs-ls', '-R', url('/cache'))).includes('a/b/large'));
  assert.ok((await output('nfs-cat', url('/cache/a/b/large'))).equals(large));
  assert.ok((await output('nfs-cat', url('/cache/link'))).equals(large));
  assert.equal((await output('nfs-cat', url('/cache/empty'))).length, 0);
  await assert.rejects(output('nfs-cat', url('/cache/none')), /NFS3ERR_NOENT/);
  await assert.rejects(output('nfs-ls', url('/elsewhere')), /MNT3ERR_NOENT/);
});

test('with the port mapper on port 111 of an address, nfs-ls and rpcinfo need no port numbers', {
  skip: missing('nfs-ls', 'rpcinfo') || (process.getuid?.() !== 0 && 'port 111 needs root'),
}, async (t) => {
  // Any 127.x.y.z is this machine; a random one keeps tests that run at the same time apart.
  const address = `127.${1 + randomInt(250)}.${randomInt(250)}.${1 + randomInt(250)}`;
  let under: CacheUnderTest;
  try {
    under = await simulatedCache(t, { addresses: [address], ports: { portmap: 111 } }, (cacheDir) =>
      fs.writeFileSync(path.join(cacheDir, 'file'), 'x'),
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    t.skip('a port mapper of this machine has port 111 on all addresses');
    return;
  }
  assert.match((await output('nfs-ls', `nfs://${address}/cache`)).toString(), /file/);
  const registered = (await output('rpcinfo', '-p', address)).toString();
  assert.match(registered, new RegExp(`100003 +3 +tcp +${under.sim.ports.nfs} `));
  assert.match(registered, new RegExp(`100005 +3 +tcp +${under.sim.ports.mount} `));
  assert.match(
    (await output('rpcinfo', '-T', 'tcp', address, '100003', '3')).toString(),
    /ready and waiting/,
  );
});
