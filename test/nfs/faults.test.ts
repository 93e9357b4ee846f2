import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NFS3ERR_JUKEBOX } from '../../src/nfs/nfs3.js';
import { type FaultCall, type FaultServer, recordBytes, writeCommit } from '../support/fault-server.js';
import { until } from '../support/until.js';
import { FILE, fixture, hold, isCode, limit } from './fixture.js';

describe('replies', () => {
  it('find their calls in whatever order they come', async (t) => {
    const { server, mounted } = await fixture(t);
    const held = hold(server, 'NFS3 LOOKUP');
    const names = Array.from({ length: 8 }, (_, i) => `file ${i}`);
    const lookups = names.map((name) => mounted.lookup(mounted.root, Buffer.from(name), limit()));
    await until('eight calls in flight', () => held.length === 8);
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
    await until('six calls in flight', () => held.length === 6);
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
    await until('the first window in flight', () => held.length === 8);
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
    await until('all in flight at once', () => held.length === 100);
    const probes = server.count('NFS3 NULL');
    await until('the server to be probed', () => server.count('NFS3 NULL') >= probes + 3);
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
