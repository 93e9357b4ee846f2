import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { flushFiles, HandBack, TargetDownError } from '../../src/flush/engine.js';
import { MAGIC_COUNT_START, MAGIC_COUNT_STATUS, MAGIC_COUNT_SYNC } from '../../src/flush/hpc-cache.js';
import type { FlushFile } from '../../src/flush/types.js';
import type { FileErrorCode } from '../../src/model/errors.js';
import type { FileResult } from '../../src/model/file-result.js';
import { NfsError } from '../../src/nfs/errors.js';
import { NF3REG } from '../../src/nfs/nfs3.js';
import { COMMIT } from '../../src/nfs/nfs3-procedures.js';
import { RpcRefused } from '../../src/nfs/refusal.js';
import { filesOf, flushAll, flushOne, flushOptions, openOn } from '../support/flushing.js';
import { type Answer, type MemoryCall, MemoryExport } from '../support/memory-export.js';
import { until } from '../support/until.js';

const never = new AbortController().signal;

/** Answers COMMITs of each path from a list; when that is used up, OK. */
function committing(nfs: MemoryExport, answers: Record<string, Answer[]>): void {
  nfs.answer = ({ procedure, path }) => {
    if (procedure !== 'COMMIT') return undefined;
    const list = answers[path] ?? answers['*'];
    return list?.shift();
  };
}

const tree = (...paths: string[]) => new MemoryExport().file(...paths);

