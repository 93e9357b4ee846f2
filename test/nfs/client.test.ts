import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { NfsError, NfsExport, START_OF_DIRECTORY } from '../../src/nfs/export.js';
import { NFS3ERR_JUKEBOX, NFS3ERR_NOTSUPP } from '../../src/nfs/nfs3.js';
import { GARBAGE_ARGS, PROC_UNAVAIL, PROG_MISMATCH, PROG_UNAVAIL, SYSTEM_ERR } from '../../src/nfs/rpc.js';
import {
  type FaultCall,
  FaultServer,
  REGULAR,
  startFaultServer,
  writeCommit,
  writeDirectoryPage,
} from '../support/fault-server.js';
import { until } from '../support/until.js';
import { Events, FILE, fixture, hold, isCode, limit, targetOf } from './fixture.js';

describe('a server that is away', () => {
  it('lets calls wait, tells down and up once, and answers them all when it is back', async (t) => {
    const { server, events, commit } = await fixture(t);
    await commit();
    await server.close();
    const commits = Array.from({ length: 100 }, () => commit());
    await until('the outage to be noticed', () => events.log.length > 0);
    await server.listen();
    for (const result of await Promise.all(commits)) assert.equal(result.status, 0);
    assert.deepEqual(events.log, ['down UNREACHABLE', 'up 127.0.0.1']);
  });

  it('is looked for until it is back, also when nobody waits for an answer any more', async (t) => {
    const { server, events, commit } = await fixture(t);
    await server.close();
    await assert.rejects(commit(limit(500)), isCode('DEADLINE'));
    await until('the outage to be noticed', () => events.log.length === 1);
    await server.listen();
    await until('the return to be noticed', () => events.log.length === 2);
    assert.deepEqual(events.log, ['down UNREACHABLE', 'up 127.0.0.1']);
  });

  it('lets each call end at its own deadline, with the trouble as cause', async (t) => {
    const { server, commit } = await fixture(t);
    await server.close();
    const begin = Date.now();
    const short = commit(limit(100));
    const long = commit(limit(400));
    await assert.rejects(short, isCode('DEADLINE'));
    assert.ok(Date.now() - begin < 390);
    await assert.rejects(long, (error: Error) => {
      isCode('DEADLINE', 'ECONNREFUSED')(error);
      assert.ok(error.cause instanceof NfsError && error.cause.code === 'UNREACHABLE');
      return true;
    });
  });

  it('does not keep a call that is aborted, waiting or in flight', async (t) => {
    const { server, commit } = await fixture(t);
    const held = hold(server, 'NFS3 COMMIT');
    const controller = new AbortController();
    const commits = Array.from({ length: 50 }, () => commit(limit(10_000, controller.signal)));
    const other = commit();
    await until('the window to be full', () => held.length === 8);
    controller.abort(new Error('no longer wanted'));
    for (const each of await Promise.allSettled(commits)) {
      assert.equal(each.status, 'rejected');
      isCode('ABORTED')(each.reason);
      assert.equal(((each.reason as Error).cause as Error).message, 'no longer wanted');
    }
    await until('the other call to get its place', () => held.length === 9);
    server.answer(held[8] as FaultCall);
    assert.equal((await other).status, 0);
    await assert.rejects(commit(limit(1000, controller.signal)), isCode('ABORTED'));
  });

  it('does not keep close from ending everything', async (t) => {
    const { server, mounted, commit } = await fixture(t);
    hold(server, 'NFS3 COMMIT');
    const commits = Array.from({ length: 20 }, () => commit());
    await until('the window to be full', () => server.count('NFS3 COMMIT') === 8);
    const closing = mounted.close();
    for (const each of await Promise.allSettled(commits)) {
      assert.equal(each.status, 'rejected');
      isCode('CLOSED')(each.reason);
    }
    await closing;
    await assert.rejects(commit(), isCode('CLOSED'));
    await assert.rejects(mounted.remount(limit()), isCode('CLOSED'));
  });
});

