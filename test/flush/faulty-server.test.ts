import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { flushFiles } from '../../src/flush/engine.js';
import { MAGIC_COUNT_START } from '../../src/flush/hpc-cache.js';
import type { FlushSession, FlushSessionOptions, NfsTarget } from '../../src/flush/session.js';
import type { XdrWriter } from '../../src/nfs/xdr.js';
import {
  type FaultCall,
  type FaultServer,
  recordBytes,
  startFaultServer,
  writeCommit,
} from '../support/fault-server.js';
import { filesOf, flushAll, flushOptions, openSession, targetAt } from '../support/flushing.js';
import { until } from '../support/until.js';

const names = (count: number) => Array.from({ length: count }, (_, i) => `/f${i}`);

async function serve(
  t: TestContext,
  more: Partial<NfsTarget> = {},
  options: Partial<FlushSessionOptions> = {},
): Promise<{ server: FaultServer; session: FlushSession }> {
  const server = await startFaultServer();
  const session = await openSession(targetAt([server.host], server.ports, more), '/export', options);
  t.after(async () => {
    await session.close();
    await server.close();
  });
  return { server, session };
}

function failedCommit(writer: XdrWriter): void {
  writeCommit(writer, 13, null, 1);
}

const isFileCall = ({ name }: FaultCall) => name === 'NFS3 LOOKUP' || name === 'NFS3 COMMIT';