describe('a flush', () => {
  it('of the hpc-cache dialect starts, polls until the cache is done, and is proven by what it saw', async () => {
    const nfs = tree('result/a');
    committing(nfs, { 'result/a': [10002, 10002, 10002, 0] });
    const events: string[] = [];
    const session = await openOn(nfs, { onEvent: ({ type }) => events.push(type) });
    const outcome = await flushOne(session, '/result/a', { dialect: 'hpc-cache' });
    assert.equal(outcome.state, 'succeeded');
    assert.equal(outcome.outcome, 'flushed');
    assert.equal(outcome.evidence, 'written-back');
    assert.equal(outcome.attempts, 1);
    assert.equal(outcome.size, 18);
    assert.equal(outcome.mtimeMs, 1_700_000_000_000);
    assert.equal(outcome.firstError, null);
    assert.deepEqual(
      nfs.calls.filter(({ procedure }) => procedure === 'COMMIT').map(({ count }) => count),
      [MAGIC_COUNT_START, MAGIC_COUNT_STATUS, MAGIC_COUNT_STATUS, MAGIC_COUNT_STATUS],
    );
    assert.deepEqual(events, ['dialect-proven']);
    await session.close();
  });

  it('that a plain server answers OK at once claims no more than "accepted"', async () => {
    const nfs = tree('a');
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a', { dialect: 'hpc-cache' });
    assert.deepEqual([outcome.outcome, outcome.evidence], ['already_clean', 'accepted']);
    const sync = await flushOne(session, '/a', { dialect: 'hpc-cache', mode: 'sync' });
    assert.deepEqual([sync.outcome, sync.evidence], ['flushed', 'accepted']);
    assert.equal(nfs.calls.at(-1)?.count, MAGIC_COUNT_SYNC);
    await session.close();
  });

  it('answered OK by a target that was proven before is written back', async () => {
    const session = await openOn(tree('a'), { dialectProven: true });
    const outcome = await flushOne(session, '/a', { dialect: 'hpc-cache' });
    assert.deepEqual([outcome.outcome, outcome.evidence], ['already_clean', 'written-back']);
    await session.close();
  });

  it('that an earlier run may have begun is not told to have been unnecessary', async () => {
    const session = await openOn(tree('a'), { dialectProven: true });
    const outcome = await flushOne(session, '/a', { dialect: 'hpc-cache', begunBefore: true });
    assert.deepEqual([outcome.outcome, outcome.evidence], ['flushed', 'written-back']);
    await session.close();
  });

  it('of a file that was listed a moment ago makes no LOOKUP, unless the handle is stale or the listing old', async () => {
    const nfs = tree('young', 'old', 'gone');
    const session = await openOn(nfs);
    const attributes = { type: NF3REG, size: 18, mtimeMs: 1_700_000_000_000 };
    const listed = async (path: string, ageMs: number) => {
      const { handle } = await nfs.lookup(nfs.root, Buffer.from(path), { deadlineAt: Date.now() + 1000 });
      assert.ok(handle);
      return { handle, attributes, at: Date.now() - ageMs };
    };
    const files = [
      { index: 0, path: '/young', listed: await listed('young', 1000) },
      { index: 1, path: '/old', listed: await listed('old', 40_000) },
      { index: 2, path: '/gone', listed: await listed('gone', 1000) },
    ];
    nfs.remove('gone').file('gone');
    nfs.calls.length = 0;
    for await (const outcome of flushFiles(session, files, flushOptions(), never)) {
      assert.equal(outcome.state, 'succeeded', outcome.path);
    }
    const lookups = nfs.calls.filter(({ procedure }) => procedure === 'LOOKUP').map(({ path }) => path);
    assert.deepEqual(lookups.sort(), ['gone', 'old']);
    await session.close();
  });

  it('of the rfc1813 dialect is one COMMIT of the whole file', async () => {
    const nfs = tree('a');
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a');
    assert.deepEqual([outcome.outcome, outcome.evidence, outcome.attempts], ['flushed', 'stable', 1]);
    assert.equal(nfs.count('COMMIT'), 1);
    assert.equal(nfs.calls.at(-1)?.count, 0);
    await session.close();
  });

  it('takes 10002 and 66 of an rfc1813 target for what they are: not this protocol', async () => {
    for (const status of [10002, 66]) {
      const nfs = tree('a');
      committing(nfs, { a: [status] });
      const session = await openOn(nfs);
      const outcome = await flushOne(session, '/a');
      assert.equal(outcome.state, 'failed');
      assert.equal(outcome.lastError?.code, 'PROTOCOL_ERROR');
      assert.equal(outcome.lastError?.nfsStatus, status);
      assert.match(outcome.lastError?.message ?? '', /dialect is hpc-cache/);
      assert.equal(nfs.count('COMMIT'), 1);
      await session.close();
    }
  });

  it('that leaves the file dirty is started again, a few times', async () => {
    const nfs = tree('a', 'b');
    committing(nfs, {
      a: [10002, 66, 10002, 66, 10002, 0],
      b: Array.from({ length: 40 }, (_, i) => (i % 2 ? 66 : 10002)),
    });
    const session = await openOn(nfs);
    const [a, b] = await flushAll(session, ['/a', '/b'], { dialect: 'hpc-cache' });
    assert.equal(a?.state, 'succeeded');
    assert.equal(a?.attempts, 3);
    assert.equal(a?.firstError?.code, 'STILL_DIRTY');
    assert.equal(a?.lastError?.phase, 'poll');
    assert.equal(b?.state, 'failed');
    assert.equal(b?.lastError?.code, 'STILL_DIRTY');
    assert.equal(b?.lastError?.nfsStatus, 66);
    assert.equal(b?.attempts, 6);
    await session.close();
  });

  it('that ended between a failed status and the next start counts as flushed', async () => {
    const nfs = tree('a');
    committing(nfs, { a: [10002, 66, 0] });
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a', { dialect: 'hpc-cache' });
    assert.deepEqual([outcome.outcome, outcome.attempts], ['flushed', 2]);
    await session.close();
  });

  it('goes on polling after "try later", without a new start', async () => {
    const nfs = tree('a');
    committing(nfs, { a: [10008, 10002, 10002, 10008, 10008, 10002, 0] });
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a', { dialect: 'hpc-cache' });
    assert.equal(outcome.state, 'succeeded');
    assert.equal(outcome.attempts, 1);
    assert.equal(outcome.firstError?.code, 'EJUKEBOX');
    assert.equal(outcome.firstError?.phase, 'flush');
    assert.equal(outcome.lastError?.phase, 'poll');
    const starts = nfs.calls.filter(({ count }) => count === MAGIC_COUNT_START);
    assert.equal(starts.length, 2);
    await session.close();
  });
});

