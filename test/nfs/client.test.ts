import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CallLimit,
  type CommitResult,
  NfsError,
  type NfsEvents,
  NfsExport,
  type NfsTarget,
  START_OF_DIRECTORY,
} from '../../src/nfs/export.js';
import { NFS3ERR_JUKEBOX, NFS3ERR_NOTSUPP } from '../../src/nfs/nfs3.js';
import { GARBAGE_ARGS, PROC_UNAVAIL, PROG_MISMATCH, PROG_UNAVAIL, SYSTEM_ERR } from '../../src/nfs/rpc.js';
import {
  type FaultCall,
  FaultServer,
  REGULAR,
  recordBytes,
  startFaultServer,
  writeCommit,
  writeDirectoryPage,
} from '../support/fault-server.js';

const FILE = Buffer.from('handle of a file');

function limit(ms = 10_000, signal?: AbortSignal): CallLimit {
  return { deadlineAt: Date.now() + ms, signal };
}

function targetOf(servers: readonly FaultServer[], options: Partial<NfsTarget> = {}): NfsTarget {
  const [first] = servers as [FaultServer];
  return {
    addresses: ['127.0.0.1'],
    ports: first.ports,
    credential: { uid: 0, gid: 0, gids: [] },
    machineName: 'client',
    privilegedPort: false,
    callTimeoutMs: 5000,
    ...options,
  };
}

class Events implements NfsEvents {
  readonly log: string[] = [];
  down(error: NfsError): void {
    this.log.push(`down ${error.code}`);
  }
  up(address: string): void {
    this.log.push(`up ${address}`);
  }
  serverRestarted(address: string): void {
    this.log.push(`restarted ${address}`);
  }
  warning(message: string): void {
    this.log.push(`warning ${message}`);
  }
}

interface Fixture {
  server: FaultServer;
  mounted: NfsExport;
  events: Events;
  commit(limit?: CallLimit): Promise<CommitResult>;
}

async function fixture(t: TestContext, options: Partial<NfsTarget> = {}): Promise<Fixture> {
  const server = await startFaultServer();
  t.after(() => server.close());
  const events = new Events();
  const mounted = await NfsExport.mount(targetOf([server], options), '/export', limit(), events);
  t.after(() => mounted.close());
  return {
    server,
    mounted,
    events,
    commit: (callLimit = limit()) => mounted.commit(FILE, 0, 0, 0, callLimit),
  };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineAt = Date.now() + 15_000;
  while (!condition()) {
    assert.ok(Date.now() < deadlineAt, `waited in vain: ${what}`);
    await sleep(2);
  }
}

function isCode(code: string, ...words: (string | RegExp)[]): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof NfsError, String(error));
    assert.equal(error.code, code, error.message);
    for (const word of words) assert.match(error.message, typeof word === 'string' ? new RegExp(word) : word);
    return true;
  };
}

/** Collects the calls of one procedure unanswered; all else is answered. */
function hold(server: FaultServer, name: string): FaultCall[] {
  const held: FaultCall[] = [];
  server.script = (call) => {
    if (call.name !== name) return false;
    held.push(call);
    return true;
  };
  return held;
}