describe('a server that refuses', () => {
  const CASES: [string, (call: FaultCall) => void, string, RegExp][] = [
    ['PROG_UNAVAIL', (call) => call.replyAccept(PROG_UNAVAIL), 'PROGRAM_UNAVAILABLE', /does not offer NFS3/],
    [
      'PROG_MISMATCH',
      (call) => call.replyAccept(PROG_MISMATCH, 4, 4),
      'PROGRAM_UNAVAILABLE',
      /versions 4 to 4/,
    ],
    [
      'PROC_UNAVAIL',
      (call) => call.replyAccept(PROC_UNAVAIL),
      'PROGRAM_UNAVAILABLE',
      /does not implement NFS3/,
    ],
    ['GARBAGE_ARGS', (call) => call.replyAccept(GARBAGE_ARGS), 'PROTOCOL_ERROR', /GARBAGE_ARGS/],
    ['SYSTEM_ERR', (call) => call.replyAccept(SYSTEM_ERR), 'PROTOCOL_ERROR', /SYSTEM_ERR/],
    ['AUTH_TOOWEAK', (call) => call.denyAuth(5), 'AUTH_REFUSED', /AUTH_TOOWEAK.*sec=sys.*privileged/],
  ];
  for (const [what, answer, code, words] of CASES) {
    it(`with ${what} gets an error that says what to change`, async (t) => {
      const { server, commit } = await fixture(t);
      server.script = (call) => {
        if (call.name === 'NFS3 COMMIT') answer(call);
        return call.name === 'NFS3 COMMIT';
      };
      await assert.rejects(commit(), isCode(code, words));
    });
  }

  it('READDIRPLUS as unknown counts as not supported', async (t) => {
    const { server, mounted } = await fixture(t);
    server.script = (call) => {
      if (call.name === 'NFS3 READDIRPLUS') call.replyAccept(PROC_UNAVAIL);
      return call.name === 'NFS3 READDIRPLUS';
    };
    const page = await mounted.readdirplus(mounted.root, START_OF_DIRECTORY, limit());
    assert.deepEqual(page, { status: NFS3ERR_NOTSUPP, entries: [], next: null });
  });
});

describe('the window', () => {
  it('starts at 8, doubles per round trip while all is well, and ends at 64', async (t) => {
    const { server, commit } = await fixture(t);
    const held = hold(server, 'NFS3 COMMIT');
    const commits = Array.from({ length: 8 + 16 + 32 + 64 + 64 }, () => commit());
    for (const window of [8, 16, 32, 64, 64]) {
      await until(`${window} calls in flight`, () => held.length >= window);
      // Whatever else had been sent would come before the answer to this new connection's first bytes.
      const probe = connect(server.port, server.host);
      await once(probe, 'connect');
      probe.destroy();
      assert.equal(held.length, window);
      for (const call of held.splice(0)) server.answer(call);
    }
    for (const result of await Promise.all(commits)) assert.equal(result.status, 0);
  });

  it('lets calls through in the order in which they were made', async (t) => {
    const { server, mounted } = await fixture(t);
    const names = Array.from({ length: 200 }, (_, i) => `n${i}`);
    await Promise.all(names.map((name) => mounted.lookup(mounted.root, Buffer.from(name), limit())));
    const seen = server.calls.filter((call) => call.name === 'NFS3 LOOKUP').map((call) => call.lookupName);
    assert.deepEqual(seen, names);
  });

  it('shrinks when the server says "try later"', async (t) => {
    const { server, commit } = await fixture(t);
    await Promise.all(Array.from({ length: 500 }, () => commit()));
    server.script = (call) => {
      if (call.name === 'NFS3 COMMIT') call.replyStatus(NFS3ERR_JUKEBOX);
      return call.name === 'NFS3 COMMIT';
    };
    await commit();
    const held = hold(server, 'NFS3 COMMIT');
    const commits = Array.from({ length: 100 }, () => commit());
    await until('a window in flight', () => held.length >= 8);
    assert.ok(held.length <= 32, `${held.length} in flight`);
    server.script = () => false;
    for (const call of held) server.answer(call);
    await Promise.all(commits);
  });
});