describe('the error table', () => {
  const permanent: [number, FileErrorCode][] = [
    [1, 'EPERM'],
    [13, 'EACCES'],
    [20, 'ENOTDIR'],
    [21, 'EISDIR'],
    [22, 'EINVAL'],
    [27, 'EFBIG'],
    [30, 'EROFS'],
    [63, 'ENAMETOOLONG'],
    [2, 'ENOENT'],
    [71, 'NFS_STATUS'],
    [4711, 'NFS_STATUS'],
  ];
  for (const [status, code] of permanent) {
    it(`fails a file at once on ${status} (${code}), and keeps the number`, async () => {
      for (const procedure of ['LOOKUP', 'COMMIT'] as const) {
        const nfs = tree('a');
        nfs.answer = (call) => (call.procedure === procedure ? status : undefined);
        const session = await openOn(nfs);
        const outcome = await flushOne(session, '/a', { dialect: 'hpc-cache' });
        assert.equal(outcome.state, 'failed');
        assert.equal(outcome.lastError?.code, code);
        assert.equal(outcome.lastError?.nfsStatus, status);
        assert.equal(outcome.lastError?.phase, procedure === 'LOOKUP' ? 'resolve' : 'flush');
        assert.match(outcome.lastError?.message ?? '', new RegExp(`${procedure}.*${status}`));
        assert.equal(nfs.count(procedure), 1);
        assert.equal(session.counters().outstanding, 0);
        await session.close();
      }
    });
  }

  const few: [number, FileErrorCode][] = [
    [5, 'EIO'],
    [6, 'ENXIO'],
    [19, 'ENXIO'],
    [28, 'ENOSPC'],
    [69, 'EDQUOT'],
    [10006, 'ESERVERFAULT'],
  ];
  for (const [status, code] of few) {
    it(`tries a few times on ${status} (${code}), at the start, the status, and the lookup`, async () => {
      const passing = tree('a');
      committing(passing, { a: [status, 10002, status, 10002, 0] });
      const session = await openOn(passing);
      const outcome = await flushOne(session, '/a', { dialect: 'hpc-cache' });
      assert.equal(outcome.state, 'succeeded');
      assert.equal(outcome.attempts, 3);
      assert.equal(outcome.firstError?.code, code);
      assert.equal(outcome.lastError?.phase, 'poll');
      await session.close();

      for (const procedure of ['LOOKUP', 'COMMIT'] as const) {
        const nfs = tree('a');
        nfs.answer = (call) => (call.procedure === procedure ? status : undefined);
        const lasting = await openOn(nfs);
        const failed = await flushOne(lasting, '/a');
        assert.equal(failed.state, 'failed');
        assert.equal(failed.lastError?.code, code);
        assert.equal(nfs.count(procedure), 4);
        await lasting.close();
      }
    });
  }

  it('waits on JUKEBOX until the deadline, and then tells that this is what was going on', async () => {
    for (const procedure of ['LOOKUP', 'COMMIT'] as const) {
      const nfs = tree('a');
      nfs.answer = (call) => (call.procedure === procedure ? 10008 : undefined);
      const session = await openOn(nfs);
      const outcome = await flushOne(session, '/a', { fileTimeoutMs: 300 });
      assert.equal(outcome.state, 'expired');
      assert.equal(outcome.firstError?.code, 'EJUKEBOX');
      assert.equal(outcome.lastError?.code, 'DEADLINE');
      assert.equal(outcome.lastError?.nfsStatus, 10008);
      assert.equal(outcome.attempts, 0);
      assert.match(outcome.lastError?.message ?? '', /not done within 300 ms: .*JUKEBOX/);
      assert.ok(nfs.count(procedure) > 4);
      await session.close();
    }
  });

  it('looks a stale handle up again from the root, once', async () => {
    for (const stale of [70, 10001]) {
      const nfs = tree('d/e/a', 'd/e/b');
      committing(nfs, { 'd/e/a': [stale], 'd/e/b': [stale, stale] });
      const session = await openOn(nfs);
      const a = await flushOne(session, '/d/e/a');
      assert.equal(a.state, 'succeeded');
      assert.equal(a.firstError?.code, 'ESTALE');
      assert.equal(nfs.count('LOOKUP', 'd'), 2);
      assert.equal(nfs.count('LOOKUP', 'd/e'), 2);
      const b = await flushOne(session, '/d/e/b');
      assert.equal(b.state, 'failed');
      assert.equal(b.lastError?.code, 'ESTALE');
      assert.equal(nfs.count('COMMIT', 'd/e/b'), 2);
      await session.close();
    }
  });

  it('mounts again, once for all files, when the root has become stale', async () => {
    const paths = Array.from({ length: 50 }, (_, i) => `/d${i % 5}/f${i}`);
    const nfs = tree(...paths);
    const session = await openOn(nfs);
    assert.ok((await flushAll(session, paths)).every(({ state }) => state === 'succeeded'));
    nfs.newHandles();
    assert.ok((await flushAll(session, paths)).every(({ state }) => state === 'succeeded'));
    assert.equal(nfs.count('REMOUNT'), 1);
    await session.close();
  });

  it('fails a file whose root is stale again after mounting again', async () => {
    const nfs = tree('a');
    nfs.answer = ({ procedure }) => (procedure === 'LOOKUP' ? 70 : undefined);
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a');
    assert.equal(outcome.state, 'failed');
    assert.equal(outcome.lastError?.code, 'ESTALE');
    assert.equal(nfs.count('REMOUNT'), 2);
    await session.close();
  });

  it('fails a file whose replies cannot be read, which the client below has tried for', async () => {
    const nfs = tree('a');
    nfs.answer = ({ procedure }) =>
      procedure === 'COMMIT' ? new NfsError('PROTOCOL_ERROR', 'the reply has 3 bytes too many') : undefined;
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a');
    assert.equal(outcome.lastError?.code, 'PROTOCOL_ERROR');
    assert.match(outcome.lastError?.message ?? '', /3 bytes too many/);
    assert.equal(nfs.count('COMMIT'), 1);
    await session.close();
  });

  it('tries a few times when the server says that it failed to carry out a call', async () => {
    const nfs = tree('a');
    nfs.answer = ({ procedure }) =>
      procedure === 'COMMIT' ? new RpcRefused({ kind: 'system-err' }, COMMIT, '10.0.0.4:2049') : undefined;
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a');
    assert.equal(outcome.lastError?.code, 'PROTOCOL_ERROR');
    assert.equal(nfs.count('COMMIT'), 4);
    await session.close();
  });
});

