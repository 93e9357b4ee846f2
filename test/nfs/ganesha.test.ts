import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { type Endpoint, registeredPort } from '../../src/nfs/endpoint.js';
import {
  type CallLimit,
  type DirectoryEntry,
  type DirectoryPage,
  NfsError,
  type NfsEvents,
  NfsExport,
  type NfsTarget,
  START_OF_DIRECTORY,
} from '../../src/nfs/export.js';
import { ACCESS3_LOOKUP, ACCESS3_READ, NF3DIR, NF3FIFO, NF3LNK, NF3REG } from '../../src/nfs/nfs3.js';
import { type Ganesha, startGanesha } from '../support/ganesha.js';

const FLAT_FILES = 3000;
const NOT_UTF8 = Buffer.from('caf\xe9', 'latin1');

function limit(ms = 20_000): CallLimit {
  return { deadlineAt: Date.now() + ms };
}

describe('against NFS-Ganesha', () => {
  let folder = '';
  let flat = '';
  let guarded = '';
  let server: Ganesha | null = null;
  let skip = '';

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'wb-nfs-'));
    flat = join(folder, 'flat');
    guarded = join(folder, 'guarded');
    for (const path of [flat, guarded, join(flat, 'dir')]) await mkdir(path);
    await chmod(folder, 0o755);
    await chmod(flat, 0o755);
    for (let i = 0; i < FLAT_FILES; i++) await writeFile(join(flat, `f${i}`), `content ${i}`);
    await symlink('f0', join(flat, 'link'));
    execFileSync('mkfifo', [join(flat, 'fifo')]);
    await writeFile(Buffer.concat([Buffer.from(`${flat}/`), NOT_UTF8]), 'bytes');
    const started = await startGanesha({
      exports: [{ path: flat }, { path: guarded, privilegedPort: true }],
    });
    if ('skip' in started) skip = started.skip;
    else server = started;
  });

  after(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** The server, or null after the test was marked as skipped with the reason. */
  function serverOf(t: TestContext): Ganesha | null {
    if (server === null) t.skip(skip);
    return server;
  }

  function targetOf({ host, mountPort, nfsPort, portmapPort }: Ganesha, options: Partial<NfsTarget> = {}) {
    return {
      addresses: [host],
      ports: { portmap: portmapPort, mount: mountPort, nfs: nfsPort },
      credential: { uid: 0, gid: 0, gids: [] },
      machineName: 'test',
      privilegedPort: false,
      callTimeoutMs: 5000,
      ...options,
    };
  }

  async function mount(
    t: TestContext,
    ganesha: Ganesha,
    options: Partial<NfsTarget> = {},
    events: NfsEvents = {},
    path = flat,
  ): Promise<NfsExport> {
    const mounted = await NfsExport.mount(targetOf(ganesha, options), path, limit(), events);
    t.after(() => mounted.close());
    return mounted;
  }

  it('mounts by its port mapper, looks up, reads attributes and commits', async (t) => {
    const ganesha = serverOf(t);
    if (ganesha === null) return;
    const ports = { portmap: ganesha.portmapPort, mount: null, nfs: null };
    const mounted = await mount(t, ganesha, { ports });
    const { status, handle, attributes } = await mounted.lookup(mounted.root, Buffer.from('f10'), limit());
    assert.equal(status, 0);
    assert.ok(handle !== null && attributes !== null);
    assert.deepEqual([attributes.type, attributes.size], [NF3REG, 'content 10'.length]);
    assert.ok(Math.abs(attributes.mtimeMs - Date.now()) < 600_000);
    const full = (await mounted.getattr(handle, limit())).attributes;
    assert.ok(full !== null);
    const { type, size, mtimeMs, fileid } = full;
    assert.deepEqual({ type, size, mtimeMs, fileid }, attributes);
    const commit = await mounted.commit(handle, 0, 0, 0, limit());
    assert.equal(commit.status, 0);
    assert.deepEqual(commit.attributes, attributes);
    assert.match(commit.verifier, /^[0-9a-f]{16}$/);
    const access = await mounted.access(mounted.root, ACCESS3_READ | ACCESS3_LOOKUP, limit());
    assert.equal(access.access, ACCESS3_READ | ACCESS3_LOOKUP);
    const info = await mounted.fsinfo(mounted.root, limit());
    assert.ok((info.limits?.dtpref ?? 0) > 0);
    const missing = await mounted.lookup(mounted.root, Buffer.from('no such file'), limit());
    assert.deepEqual([missing.status, missing.handle], [2, null]);
    const long = await mounted.lookup(mounted.root, Buffer.alloc(256, 'x'), limit());
    assert.equal(long.status, 63);
  });

  it('takes names as bytes, text or not', async (t) => {
    const ganesha = serverOf(t);
    if (ganesha === null) return;
    const mounted = await mount(t, ganesha);
    assert.equal((await mounted.lookup(mounted.root, NOT_UTF8, limit())).attributes?.size, 5);
    assert.equal((await mounted.lookup(mounted.root, Buffer.from('café'), limit())).status, 2);
  });

  it('tells what is no regular file, and where a link leads', async (t) => {
    const ganesha = serverOf(t);
    if (ganesha === null) return;
    const mounted = await mount(t, ganesha);
    const types: (number | undefined)[] = [];
    for (const name of ['dir', 'link', 'fifo']) {
      types.push((await mounted.lookup(mounted.root, Buffer.from(name), limit())).attributes?.type);
    }
    assert.deepEqual(types, [NF3DIR, NF3LNK, NF3FIFO]);
    const link = await mounted.lookup(mounted.root, Buffer.from('link'), limit());
    assert.ok(link.handle !== null);
    assert.equal((await mounted.readlink(link.handle, limit())).target?.toString(), 'f0');
  });

  for (const read of ['readdirplus', 'readdir'] as const) {
    it(`lists ${FLAT_FILES} entries by ${read}, each once`, async (t) => {
      const ganesha = serverOf(t);
      if (ganesha === null) return;
      const mounted = await mount(t, ganesha);
      const entries: DirectoryEntry[] = [];
      let pages = 0;
      for (let cursor: typeof START_OF_DIRECTORY | null = START_OF_DIRECTORY; cursor !== null; pages++) {
        const page: DirectoryPage = await mounted[read](mounted.root, cursor, limit());
        assert.equal(page.status, 0);
        entries.push(...page.entries);
        cursor = page.next;
      }
      const names = new Set(entries.map((entry) => entry.name.toString('latin1')));
      assert.equal(names.size, entries.length);
      for (let i = 0; i < FLAT_FILES; i++) assert.ok(names.has(`f${i}`), `f${i}`);
      assert.ok(pages > 1);
      if (read === 'readdir') return;
      for (const entry of entries.slice(100, 110)) {
        const found = await mounted.lookup(mounted.root, entry.name, limit());
        assert.deepEqual(found.handle, entry.handle);
        assert.deepEqual(found.attributes, entry.attributes);
      }
    });
  }

  it('loses no call when the server is killed in the middle and away for three seconds', async (t) => {
    const ganesha = serverOf(t);
    if (ganesha === null) return;
    const log: string[] = [];
    const mounted = await mount(
      t,
      ganesha,
      {},
      {
        down: () => log.push('down'),
        up: () => log.push('up'),
        serverRestarted: () => log.push('restarted'),
      },
    );
    let next = 0;
    let done = 0;
    const statuses = new Map<number, number>();
    const worker = async () => {
      while (next < FLAT_FILES) {
        const name = Buffer.from(`f${next++}`);
        const { handle } = await mounted.lookup(mounted.root, name, limit(60_000));
        assert.ok(handle !== null);
        const { status } = await mounted.commit(handle, 0, 0, 0, limit(60_000));
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        done++;
      }
    };
    const workers = Promise.all(Array.from({ length: 32 }, worker));
    while (done < FLAT_FILES / 4) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(done < FLAT_FILES);
    await ganesha.restart(3000);
    await workers;
    assert.deepEqual([...statuses], [[0, FLAT_FILES]]);
    assert.deepEqual(log, ['down', 'up', 'restarted']);
  });

  it('says which exports there are when asked for another', async (t) => {
    const ganesha = serverOf(t);
    if (ganesha === null) return;
    await assert.rejects(NfsExport.mount(targetOf(ganesha), `${folder}/nothing`, limit()), (error) => {
      assert.ok(error instanceof NfsError);
      assert.equal(error.code, 'EXPORT_NOT_FOUND');
      assert.ok(error.message.includes(flat) && error.message.includes(guarded), error.message);
      return true;
    });
  });

  it('lets the first 16 of 20 gids count, and warns', async (t) => {
    const ganesha = serverOf(t);
    if (ganesha === null) return;
    const warnings: string[] = [];
    const gids = Array.from({ length: 20 }, (_, i) => 5000 + i);
    for (const gid of [5015, 5016]) {
      await mkdir(join(flat, `of-${gid}`));
      await chown(join(flat, `of-${gid}`), 0, gid);
      await chmod(join(flat, `of-${gid}`), 0o750);
    }
    const credential = { uid: 12345, gid: 12345, gids };
    const mounted = await mount(t, ganesha, { credential }, { warning: (message) => warnings.push(message) });
    const statusIn = async (name: string) => {
      const { handle } = await mounted.lookup(mounted.root, Buffer.from(name), limit());
      assert.ok(handle !== null);
      return (await mounted.lookup(handle, Buffer.from('x'), limit())).status;
    };
    assert.equal(await statusIn('of-5015'), 2);
    assert.equal(await statusIn('of-5016'), 13);
    assert.equal(warnings.length, 1);
  });

  it('is told what to change where only privileged source ports are taken, and gets in with one', async (t) => {
    const ganesha = serverOf(t);
    if (ganesha === null) return;
    await assert.rejects(NfsExport.mount(targetOf(ganesha), guarded, limit()), (error) => {
      assert.ok(error instanceof NfsError);
      assert.match(error.message, /privileged source port/);
      return true;
    });
    const mounted = await mount(t, ganesha, { privilegedPort: true }, {}, guarded);
    assert.equal((await mounted.getattr(mounted.root, limit())).status, 0);
  });

  it('finds ports by GETPORT over IPv4 and by GETADDR over IPv6', async (t) => {
    const ganesha = serverOf(t);
    if (ganesha === null) return;
    const program = { program: 100003, version: 3, name: 'NFS' };
    const unknown = { program: 100099, version: 1, name: 'nothing' };
    for (const host of ['127.0.0.1', '::1']) {
      const portmapper: Endpoint = { host, port: ganesha.portmapPort, privilegedPort: false };
      assert.equal(await registeredPort(portmapper, program, limit()), ganesha.nfsPort, host);
      await assert.rejects(registeredPort(portmapper, unknown, limit()), { code: 'NOT_REGISTERED' });
    }
  });
});