describe('replies', () => {
  it('find their calls in whatever order they come', async (t) => {
    const { server, mounted } = await fixture(t);
    const held = hold(server, 'NFS3 LOOKUP');
    const names = Array.from({ length: 8 }, (_, i) => `file ${i}`);
    const lookups = names.map((name) => mounted.lookup(mounted.root, Buffer.from(name), limit()));
    await until(() => held.length === 8, 'eight calls in flight');
    for (const call of held.reverse()) server.answer(call);
    const handles = (await Promise.all(lookups)).map((result) => result.handle?.toString());
    assert.deepEqual(
      handles,
      names.map((name) => `handle of ${name}`),
    );
  });

  it('may come in fragments, in pieces, and several in one segment', async (t) => {
    const { server, mounted } = await fixture(t);
    const held = hold(server, 'NFS3 LOOKUP');
    const lookups = Array.from({ length: 6 }, (_, i) =>
      mounted.lookup(mounted.root, Buffer.from(`f${i}`), limit()),
    );
    await until(() => held.length === 6, 'six calls in flight');
    const bodies = held.map((call) => call.replyBody(server.results(call)));
    const { connection } = held[0] as FaultCall;
    connection.sendBytes(Buffer.concat(bodies.slice(0, 3).map((body) => recordBytes(body, [0, 4, 0, 31]))));
    for (const byte of recordBytes(bodies[3] as Buffer, [7])) {
      connection.sendBytes(Buffer.of(byte));
      await sleep(0);
    }
    connection.sendRecord(bodies[4] as Buffer);
    connection.sendRecord(bodies[5] as Buffer, [0, 0, 0]);
    assert.deepEqual(
      (await Promise.all(lookups)).map((result) => result.handle?.toString()),
      ['f0', 'f1', 'f2', 'f3', 'f4', 'f5'].map((name) => `handle of ${name}`),
    );
    assert.equal(server.connections.length, server.calls.filter((c) => c.name === 'MOUNT3 MNT').length + 1);
  });

  it('that come twice, or belong to no call, change nothing', async (t) => {
    const { server, mounted, commit } = await fixture(t);
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT') return false;
      server.answer(call);
      server.answer(call);
      const stranger = call.replyBody(server.results(call));
      stranger.writeUInt32BE((call.xid ^ 0x4000_0000) >>> 0, 0);
      call.connection.sendRecord(stranger);
      return true;
    };
    for (let i = 0; i < 5; i++) assert.equal((await commit()).status, 0);
    server.script = () => false;
    assert.equal((await mounted.lookup(mounted.root, Buffer.from('x'), limit())).status, 0);
    assert.equal(server.count('NFS3 COMMIT'), 5);
  });

  it('bring statuses back as numbers, known or not', async (t) => {
    const { server, commit } = await fixture(t);
    for (const status of [5, 66, 70, 10002, NFS3ERR_JUKEBOX, 4711]) {
      server.script = (call) => {
        if (call.name === 'NFS3 COMMIT') call.replyStatus(status);
        return call.name === 'NFS3 COMMIT';
      };
      assert.deepEqual(await commit(), { status, attributes: null, verifier: '' });
    }
  });

  it('to a call that was given up are dropped, and the next call is not confused', async (t) => {
    const { server, commit } = await fixture(t);
    const held = hold(server, 'NFS3 COMMIT');
    await assert.rejects(commit(limit(60)), isCode('DEADLINE', 'NFS3 COMMIT'));
    server.script = () => false;
    const [late] = held as [FaultCall];
    late.reply((writer) => writeCommit(writer, 5, null, 0));
    const result = await commit();
    assert.equal(result.status, 0);
    assert.equal(server.connections.length, 2);
  });
});

describe('a connection that ends', () => {
  it('with calls unanswered has them sent again, with their xids, once', async (t) => {
    const { server, events, mounted } = await fixture(t);
    const held = hold(server, 'NFS3 LOOKUP');
    const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
    const lookups = names.map((name) => mounted.lookup(mounted.root, Buffer.from(name), limit()));
    await until(() => held.length === 8, 'the first window in flight');
    server.script = () => false;
    (held[0] as FaultCall).connection.reset();
    const results = await Promise.all(lookups);
    assert.deepEqual(
      results.map((result) => result.handle?.toString()),
      names.map((name) => `handle of ${name}`),
    );
    const again = server.calls.filter((call) => call.name === 'NFS3 LOOKUP').slice(8);
    assert.deepEqual(
      again
        .slice(0, 8)
        .map((call) => call.xid)
        .sort(),
      held.map((call) => call.xid).sort(),
    );
    assert.equal(again.length, 20);
    assert.deepEqual(events.log, []);
  });

  it('in the middle of a reply has the call sent again', async (t) => {
    const { server, commit } = await fixture(t);
    let cuts = 0;
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT' || cuts === 2) return false;
      cuts++;
      const bytes = recordBytes(call.replyBody(server.results(call)));
      call.connection.sendBytes(bytes.subarray(0, bytes.length - 3));
      call.connection.end();
      return true;
    };
    assert.equal((await commit()).status, 0);
    assert.equal(server.count('NFS3 COMMIT'), 3);
  });

  it('while idle is no error: nothing is told, and the next call connects again', async (t) => {
    const { server, events, commit } = await fixture(t);
    await commit();
    const last = server.connections.at(-1);
    last?.end();
    if (last !== undefined && !last.socket.destroyed) await once(last.socket, 'close');
    const connections = server.connections.length;
    await sleep(50);
    assert.equal(server.connections.length, connections);
    assert.equal((await commit()).status, 0);
    assert.deepEqual(events.log, []);
  });
});