describe('a target', () => {
  it('that refuses everything fails all files at once, with its words', async () => {
    for (const code of [
      'EXPORT_NOT_FOUND',
      'MOUNT_REFUSED',
      'AUTH_REFUSED',
      'PROGRAM_UNAVAILABLE',
    ] as const) {
      let mounts = 0;
      const nfs = tree();
      const session = await openOn(nfs, {
        mount: async () => {
          mounts++;
          throw new NfsError(code, 'what to do about it');
        },
      });
      const paths = Array.from({ length: 2000 }, (_, i) => `/f${i}`);
      const outcomes = await flushAll(session, paths);
      for (const outcome of outcomes) {
        assert.equal(outcome.state, 'failed');
        assert.equal(outcome.lastError?.code, code);
        assert.equal(outcome.lastError?.message, 'what to do about it');
      }
      assert.equal(mounts, 1);
      await session.close();
    }
  });

  it('that refuses the credential later on fails what is left', async () => {
    const nfs = tree(...Array.from({ length: 20 }, (_, i) => `f${i}`));
    nfs.answer = ({ procedure, path }) =>
      procedure === 'COMMIT' && path === 'f7' ? new NfsError('AUTH_REFUSED', 'AUTH_TOOWEAK') : undefined;
    const session = await openOn(nfs, { inFlight: 1 });
    const outcomes = await flushAll(
      session,
      Array.from({ length: 20 }, (_, i) => `/f${i}`),
    );
    assert.ok(outcomes.slice(0, 7).every(({ state }) => state === 'succeeded'));
    assert.ok(outcomes.slice(7).every(({ lastError }) => lastError?.code === 'AUTH_REFUSED'));
    await session.close();
  });

  it('that cannot be reached is waited for until the deadlines of the files', async () => {
    let mounts = 0;
    const session = await openOn(tree(), {
      mount: async () => {
        mounts++;
        throw new NfsError('UNREACHABLE', 'connect ECONNREFUSED 10.0.0.4:2049');
      },
    });
    const outcomes = await flushAll(session, ['/a', '/b'], { fileTimeoutMs: 300 });
    for (const outcome of outcomes) {
      assert.equal(outcome.state, 'expired');
      assert.equal(outcome.lastError?.code, 'DEADLINE');
      assert.equal(outcome.lastError?.phase, 'mount');
      assert.match(outcome.lastError?.message ?? '', /ECONNREFUSED 10\.0\.0\.4:2049/);
      assert.equal(outcome.firstError?.code, 'UNREACHABLE');
    }
    assert.ok(mounts > 2);
    await session.close();
  });

  it('that comes up late gets the files that waited', async () => {
    const nfs = tree('a', 'b');
    let mounts = 0;
    const session = await openOn(nfs, {
      mount: async () => {
        if (++mounts < 4) throw new NfsError('NOT_REGISTERED', 'not yet');
        return nfs;
      },
    });
    const outcomes = await flushAll(session, ['/a', '/b']);
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
    await session.close();
  });

  it('that cannot be reached gets its files handed back without an outcome', async () => {
    for (const mode of ['unreachable', 'silent'] as const) {
      const nfs = tree('a', 'b');
      if (mode === 'silent') nfs.answer = ({ path }) => (path === 'b' ? undefined : 'hang');
      const session = await openOn(nfs, {
        mount: async () => {
          if (mode === 'unreachable') throw new NfsError('UNREACHABLE', 'no route');
          return nfs;
        },
      });
      const seen: FileResult[] = [];
      await assert.rejects(
        async () => {
          const options = flushOptions({ whenDown: 'hand-back', holdAfterMs: 400 });
          for await (const outcome of flushFiles(session, filesOf(['/a', '/b']), options, never))
            seen.push(outcome);
        },
        (error) =>
          error instanceof TargetDownError && error.code === 'UNREACHABLE' && /no answer/.test(error.message),
      );
      assert.deepEqual(
        seen.map(({ path }) => path),
        mode === 'silent' ? ['/b'] : [],
      );
      assert.equal(session.wheel.waiting, 0);
      await session.close();
    }
  });

  it('that is silent about a long synchronous flush but answers otherwise is not down', async () => {
    const nfs = tree('a');
    let release = (): void => {};
    nfs.answer = ({ procedure }) =>
      procedure === 'COMMIT' ? new Promise((resolve) => (release = () => resolve(undefined))) : undefined;
    const session = await openOn(nfs);
    const flushing = flushOne(session, '/a', {
      dialect: 'hpc-cache',
      mode: 'sync',
      whenDown: 'hand-back',
      holdAfterMs: 1000,
    });
    await until('three polls', () => nfs.count('GETATTR') >= 3);
    release();
    assert.equal((await flushing).state, 'succeeded');
    await session.close();
  });

  it('that has no slots to give is not down', async () => {
    const nfs = tree('a');
    const session = await openOn(nfs, { inFlight: 0 });
    const flushing = flushOne(session, '/a', { whenDown: 'hand-back', holdAfterMs: 100 });
    await until('one to wait for a slot', () => session.counters().waiting === 1);
    await new Promise((resolve) => setTimeout(resolve, 700));
    session.inFlight = 1;
    assert.equal((await flushing).state, 'succeeded');
    await session.close();
  });
});

