import assert from 'node:assert/strict';
import { it } from 'node:test';
import { flushFiles } from '../../src/flush/engine.js';
import { startFaultServer } from '../support/fault-server.js';
import { filesOf, flushOptions, openSession, targetAt } from '../support/flushing.js';
import { until } from '../support/until.js';

it('a restart of 60 seconds costs no file, and none fails before its deadline', async (t) => {
  const server = await startFaultServer();
  const events: string[] = [];
  const session = await openSession(targetAt([server.host], server.ports), '/export', {
    inFlight: 64,
    onEvent: ({ type }) => events.push(type),
  });
  t.after(async () => {
    await session.close();
    await server.close();
  });
  const polls = new Map<string, number>();
  let down = false;
  server.script = (call) => {
    if (call.name !== 'NFS3 COMMIT') return false;
    const key = call.args.subarray(0, -12).toString('hex');
    const polled = (polls.get(key) ?? 0) + 1;
    polls.set(key, polled);
    if (polled > 3) return false;
    call.replyStatus(10002);
    return true;
  };
  const paths = Array.from({ length: 1000 }, (_, i) => `/f${i}`);
  const options = flushOptions({ dialect: 'hpc-cache', fileTimeoutMs: 120_000 });
  const ended = new Set<string>();
  let endedWhileDown = 0;
  const run = (async () => {
    for await (const outcome of flushFiles(session, filesOf(paths), options, new AbortController().signal)) {
      assert.equal(outcome.state, 'succeeded', outcome.lastError?.message);
      assert.equal(outcome.evidence, 'written-back');
      ended.add(outcome.path);
      if (down) endedWhileDown++;
    }
  })();
  await until('a hundred files to end', () => ended.size > 100);
  await server.close();
  await until('the outage to be noticed', () => session.counters().down !== null);
  down = true;
  await new Promise((resolve) => setTimeout(resolve, 60_000));
  assert.ok(endedWhileDown <= 64, `${endedWhileDown} ended while the server was away`);
  down = false;
  await server.listen();
  await run;
  assert.equal(ended.size, 1000);
  assert.ok(events.includes('down') && events.includes('up'));
});
