import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { type CallLimit, NfsError, NfsExport, type NfsTarget } from '../../src/nfs/export.js';
import { PMAP_V2, RPCB_V3, RPCB_V4 } from '../../src/nfs/portmap.js';
import { PROG_MISMATCH, PROG_UNAVAIL } from '../../src/nfs/rpc.js';
import {
  type FaultScript,
  type FaultServer,
  ROOT,
  startFaultServer,
  writeExports,
} from '../support/fault-server.js';
import { limit } from './fixture.js';

const run = promisify(execFile);

async function serverOf(t: TestContext, script?: FaultScript): Promise<FaultServer> {
  const server = await startFaultServer(script);
  t.after(() => server.close());
  return server;
}

function targetOf(server: FaultServer, options: Partial<NfsTarget> = {}): NfsTarget {
  return {
    addresses: [server.host],
    ports: server.ports,
    credential: { uid: 0, gid: 0, gids: [] },
    machineName: 'client',
    privilegedPort: false,
    callTimeoutMs: 1000,
    ...options,
  };
}

async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return address !== null && typeof address === 'object' ? address.port : 0;
}

async function mountError(target: NfsTarget, callLimit: CallLimit = limit()): Promise<NfsError> {
  try {
    const mounted = await NfsExport.mount(target, '/export', callLimit);
    await mounted.close();
  } catch (error) {
    assert.ok(error instanceof NfsError, String(error));
    return error;
  }
  assert.fail('it was mounted');
}

describe('mounting', () => {
  it('takes fixed ports without asking a port mapper', async (t) => {
    const server = await serverOf(t);
    const mounted = await NfsExport.mount(targetOf(server), '/export', limit());
    t.after(() => mounted.close());
    assert.deepEqual(mounted.root, ROOT);
    assert.deepEqual(
      server.calls.map((call) => call.name),
      ['MOUNT3 MNT', 'NFS3 NULL', 'NFS3 GETATTR'],
    );
  });

  it('asks the port mapper for what is not fixed, and again with every connection', async (t) => {
    const server = await serverOf(t);
    const ports = { portmap: server.port, mount: null, nfs: null };
    const mounted = await NfsExport.mount(targetOf(server, { ports }), '/export', limit());
    t.after(() => mounted.close());
    assert.equal(server.count('PMAP GETPORT'), 2);
    server.connections.at(-1)?.reset();
    assert.equal((await mounted.getattr(mounted.root, limit())).status, 0);
    assert.equal(server.count('PMAP GETPORT'), 3);
  });

  it('asks by GETADDR, version 4 then 3, where version 2 of the port mapper is not offered', async (t) => {
    const versions: number[] = [];
    const server = await serverOf(t, (call) => {
      if (call.name !== 'PMAP GETPORT') return false;
      versions.push(call.version);
      if (call.version === RPCB_V3) return false;
      call.replyAccept(PROG_MISMATCH, 3, 3);
      return true;
    });
    const ports = { portmap: server.port, mount: null, nfs: server.port };
    const mounted = await NfsExport.mount(targetOf(server, { ports }), '/export', limit());
    await mounted.close();
    assert.deepEqual(versions, [PMAP_V2, RPCB_V4, RPCB_V3]);
  });

  it('survives a stale registration: what the port mapper says is asked again until somebody answers', async (t) => {
    const stale = await closedPort();
    let asked = 0;
    const server = await serverOf(t, (call) => {
      if (call.name !== 'PMAP GETPORT') return false;
      const port = ++asked <= 2 ? stale : server.port;
      call.reply((writer) => writer.uint32(port));
      return true;
    });
    const ports = { portmap: server.port, mount: null, nfs: server.port };
    const mounted = await NfsExport.mount(targetOf(server, { ports }), '/export', limit());
    await mounted.close();
    assert.equal(asked, 3);
  });

  it('tells the server when it is over, and does not wait long for one that is silent', async (t) => {
    const server = await serverOf(t);
    const mounted = await NfsExport.mount(targetOf(server), '/export', limit());
    server.script = (call) => call.name === 'MOUNT3 UMNT';
    const begin = Date.now();
    await mounted.close();
    await mounted.close();
    assert.equal(server.count('MOUNT3 UMNT'), 1);
    assert.ok(Date.now() - begin < 5000);
  });

  it('gives the new root when the old one is stale', async (t) => {
    const server = await serverOf(t);
    const mounted = await NfsExport.mount(targetOf(server), '/export', limit());
    t.after(() => mounted.close());
    server.script = (call) => {
      if (call.name !== 'MOUNT3 MNT') return false;
      call.reply((writer) => {
        writer.uint32(0);
        writer.opaque(Buffer.from('another root'));
        writer.uint32(0);
      });
      return true;
    };
    assert.equal((await mounted.remount(limit())).toString(), 'another root');
    assert.equal(mounted.root.toString(), 'another root');
  });
});