describe('a deadline', () => {
  it('ends a file that is still flushing, and tells so', async () => {
    const nfs = tree('a');
    nfs.answer = ({ procedure }) => (procedure === 'COMMIT' ? 10002 : undefined);
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a', { dialect: 'hpc-cache', fileTimeoutMs: 250 });
    assert.equal(outcome.state, 'expired');
    assert.match(outcome.lastError?.message ?? '', /not done within 250 ms: still flushing after \d+ polls/);
    assert.equal(outcome.lastError?.phase, 'poll');
    assert.equal(outcome.attempts, 1);
    assert.equal(outcome.size, 11);
    assert.equal(session.counters().outstanding, 0);
    await session.close();
  });

  it('ends files whose calls are never answered, and frees their slots', async () => {
    for (const procedure of ['LOOKUP', 'COMMIT'] as const) {
      const paths = Array.from({ length: 600 }, (_, i) => `/d/f${i}`);
      const nfs = tree(...paths);
      nfs.answer = (call) => (call.procedure === procedure ? 'hang' : undefined);
      const session = await openOn(nfs, { inFlight: 100 });
      const outcomes = await flushAll(session, paths, { fileTimeoutMs: 100 });
      for (const outcome of outcomes) {
        assert.equal(outcome.state, 'expired');
        assert.match(outcome.lastError?.message ?? '', /no answer from 10\.0\.0\.4/);
      }
      assert.equal(session.counters().outstanding, 0);
      assert.equal(session.wheel.waiting, 0);
      await session.close();
    }
  });

  it('does not run while a file waits for a slot', async () => {
    const paths = Array.from({ length: 8 }, (_, i) => `/f${i}`);
    const nfs = tree(...paths);
    nfs.answer = async ({ procedure }) => {
      if (procedure === 'COMMIT') await new Promise((resolve) => setTimeout(resolve, 300));
      return undefined;
    };
    const session = await openOn(nfs, { inFlight: 1 });
    const outcomes = await flushAll(session, paths, { fileTimeoutMs: 1500 });
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
    assert.ok(outcomes.every(({ durationMs }) => durationMs < 1500));
    assert.equal(nfs.count('COMMIT'), 8);
    await session.close();
  });

  it('of the job ends what is under way and all that is still to come, untried', async () => {
    const paths = Array.from({ length: 1000 }, (_, i) => `/f${i}`);
    const nfs = tree(...paths);
    nfs.answer = ({ procedure }) => (procedure === 'COMMIT' ? 'hang' : undefined);
    const session = await openOn(nfs, { inFlight: 10 });
    const outcomes = await flushAll(session, paths, { deadlineAt: Date.now() + 300 });
    assert.ok(
      outcomes.every(({ state, lastError }) => state === 'expired' && lastError?.code === 'DEADLINE'),
    );
    const untried = outcomes.filter(({ lastError }) =>
      /before this file was begun/.test(lastError?.message ?? ''),
    );
    assert.ok(untried.length > 800);
    assert.ok(nfs.count('LOOKUP') < 200);
    await session.close();
  });

  it('of the job that has passed already lets nothing be tried', async () => {
    const nfs = tree('a');
    const session = await openOn(nfs);
    const outcome = await flushOne(session, '/a', { deadlineAt: Date.now() - 1 });
    assert.deepEqual([outcome.state, outcome.lastError?.code], ['expired', 'DEADLINE']);
    assert.equal(nfs.calls.length, 0);
    await session.close();
  });
});