describe('over a server that', () => {
  it('answers in another order, every file ends with its own answer', async (t) => {
    const { server, session } = await serve(t);
    let held: FaultCall[] = [];
    server.script = (call) => {
      if (!isFileCall(call)) return false;
      held.push(call);
      if (held.length === 1) {
        setTimeout(() => {
          const batch = held.reverse();
          held = [];
          for (const each of batch) {
            if (each.name === 'NFS3 COMMIT' && each.args.includes('handle of f13')) each.replyStatus(13);
            else server.answer(each);
          }
        }, 5);
      }
      return true;
    };
    const outcomes = await flushAll(session, names(300));
    for (const { path, state, lastError } of outcomes) {
      const denied = path.startsWith('/f13');
      assert.equal(state, denied ? 'failed' : 'succeeded', path);
      if (denied) assert.equal(lastError?.code, 'EACCES');
    }
  });

  it('answers in fragments and in pieces of them, every answer is put together', async (t) => {
    const { server, session } = await serve(t);
    server.script = (call) => {
      if (!isFileCall(call)) return false;
      const denied = call.name === 'NFS3 COMMIT' && call.args.includes('handle of f13');
      const results = denied ? failedCommit : server.results(call);
      const bytes = recordBytes(call.replyBody(results), [1, 0, 6]);
      for (let at = 0; at < bytes.length; at += 7) call.connection.sendBytes(bytes.subarray(at, at + 7));
      return true;
    };
    const outcomes = await flushAll(session, names(150));
    for (const { path, state, lastError } of outcomes) {
      const denied = path.startsWith('/f13');
      assert.equal(state, denied ? 'failed' : 'succeeded', path);
      if (denied) assert.equal(lastError?.code, 'EACCES');
    }
  });

  it('answers twice, late, and to nobody, no file ends twice', async (t) => {
    const { server, session } = await serve(t, { callTimeoutMs: 200 });
    const late: FaultCall[] = [];
    server.script = (call) => {
      if (!isFileCall(call)) return false;
      if (call.name === 'NFS3 COMMIT' && late.length < 5) {
        late.push(call);
        return true;
      }
      server.answer(call);
      server.answer(call);
      call.connection.sendRecord(Buffer.from([0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1, 0, 0, 0, 0]));
      for (const each of late) server.answer(each);
      return true;
    };
    const outcomes = await flushAll(session, names(100));
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
  });

  it('cuts its connections again and again, no file is lost', async (t) => {
    const { server, session } = await serve(t);
    let calls = 0;
    server.script = (call) => {
      if (!isFileCall(call)) return false;
      calls++;
      if (calls % 70 !== 0 || calls > 300) return false;
      if (calls % 140 === 0) call.connection.reset();
      else {
        // Half a reply, then the end.
        call.connection.sendBytes(Buffer.from([0x80, 0, 0, 0x40, 0, 0, 0]));
        call.connection.end();
      }
      return true;
    };
    const outcomes = await flushAll(session, names(200));
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
    assert.ok(server.connections.length > 4);
  });

  it('answers one file with what cannot be read, only that file fails', async (t) => {
    const { server, session } = await serve(t);
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT' || !call.args.includes('handle of f3\0')) return false;
      call.reply((writer) => writer.uint32(0));
      return true;
    };
    const outcomes = await flushAll(session, names(10));
    for (const { path, state, lastError } of outcomes) {
      assert.equal(state, path === '/f3' ? 'failed' : 'succeeded', path);
      if (path === '/f3') assert.equal(lastError?.code, 'PROTOCOL_ERROR');
    }
  });

  it('drops calls silently gets them again', async (t) => {
    const { server, session } = await serve(t, { callTimeoutMs: 150 });
    const seen = new Set<string>();
    server.script = (call) => {
      if (!isFileCall(call)) return false;
      const key = `${call.name} ${call.args.toString('hex')}`;
      if (seen.has(key)) return false;
      seen.add(key);
      return seen.size % 3 === 0;
    };
    const outcomes = await flushAll(session, names(60));
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
  });

  it('loses its answer to a start, no file is told to have been clean before', async (t) => {
    for (const how of ['cut', 'silent'] as const) {
      const { server, session } = await serve(t, { callTimeoutMs: how === 'cut' ? 30_000 : 200 });
      const begun = new Set<string>();
      server.script = (call) => {
        if (call.name !== 'NFS3 COMMIT' || !call.args.includes('handle of f1')) return false;
        const isStart = call.args.readUInt32BE(call.args.length - 4) === MAGIC_COUNT_START;
        if (!isStart || begun.has(how)) return false;
        // The flush is begun and ends, but nobody hears of it.
        begun.add(how);
        if (how === 'cut') call.connection.reset();
        return true;
      };
      const outcomes = await flushAll(session, ['/f1'], { dialect: 'hpc-cache' });
      assert.deepEqual([...begun], [how]);
      for (const { state, outcome, evidence } of outcomes) {
        assert.deepEqual([state, outcome, evidence], ['succeeded', 'flushed', 'accepted']);
      }
      const [untouched] = await flushAll(session, ['/f2'], { dialect: 'hpc-cache' });
      assert.equal(untouched?.outcome, 'already_clean');
    }
  });

  it('never answers, every file ends at its deadline and says so', async (t) => {
    for (const silent of ['NFS3 LOOKUP', 'NFS3 COMMIT']) {
      const { server, session } = await serve(t);
      server.script = (call) => call.name === silent;
      const outcomes = await flushAll(session, names(300), { fileTimeoutMs: 400 });
      for (const { state, lastError } of outcomes) {
        assert.equal(state, 'expired');
        assert.equal(lastError?.code, 'DEADLINE');
        assert.match(lastError?.message ?? '', /no answer from 127\.0\.0\.1/);
      }
      assert.equal(session.wheel.waiting, 0);
    }
  });

  it('takes connections and says nothing, files end at their deadline with what is known', async (t) => {
    const { server, session } = await serve(t);
    server.script = () => true;
    const outcomes = await flushAll(session, names(3), { fileTimeoutMs: 500 });
    for (const { state, lastError } of outcomes) {
      assert.equal(state, 'expired');
      assert.equal(lastError?.phase, 'mount');
      assert.match(lastError?.message ?? '', /export \/export of 127\.0\.0\.1 is not mounted/);
    }
  });

  it('restarts within three seconds, no file fails, and the restart is told', async (t) => {
    const events: string[] = [];
    const { server, session } = await serve(
      t,
      {},
      { inFlight: 32, onEvent: ({ type }) => events.push(type) },
    );
    const ended: string[] = [];
    let verifier = 1;
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT') return false;
      setTimeout(() => {
        call.reply((writer) => {
          for (const word of [0, 0, 0, 0, verifier]) writer.uint32(word);
        });
      }, 10);
      return true;
    };
    const run = (async () => {
      for await (const outcome of flushFiles(
        session,
        filesOf(names(400)),
        flushOptions(),
        new AbortController().signal,
      )) {
        assert.equal(outcome.state, 'succeeded', outcome.lastError?.message);
        ended.push(outcome.path);
      }
    })();
    await until('fifty files to end', () => ended.length > 50);
    await server.close();
    verifier = 2;
    await new Promise((resolve) => setTimeout(resolve, 3000));
    assert.ok(ended.length < 400);
    await server.listen();
    await run;
    assert.equal(new Set(ended).size, 400);
    assert.deepEqual(events, ['down', 'up', 'server-restarted']);
    assert.equal(session.counters().down, null);
  });

  it('forgets flushes when it restarts gets them started again', async (t) => {
    const { server, session } = await serve(t, {}, { inFlight: 16 });
    let flushing = new Map<string, number>();
    let starts = 0;
    server.script = (call) => {
      if (call.name !== 'NFS3 COMMIT') return false;
      const key = call.args.subarray(0, -12).toString('hex');
      if (call.args.readUInt32BE(call.args.length - 4) === MAGIC_COUNT_START) {
        starts++;
        flushing.set(key, flushing.get(key) ?? 0);
        call.replyStatus(10002);
      } else if (flushing.has(key)) {
        const polls = (flushing.get(key) ?? 0) + 1;
        flushing.set(key, polls);
        if (polls < 4) call.replyStatus(10002);
        else return false;
      } else {
        call.replyStatus(66);
      }
      return true;
    };
    const flushed = flushAll(session, names(16), { dialect: 'hpc-cache' });
    await until('sixteen starts', () => starts === 16);
    await server.close();
    flushing = new Map();
    await server.listen();
    const outcomes = await flushed;
    for (const { state, evidence, outcome } of outcomes) {
      assert.deepEqual([state, evidence, outcome], ['succeeded', 'written-back', 'flushed']);
    }
    assert.ok(starts > 16);
  });
});