describe('a server that is away', () => {
  it('lets calls wait, tells down and up once, and answers them all when it is back', async (t) => {
    const { server, events, commit } = await fixture(t);
    await commit();
    await server.close();
    const commits = Array.from({ length: 100 }, () => commit());
    await until(() => events.log.length > 0, 'the outage to be noticed');
    await server.listen();
    for (const result of await Promise.all(commits)) assert.equal(result.status, 0);
    assert.deepEqual(events.log, ['down UNREACHABLE', 'up 127.0.0.1']);
  });

  it('is looked for until it is back, also when nobody waits for an answer any more', async (t) => {
    const { server, events, commit } = await fixture(t);
    await server.close();
    await assert.rejects(commit(limit(500)), isCode('DEADLINE'));
    await until(() => events.log.length === 1, 'the outage to be noticed');
    await server.listen();
    await until(() => events.log.length === 2, 'the return to be noticed');
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
    await until(() => held.length === 8, 'the window to be full');
    controller.abort(new Error('no longer wanted'));
    for (const each of await Promise.allSettled(commits)) {
      assert.equal(each.status, 'rejected');
      isCode('ABORTED')(each.reason);
      assert.equal(((each.reason as Error).cause as Error).message, 'no longer wanted');
    }
    await until(() => held.length === 9, 'the other call to get its place');
    server.answer(held[8] as FaultCall);
    assert.equal((await other).status, 0);
    await assert.rejects(commit(limit(1000, controller.signal)), isCode('ABORTED'));
  });

  it('does not keep close from ending everything', async (t) => {
    const { server, mounted, commit } = await fixture(t);
    hold(server, 'NFS3 COMMIT');
    const commits = Array.from({ length: 20 }, () => commit());
    await until(() => server.count('NFS3 COMMIT') === 8, 'the window to be full');
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

describe('a server that is silent', () => {
  it('about one call, but answers others, gets it again with a new xid on the same connection', async (t) => {
    const { server, events, commit } = await fixture(t, { callTimeoutMs: 100 });
    const xids: number[] = [];
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT') return false;
      xids.push(call.xid);
      return xids.length < 3;
    };
    assert.equal((await commit()).status, 0);
    assert.equal(new Set(xids).size, 3);
    assert.equal(new Set(server.calls.slice(-3).map((call) => call.connection.number)).size, 1);
    assert.deepEqual(events.log, []);
  });

  it('about everything is given up: new connection, old xid', async (t) => {
    const { server, events, commit } = await fixture(t, { callTimeoutMs: 80 });
    let deaf = 0;
    server.script = (call) => {
      if (deaf === 0 && call.name === 'NFS3 COMMIT') deaf = call.connection.number;
      return call.connection.number === deaf;
    };
    assert.equal((await commit()).status, 0);
    const commits = server.calls.filter((call) => call.name === 'NFS3 COMMIT');
    assert.equal(commits.length, 2);
    assert.equal(commits[0]?.xid, commits[1]?.xid);
    assert.notEqual(commits[0]?.connection, commits[1]?.connection);
    assert.deepEqual(events.log, ['down UNREACHABLE', 'up 127.0.0.1']);
  });

  it('for ever lets every call end at its deadline', async (t) => {
    const { server, mounted, events, commit } = await fixture(t, { callTimeoutMs: 50 });
    server.script = () => true;
    const commits = Array.from({ length: 200 }, (_, i) => commit(limit(300 + i)));
    for (const each of await Promise.allSettled(commits)) {
      assert.equal(each.status, 'rejected');
      isCode('DEADLINE')(each.reason);
    }
    assert.ok(events.log.includes('down UNREACHABLE'));
    const closing = mounted.close();
    await closing;
  });

  it('lets a single call end at its deadline too, however often its connection was given up', async (t) => {
    const { server, commit } = await fixture(t, { callTimeoutMs: 50 });
    server.script = () => true;
    const begin = Date.now();
    await assert.rejects(commit(limit(400)), isCode('DEADLINE'));
    assert.ok(Date.now() - begin < 5000);
  });

  it('is noticed also by calls that waited for longer than their time-out before they could be sent', async (t) => {
    const { server, commit } = await fixture(t, { callTimeoutMs: 100 });
    await server.close();
    const waiting = commit(limit(60_000));
    await sleep(250);
    const xids: number[] = [];
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT') return false;
      xids.push(call.xid);
      return xids.length === 1;
    };
    await server.listen();
    assert.equal((await waiting).status, 0);
    assert.equal(xids.length, 2);
  });

  it('in the middle of a reply is given up too', async (t) => {
    const { server, commit } = await fixture(t, { callTimeoutMs: 100 });
    let stuck = false;
    server.script = (call) => {
      if (stuck || call.name !== 'NFS3 COMMIT') return false;
      stuck = true;
      call.connection.sendBytes(recordBytes(call.replyBody(server.results(call))).subarray(0, 20));
      return true;
    };
    assert.equal((await commit()).status, 0);
    assert.equal(server.count('NFS3 COMMIT'), 2);
  });

  it('but alive is waited for by a patient call, which takes no place in the window', async (t) => {
    const { server, mounted, commit } = await fixture(t, { callTimeoutMs: 50 });
    const held = hold(server, 'NFS3 COMMIT');
    const patient = Array.from({ length: 100 }, () =>
      mounted.commit(FILE, 0, 0, 1, { ...limit(), patient: true }),
    );
    await until(() => held.length === 100, 'all in flight at once');
    const probes = server.count('NFS3 NULL');
    await until(() => server.count('NFS3 NULL') >= probes + 3, 'the server to be probed');
    assert.equal((await mounted.lookup(mounted.root, Buffer.from('x'), limit())).status, 0);
    assert.equal(held.length, 100);
    for (const call of held) server.answer(call);
    for (const result of await Promise.all(patient)) assert.equal(result.status, 0);
    server.script = () => false;
    await commit();
  });
});

describe('replies that cannot be read', () => {
  const spoil = (server: FaultServer, times: number, send: (call: FaultCall) => void) => {
    let spoilt = 0;
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT' || spoilt >= times) return false;
      spoilt++;
      send(call);
      return true;
    };
  };
  const KINDS: [string, (server: FaultServer) => (call: FaultCall) => void][] = [
    [
      'cut short inside their record',
      (server) => (call) => call.connection.sendRecord(call.replyBody(server.results(call)).subarray(0, -4)),
    ],
    [
      'longer than their definition',
      (server) => (call) =>
        call.connection.sendRecord(Buffer.concat([call.replyBody(server.results(call)), Buffer.alloc(4)])),
    ],
    [
      'a call instead of a reply',
      () => (call) => {
        const body = Buffer.alloc(24);
        body.writeUInt32BE(call.xid, 0);
        call.connection.sendRecord(body);
      },
    ],
    [
      'a boolean of 2',
      () => (call) =>
        call.reply((writer) => {
          writer.uint32(0);
          writer.uint32(2);
        }),
    ],
    ['a record of two gigabytes', () => (call) => call.connection.sendBytes(Buffer.alloc(64, 0xff))],
    ['a record without an end of fragments', () => (call) => call.connection.sendBytes(Buffer.alloc(65_536))],
    ['an empty record', () => (call) => call.connection.sendBytes(Buffer.of(0x80, 0, 0, 0))],
  ];

  for (const [what, kind] of KINDS) {
    it(`(${what}) never become a status: the call goes out again on a new connection`, async (t) => {
      const { server, commit } = await fixture(t);
      spoil(server, 2, kind(server));
      assert.equal((await commit()).status, 0);
      const commits = server.calls.filter((call) => call.name === 'NFS3 COMMIT');
      assert.equal(new Set(commits.map((call) => call.connection.number)).size, 3);
    });
  }

  it('end as PROTOCOL_ERROR after three times, for the call that they answer and no other', async (t) => {
    const { server, mounted, commit } = await fixture(t);
    spoil(server, Number.POSITIVE_INFINITY, (call) => call.reply());
    const lookups = Array.from({ length: 30 }, (_, i) =>
      mounted.lookup(mounted.root, Buffer.from(`f${i}`), limit()),
    );
    await assert.rejects(commit(), isCode('PROTOCOL_ERROR', 'NFS3 COMMIT', '3 times'));
    for (const result of await Promise.all(lookups)) assert.equal(result.status, 0);
    assert.equal(server.count('NFS3 COMMIT'), 3);
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
      await until(() => held.length >= window, `${window} calls in flight`);
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
    await until(() => held.length >= 8, 'a window in flight');
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
    await until(() => servers.every((server) => server.count('NFS3 NULL') === 1), 'three connections');
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
    await until(() => events.log.length > 0, 'the outage of the last address');
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
  await until(
    () => server.connections.every(({ socket }) => socket.destroyed),
    'all connections to be closed',
  );
  const probe = connect(server.port, server.host);
  await once(probe, 'connect');
  probe.destroy();
  const timers = process.getActiveResourcesInfo().filter((name) => name === 'Timeout');
  assert.deepEqual(timers, []);
});