describe('a file that waited long for a slot', () => {
  it('is looked up again, for its path may name another file by then', async (t) => {
    const nfs = tree('d/a');
    const session = await openOn(nfs, { inFlight: 0 });
    const flushing = flushOne(session, '/d/a');
    await until('one to wait for a slot', () => session.counters().waiting === 1);
    nfs.remove('d/a').file('d/a');
    const realNow = Date.now;
    t.mock.method(Date, 'now', () => realNow() + 31_000);
    session.inFlight = 1;
    const outcome = await flushing;
    assert.deepEqual([outcome.state, outcome.firstError], ['succeeded', null]);
    assert.equal(nfs.count('LOOKUP', 'd/a'), 2);
    assert.equal(nfs.count('LOOKUP', 'd'), 2);
    await session.close();
  });
});

describe('an abort', () => {
  const paths = Array.from({ length: 500 }, (_, i) => `/f${i}`);

  it('cancels what is unfinished, every file once', async () => {
    const nfs = tree(...paths);
    nfs.answer = ({ procedure, path }) => (procedure === 'COMMIT' && path !== 'f0' ? 'hang' : undefined);
    const session = await openOn(nfs, { inFlight: 10 });
    const abort = new AbortController();
    void until('nine calls without an answer', () => nfs.hanging >= 9).then(() => abort.abort());
    const outcomes = await flushAll(session, paths, {}, abort.signal);
    assert.equal(outcomes[0]?.state, 'succeeded');
    assert.ok(outcomes.slice(1).every(({ state }) => state === 'canceled'));
    assert.ok(outcomes.slice(1).every(({ lastError }) => lastError?.code === 'CANCELED'));
    assert.match(outcomes[1]?.lastError?.message ?? '', /canceled: no answer from 10\.0\.0\.4 to COMMIT/);
    assert.match(outcomes[499]?.lastError?.message ?? '', /canceled before this file was begun/);
    await until('no call to be left', () => nfs.hanging === 0);
    assert.equal(session.counters().outstanding, 0);
    await session.close();
  });

  it('that came before the start cancels everything, without a call', async () => {
    const nfs = tree(...paths);
    const session = await openOn(nfs);
    const outcomes = await flushAll(session, paths, {}, AbortSignal.abort());
    assert.ok(outcomes.every(({ state }) => state === 'canceled'));
    assert.equal(nfs.calls.length, 0);
    await session.close();
  });

  it('by HandBack before it began leaves nothing that waits for the deadline of the job', async () => {
    const session = await openOn(tree('a'));
    const options = flushOptions({ deadlineAt: Date.now() + 20_000 });
    const signal = AbortSignal.abort(new HandBack());
    for await (const { path } of flushFiles(session, filesOf(['/a']), options, signal)) assert.fail(path);
    assert.equal(session.wheel.waiting, 0);
    await session.close();
  });

  it('by HandBack leaves unfinished files without an outcome', async () => {
    const nfs = tree(...paths);
    nfs.answer = ({ procedure, path }) => (procedure === 'COMMIT' && path !== 'f0' ? 'hang' : undefined);
    const session = await openOn(nfs, { inFlight: 10 });
    const abort = new AbortController();
    void until('nine calls without an answer', () => nfs.hanging >= 9).then(() =>
      abort.abort(new HandBack()),
    );
    const seen: string[] = [];
    for await (const { path } of flushFiles(session, filesOf(paths), flushOptions(), abort.signal))
      seen.push(path);
    assert.deepEqual(seen, ['/f0']);
    assert.equal(session.counters().outstanding, 0);
    assert.equal(session.wheel.waiting, 0);
    await session.close();
  });

  it('left early ends what has begun, and leaves the rest without an outcome', async () => {
    const nfs = tree(...paths);
    let held = 0;
    let release = (): void => {};
    const gate = new Promise<undefined>((resolve) => {
      release = () => resolve(undefined);
    });
    nfs.answer = ({ procedure }) => {
      if (procedure !== 'COMMIT') return undefined;
      held++;
      return gate;
    };
    const session = await openOn(nfs, { inFlight: 3 });
    const leave = new AbortController();
    void until('three have begun', () => held === 3 && session.admission.waiting > 0).then(() => {
      leave.abort();
      release();
    });
    const options = flushOptions({ leave: leave.signal });
    const ended: string[] = [];
    for await (const { path, state } of flushFiles(session, filesOf(paths), options, never))
      ended.push(`${path} ${state}`);
    assert.deepEqual(ended.sort(), ['/f0 succeeded', '/f1 succeeded', '/f2 succeeded']);
    assert.equal(session.counters().outstanding, 0);
    assert.equal(session.wheel.waiting, 0);
    await session.close();
  });

  it('does not end the lookups that other runs share', async () => {
    const nfs = tree('d/a', 'd/b');
    let release = (): void => {};
    let asked = 0;
    nfs.answer = ({ procedure, path }) =>
      procedure === 'LOOKUP' && path === 'd' && asked++ === 0
        ? new Promise((resolve) => (release = () => resolve(undefined)))
        : undefined;
    const session = await openOn(nfs);
    const abort = new AbortController();
    const first = flushAll(session, ['/d/a'], {}, abort.signal);
    await until('the input to be asked', () => asked === 1);
    const second = flushAll(session, ['/d/b']);
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort();
    release();
    assert.equal((await first)[0]?.state, 'canceled');
    assert.equal((await second)[0]?.state, 'succeeded');
    await session.close();
  });

  it('of the iteration itself gives up what is unfinished and closes the input', async () => {
    const nfs = tree(...paths);
    let closed = false;
    async function* input(): AsyncGenerator<FlushFile> {
      try {
        yield* filesOf(paths);
      } finally {
        closed = true;
      }
    }
    const session = await openOn(nfs, { inFlight: 4 });
    for await (const outcome of flushFiles(session, input(), flushOptions(), never)) {
      assert.equal(outcome.state, 'succeeded');
      break;
    }
    await until('the input to be closed', () => closed);
    assert.equal(session.counters().outstanding, 0);
    assert.equal(session.wheel.waiting, 0);
    await session.close();
  });

  it('of the session ends its runs', async () => {
    const nfs = tree(...paths);
    nfs.answer = ({ procedure }) => (procedure === 'COMMIT' ? 'hang' : undefined);
    const session = await openOn(nfs, { inFlight: 10 });
    const flushing = flushAll(session, paths);
    await until('ten calls without an answer', () => nfs.hanging === 10);
    await session.close();
    assert.ok((await flushing).every(({ state }) => state === 'canceled'));
    assert.equal(nfs.closed, true);
  });
});