describe('a target that is not there', () => {
  it('behind a closed port: files wait, then end with what was tried', async () => {
    const server = await startFaultServer();
    await server.close();
    const session = await openSession(targetAt([server.host], server.ports), '/export');
    const [outcome] = await flushAll(session, ['/a'], { fileTimeoutMs: 700 });
    assert.equal(outcome?.state, 'expired');
    assert.match(
      outcome?.lastError?.message ?? '',
      new RegExp(`127\\.0\\.0\\.1:${server.port}.*ECONNREFUSED`),
    );
    await session.close();
  });

  it('because its name does not resolve', async () => {
    const session = await openSession(targetAt(['no-such-host.invalid'], {}), '/export');
    const [outcome] = await flushAll(session, ['/a'], { fileTimeoutMs: 1500 });
    assert.equal(outcome?.state, 'expired');
    assert.match(outcome?.lastError?.message ?? '', /no-such-host\.invalid/);
    await session.close();
  });

  it('under that export: all files fail at once, with the exports there are', async (t) => {
    const { server } = await serve(t);
    server.script = (call) => {
      if (call.name !== 'MOUNT3 MNT') return false;
      call.replyStatus(13);
      return true;
    };
    const session = await openSession(targetAt([server.host], server.ports), '/exprot');
    t.after(() => session.close());
    for (const { state, lastError } of await flushAll(session, names(50))) {
      assert.equal(state, 'failed');
      assert.equal(lastError?.code, 'EXPORT_NOT_FOUND');
      assert.match(lastError?.message ?? '', /\/export/);
    }
  });
});