describe('several mount addresses', () => {
  it('share the calls; one that fails leaves them to the others', async (t) => {
    const servers = ['127.0.0.1', '127.0.0.2', '127.0.0.3'].map((host) =>
      Object.assign(new FaultServer(), { host }),
    );
    const [first, second, third] = servers as [FaultServer, FaultServer, FaultServer];
    await first.listen();
    second.port = first.port;
    third.port = first.port;
    await second.listen();
    await third.listen();
    t.after(() => Promise.all(servers.map((server) => server.close())));
    const events = new Events();
    const addresses = servers.map((server) => server.host);
    const mounted = await NfsExport.mount(targetOf(servers, { addresses }), '/export', limit(), events);
    t.after(() => mounted.close());
    const commits = (count: number) =>
      Promise.all(Array.from({ length: count }, () => mounted.commit(FILE, 0, 0, 0, limit())));
    await until('three connections', () => servers.every((server) => server.count('NFS3 NULL') === 1));
    await commits(300);
    for (const server of servers) assert.ok(server.count('NFS3 COMMIT') >= 50, 'calls on every address');
    let dropped = 0;
    second.script = (call) => {
      if (call.name === 'NFS3 COMMIT' && ++dropped === 5) void second.close();
      return dropped >= 5;
    };
    for (const result of await commits(300)) assert.equal(result.status, 0);
    assert.deepEqual(events.log, []);
    await first.close();
    await third.close();
    const waiting = commits(10);
    await until('the outage of the last address', () => events.log.length > 0);
    await third.listen();
    for (const result of await waiting) assert.equal(result.status, 0);
    assert.deepEqual(events.log, ['down UNREACHABLE', 'up 127.0.0.3']);
  });

  it('beyond the fourth stand in for one that cannot be reached', async (t) => {
    const server = await startFaultServer();
    t.after(() => server.close());
    // Nothing listens on 127.0.0.11 to 127.0.0.15; whichever four are tried first, the one that answers is found.
    const addresses = ['127.0.0.11', '127.0.0.12', '127.0.0.13', '127.0.0.14', '127.0.0.15', '127.0.0.1'];
    const mounted = await NfsExport.mount(targetOf([server], { addresses }), '/export', limit());
    t.after(() => mounted.close());
    assert.equal((await mounted.commit(FILE, 0, 0, 0, limit())).status, 0);
  });
});

describe('events', () => {
  it('tell a write verifier that was never seen before, and only that', async (t) => {
    const { server, events, commit } = await fixture(t);
    const verifiers = [1, 1, 2, 1, 2, 3];
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT') return false;
      const verifier = verifiers.shift() ?? 3;
      call.reply((writer) => writeCommit(writer, 0, REGULAR, verifier));
      return true;
    };
    const seen: string[] = [];
    for (let i = 0; i < 6; i++) seen.push((await commit()).verifier.slice(-1));
    assert.deepEqual(seen, ['1', '1', '2', '1', '2', '3']);
    assert.deepEqual(events.log, ['restarted 127.0.0.1', 'restarted 127.0.0.1']);
  });

  it('warn of gids that AUTH_SYS cannot carry', async (t) => {
    const gids = Array.from({ length: 20 }, (_, i) => i);
    const { events } = await fixture(t, { credential: { uid: 1, gid: 2, gids } });
    assert.equal(events.log.length, 1);
    assert.match(events.log[0] as string, /warning .*at most 16.*of the 20/);
  });
});

describe('directory pages', () => {
  it('whose cookie does not advance are an error, not an endless loop', async (t) => {
    const { server, mounted } = await fixture(t);
    server.script = (call) => {
      if (!call.name.startsWith('NFS3 READDIR')) return false;
      const entry = { name: 'a', cookie: 9, attributes: null, handle: null };
      call.reply((writer) => writeDirectoryPage(writer, call.name === 'NFS3 READDIRPLUS', [entry], false));
      return true;
    };
    for (const read of ['readdirplus', 'readdir'] as const) {
      const { next } = await mounted[read](mounted.root, START_OF_DIRECTORY, limit());
      assert.ok(next);
      await assert.rejects(mounted[read](mounted.root, next, limit()), isCode('PROTOCOL_ERROR', 'advance'));
    }
  });
});

it('a client that is closed leaves nothing behind that keeps the process alive', async (t) => {
  const { server, mounted, commit } = await fixture(t);
  await commit();
  await mounted.close();
  await until('all connections to be closed', () =>
    server.connections.every(({ socket }) => socket.destroyed),
  );
  const probe = connect(server.port, server.host);
  await once(probe, 'connect');
  probe.destroy();
  const timers = process.getActiveResourcesInfo().filter((name) => name === 'Timeout');
  assert.deepEqual(timers, []);
});