describe('a run', () => {
  it('has as many flushes outstanding as it may, over all runs of the session, and uses more at once', async () => {
    const paths = Array.from({ length: 300 }, (_, i) => `/f${i}`);
    const nfs = tree(...paths);
    let outstanding = 0;
    let most = 0;
    nfs.answer = async ({ procedure }) => {
      if (procedure !== 'COMMIT') return undefined;
      outstanding++;
      most = Math.max(most, outstanding);
      await new Promise((resolve) => setTimeout(resolve, 5));
      outstanding--;
      return undefined;
    };
    const session = await openOn(nfs, { inFlight: 7 });
    await Promise.all([flushAll(session, paths), flushAll(session, paths)]);
    assert.equal(most, 7);
    assert.equal(session.counters().maxOutstanding, 7);
    session.inFlight = 0;
    let open = (): void => {};
    const gate = new Promise<undefined>((resolve) => {
      open = () => resolve(undefined);
    });
    outstanding = 0;
    nfs.answer = ({ procedure }) => {
      if (procedure !== 'COMMIT') return undefined;
      outstanding++;
      return gate;
    };
    const flushing = flushAll(session, paths);
    await until('some to wait for a slot', () => session.counters().waiting > 0);
    assert.equal(outstanding, 0);
    session.inFlight = 300;
    await until('300 flushes outstanding', () => outstanding === 300);
    open();
    await flushing;
    await session.close();
  });

  it('takes no more of its input than it works on, and nothing while outcomes are not taken', async () => {
    let taken = 0;
    function* endless(): Generator<FlushFile> {
      for (;;) yield { index: taken++, path: '/a' };
    }
    const session = await openOn(tree('a'), { inFlight: 16 });
    const run = flushFiles(session, endless(), flushOptions(), never);
    assert.equal(taken, 0);
    await run.next();
    await until('no flush outstanding', () => session.counters().outstanding === 0);
    assert.ok(taken <= 16 + 128 + 1, `${taken} were taken`);
    for (let i = 0; i < 1000; i++) await run.next();
    await until('no flush outstanding', () => session.counters().outstanding === 0);
    assert.ok(taken <= 1001 + 16 + 128, `${taken} were taken`);
    await run.return?.();
    assert.deepEqual(await run.next(), { done: true, value: undefined });
    await session.close();
  });

  it('ends what its input gave before the input failed, then throws that error', async () => {
    for (const asynchronous of [true, false]) {
      const failing = asynchronous
        ? (async function* () {
            yield* filesOf(['/a', '/b']);
            throw new Error('the list broke off');
          })()
        : (function* () {
            yield* filesOf(['/a', '/b']);
            throw new Error('the list broke off');
          })();
      const session = await openOn(tree('a', 'b'));
      const seen: string[] = [];
      await assert.rejects(async () => {
        for await (const { path } of flushFiles(session, failing, flushOptions(), never)) seen.push(path);
      }, /the list broke off/);
      assert.deepEqual(seen.sort(), ['/a', '/b']);
      await session.close();
    }
  });

  it('of no files ends without a call', async () => {
    const nfs = tree();
    const session = await openOn(nfs);
    assert.deepEqual(await flushAll(session, []), []);
    assert.equal(nfs.calls.length, 0);
    await session.close();
  });

  it('flushes a path that stands there twice twice', async () => {
    const nfs = tree('a');
    const session = await openOn(nfs);
    const outcomes = await flushAll(session, ['/a', '//a']);
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
    assert.equal(nfs.count('COMMIT', 'a'), 2);
    await session.close();
  });

  it('begins no more files per second than allowed', async () => {
    const paths = Array.from({ length: 40 }, (_, i) => `/f${i}`);
    const session = await openOn(tree(...paths), { filesPerSecond: 100 });
    const startedAt = performance.now();
    const outcomes = await flushAll(session, paths, { fileTimeoutMs: 200 });
    assert.ok(performance.now() - startedAt >= 380);
    assert.ok(outcomes.every(({ state }) => state === 'succeeded'));
    await session.close();
  });

  it('ends every file exactly once, whatever the answers and in whatever order they come', async () => {
    const answer = fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom<Answer>(undefined, 10002, 10002, 66) },
      { weight: 3, arbitrary: fc.constantFrom<Answer>(5, 70, 10008, 10001, 10006, 2, 13, 4711) },
      { weight: 1, arbitrary: fc.constantFrom<Answer>('hang', new NfsError('PROTOCOL_ERROR', 'garbage')) },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          answers: fc.array(fc.tuple(answer, fc.nat(6)), { maxLength: 80 }),
          files: fc.nat(40),
          directories: fc.integer({ min: 1, max: 4 }),
          inFlight: fc.integer({ min: 1, max: 12 }),
          dialect: fc.constantFrom('hpc-cache' as const, 'rfc1813' as const),
          mode: fc.constantFrom('async' as const, 'sync' as const),
          abortAfter: fc.option(fc.nat(60)),
          handBack: fc.boolean(),
          asynchronous: fc.boolean(),
        }),
        async (plan) => {
          const paths = Array.from({ length: plan.files }, (_, i) => `/d${i % plan.directories}/f${i}`);
          const nfs = tree(...paths);
          let calls = 0;
          const abort = new AbortController();
          nfs.answer = async (_call: MemoryCall) => {
            const [reply, turns] = plan.answers[calls++] ?? [undefined, 0];
            if (calls === plan.abortAfter) abort.abort(plan.handBack ? new HandBack() : undefined);
            for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
            return reply;
          };
          const session = await openOn(nfs, {
            inFlight: plan.inFlight,
            retry: { laterMinMs: 1, laterMaxMs: 1, fewMinMs: 1, restartMinMs: 1, pollMinMs: 1, pollMaxMs: 1 },
          });
          const files = filesOf(paths);
          const input = plan.asynchronous
            ? (async function* () {
                yield* files;
              })()
            : files;
          const options = flushOptions({ dialect: plan.dialect, mode: plan.mode, fileTimeoutMs: 120 });
          const ends = new Map<number, FileResult>();
          for await (const outcome of flushFiles(session, input, options, abort.signal)) {
            assert.ok(!ends.has(outcome.index), `${outcome.path} ended twice`);
            ends.set(outcome.index, outcome);
            const good = outcome.state === 'succeeded';
            assert.equal(outcome.outcome !== null, good);
            assert.equal(outcome.evidence !== null, good);
            assert.ok(good || outcome.lastError !== null);
            assert.equal(outcome.firstError === null, outcome.lastError === null);
          }
          const wasHandedBack = abort.signal.aborted && plan.handBack;
          if (!wasHandedBack) assert.equal(ends.size, plan.files);
          assert.equal(session.counters().outstanding, 0);
          assert.equal(session.counters().waiting, 0);
          assert.equal(session.wheel.waiting, 0);
          await session.close();
        },
      ),
      { numRuns: 60 },
    );
  });
});