describe('a mount that fails', () => {
  it('with a path that is not exported lists the exports', async (t) => {
    const server = await serverOf(t, (call) => {
      if (call.name === 'MOUNT3 MNT') call.replyStatus(13);
      if (call.name === 'MOUNT3 EXPORT') call.reply((writer) => writeExports(writer, ['/a', '/b/c']));
      return call.name.startsWith('MOUNT3');
    });
    const error = await mountError(targetOf(server));
    assert.equal(error.code, 'EXPORT_NOT_FOUND');
    assert.equal(error.nfsStatus, 13);
    assert.match(error.message, /\/export with MNT3ERR_ACCES \(13\).*exports: \/a, \/b\/c\./);
  });

  it('although the path is exported says to whom', async (t) => {
    const server = await serverOf(t, (call) => {
      if (call.name === 'MOUNT3 MNT') call.replyStatus(13);
      if (call.name === 'MOUNT3 EXPORT') {
        call.reply((writer) => writeExports(writer, ['/export/'], ['10.1.0.0/16']));
      }
      return call.name.startsWith('MOUNT3');
    });
    const error = await mountError(targetOf(server));
    assert.equal(error.code, 'MOUNT_REFUSED');
    assert.match(error.message, /exports that path, to 10\.1\.0\.0\/16.*export policy/);
  });

  it('is tried again when the server says that it failed itself, three times', async (t) => {
    let tries = 0;
    const server = await serverOf(t, (call) => {
      if (call.name !== 'MOUNT3 MNT' || ++tries === 3) return false;
      call.replyStatus(10006);
      return true;
    });
    const mounted = await NfsExport.mount(targetOf(server), '/export', limit());
    await mounted.close();
    tries = Number.NEGATIVE_INFINITY;
    const error = await mountError(targetOf(server));
    assert.equal(error.nfsStatus, 10006);
  });

  it('for want of AUTH_SYS says which flavours there are, at once', async (t) => {
    const server = await serverOf(t, (call) => {
      if (call.name !== 'MOUNT3 MNT') return false;
      call.reply((writer) => {
        writer.uint32(0);
        writer.opaque(ROOT);
        for (const word of [2, 390003, 390005]) writer.uint32(word);
      });
      return true;
    });
    const error = await mountError(targetOf(server));
    assert.equal(error.code, 'AUTH_REFUSED');
    assert.match(error.message, /krb5, krb5p only.*sec=sys/);
    assert.equal(server.count('MOUNT3 MNT'), 1);
  });

  it('because the mount program is not offered says so at once', async (t) => {
    const server = await serverOf(t, (call) => {
      if (call.name === 'MOUNT3 MNT') call.replyAccept(PROG_UNAVAIL);
      return call.name === 'MOUNT3 MNT';
    });
    assert.equal((await mountError(targetOf(server))).code, 'PROGRAM_UNAVAILABLE');
  });

  it('because NFS version 3 is not offered says so at once', async (t) => {
    const server = await serverOf(t, (call) => {
      if (call.name === 'NFS3 NULL') call.replyAccept(PROG_MISMATCH, 4, 4);
      return call.name === 'NFS3 NULL';
    });
    const error = await mountError(targetOf(server), limit(60_000));
    assert.equal(error.code, 'PROGRAM_UNAVAILABLE');
    assert.match(error.message, /versions 4 to 4, not 3/);
  });

  it('because nothing listens there, on either port, ends at the deadline with UNREACHABLE', async (t) => {
    const server = await serverOf(t);
    const port = await closedPort();
    for (const ports of [
      { portmap: port, mount: null, nfs: null },
      { portmap: 111, mount: port, nfs: port },
      { portmap: 111, mount: server.port, nfs: port },
    ]) {
      const begin = Date.now();
      const error = await mountError(targetOf(server, { ports }), limit(300));
      assert.equal(error.code, 'UNREACHABLE', error.message);
      assert.match(error.message, /ECONNREFUSED/);
      assert.ok(Date.now() - begin >= 250);
    }
  });

  it('because the program is not registered ends at the deadline with NOT_REGISTERED', async (t) => {
    const server = await serverOf(t, (call) => {
      if (call.name === 'PMAP GETPORT') call.reply((writer) => writer.uint32(0));
      return call.name === 'PMAP GETPORT';
    });
    const ports = { portmap: server.port, mount: null, nfs: null };
    const error = await mountError(targetOf(server, { ports }), limit(200));
    assert.equal(error.code, 'NOT_REGISTERED');
    assert.match(error.message, /does not know MOUNT \(program 100005 version 3 over TCP\)/);
  });

  it('because the name does not resolve ends at the deadline with NAME_NOT_RESOLVED', async (t) => {
    const server = await serverOf(t);
    const target = targetOf(server, { addresses: ['no-such-host.invalid'] });
    const error = await mountError(target, limit(300));
    assert.equal(error.code, 'NAME_NOT_RESOLVED');
    assert.match(error.message, /no-such-host\.invalid/);
  });

  it('because the server never answers ends at the deadline', async (t) => {
    const server = await serverOf(t, () => true);
    assert.equal((await mountError(targetOf(server), limit(300))).code, 'UNREACHABLE');
  });

  it('can be aborted while it waits', async (t) => {
    const server = await serverOf(t, () => true);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 50);
    assert.equal((await mountError(targetOf(server), limit(10_000, controller.signal))).code, 'ABORTED');
    const port = await closedPort();
    const away = targetOf(server, { ports: { portmap: port, mount: port, nfs: port } });
    const second = new AbortController();
    setTimeout(() => second.abort(), 50);
    assert.equal((await mountError(away, limit(10_000, second.signal))).code, 'ABORTED');
  });

  it('at one address is no failure while another one answers', async (t) => {
    const server = await serverOf(t);
    const addresses = ['no-such-host.invalid', '127.0.0.9', server.host];
    const mounted = await NfsExport.mount(targetOf(server, { addresses }), '/export', limit());
    await mounted.close();
  });

  it('because the export path cannot be one says so without asking', async () => {
    const nobody = { portmap: 1, mount: 1, nfs: 1 };
    const target: NfsTarget = {
      addresses: ['127.0.0.1'],
      ports: nobody,
      credential: { uid: 0, gid: 0, gids: [] },
      machineName: 'client',
      privilegedPort: false,
      callTimeoutMs: 1000,
    };
    for (const path of ['', '/a\0b', '/'.repeat(1025)]) {
      await assert.rejects(NfsExport.mount(target, path, limit()), { code: 'EXPORT_NOT_FOUND' });
    }
  });
});

describe('privileged source ports', () => {
  const isRoot = process.getuid?.() === 0;

  it('from 665 to 1023 are used for every connection', { skip: !isRoot && 'needs root' }, async (t) => {
    const server = await serverOf(t);
    const ports = { portmap: server.port, mount: null, nfs: null };
    const remotePorts: number[] = [];
    server.onConnection = ({ socket }) => remotePorts.push(socket.remotePort ?? 0);
    const target = targetOf(server, { ports, privilegedPort: true });
    const mounted = await NfsExport.mount(target, '/export', limit());
    await mounted.close();
    assert.ok(remotePorts.length >= 4);
    for (const port of remotePorts) assert.ok(port >= 665 && port <= 1023, `source port ${port}`);
  });

  it('that this process may not use are said at once, with what to do', async (t) => {
    const reserved = await readFile('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8').catch(() => '0');
    if (Number(reserved) <= 1023) return t.skip('all ports are free to every process here');
    const server = await serverOf(t);
    const target = targetOf(server, { privilegedPort: true });
    const module = new URL('../../src/nfs/export.js', import.meta.url);
    // The build may lie in a folder that only its owner may enter: the rights go once it is loaded.
    const script = `
      const { NfsExport } = await import(${JSON.stringify(module.href)});
      if (process.getuid() === 0) {
        process.setgroups([]);
        process.setgid(65_534);
        process.setuid(65_534);
      }
      const limit = { deadlineAt: Date.now() + 30_000 };
      await NfsExport.mount(${JSON.stringify(target)}, '/export', limit).catch(({ code, message }) => {
        console.log(code, message);
      });`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script]);
    assert.match(stdout, /^AUTH_REFUSED .*CAP_NET_BIND_SERVICE.*privilegedPort/);
    assert.equal(server.calls.length, 0);
  });
});
