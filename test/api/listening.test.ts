import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import type { Job, JobFile } from '../../src/model/job.js';
import { finishAll, result } from '../store/fixture.js';
import { startApi } from '../support/api.js';
import { type EventStream, openEventStream, type StreamEvent } from '../support/event-stream.js';
import { until } from '../support/until.js';
import { CACHES, openRedisRig, type RedisRig } from './redis-rig.js';

/** Events and reports over HTTP and a real Redis; what a worker would do is done by hand. */

let rig: RedisRig;

before(async () => {
  rig = await openRedisRig({ waiters: 3 });
});

after(() => rig?.close());

/** A list whose paths end with NUL. */
function submit(list: string | Buffer): Promise<string> {
  return rig.submit(list, 'cache=scratch&export=/x&delimiter=nul');
}

function listen(id: string, lastEventId?: string): Promise<EventStream<Job>> {
  return openEventStream<Job>(`${rig.base}/v1/jobs/${id}/events`, lastEventId);
}

test('events tell the state, each change and the end, and then the connection ends', async () => {
  const id = await submit('/a\0/b\0');
  const stream = await listen(id);
  assert.equal(stream.response.headers.get('content-type'), 'text/event-stream');
  const first = await stream.next();
  assert.deepEqual([first.event, first.data.id, first.data.state], ['job', id, 'queued']);
  const run = await rig.work.chunks.begin(id, 0);
  assert.ok(run);
  const second = await stream.next();
  assert.deepEqual([second.event, second.data.state], ['job', 'running']);
  assert.notEqual(second.id, first.id);
  await rig.work.chunks.record(
    run,
    run.files.map((file) => result(file)),
  );
  const rest: StreamEvent<Job>[] = [];
  for await (const event of stream.blocks) rest.push(event);
  const last = rest.at(-1);
  assert.deepEqual(
    [last?.event, last?.data?.state, last?.data?.progress.filesSucceeded],
    ['end', 'succeeded', 2],
  );
  // EventSource comes back by itself; 204 tells it to stop.
  const again = await listen(id, last?.id);
  assert.equal(again.response.status, 204);
  // Whoever knows an earlier state, or none, hears of the end.
  for (const known of [first.id, undefined]) {
    const late = await listen(id, known);
    assert.equal((await late.next()).event, 'end');
    assert.equal((await late.blocks.next()).done, true);
  }
});

test('what the last event id names is not told again', async () => {
  const id = await submit('/a\0');
  const before = await listen(id);
  const first = await before.next();
  before.leave();
  const after = await listen(id, first.id);
  await rig.store.cancel(id);
  const next = await after.next();
  assert.deepEqual([next.event, next.data.state], ['end', 'canceled']);
});

test('listeners are bounded together with those that wait, and leave their place when they go', async () => {
  const id = await submit('/a\0');
  const listeners = await Promise.all([listen(id), listen(id), listen(id)]);
  await rig.api.refused('TOO_MANY_WAITERS', { url: `/v1/jobs/${id}/events` });
  const etag = (await rig.api.json({ url: `/v1/jobs/${id}` })).headers.etag as string;
  const waiting = { url: `/v1/jobs/${id}`, headers: { prefer: 'wait=5', 'if-none-match': etag } };
  await rig.api.refused('TOO_MANY_WAITERS', waiting);
  listeners[0]?.leave();
  for (;;) {
    const another = await listen(id);
    another.leave();
    if (another.response.status === 200) break;
  }
  for (const { leave } of listeners) leave();
});

test('who listened or waited and left is in the log, with as much of an answer as there was', async () => {
  const id = await submit('/left\0');
  const broken = () =>
    rig.api.log.filter(({ msg, url }) => msg === 'answer broken off' && String(url).includes(id));
  const stream = await listen(id);
  await stream.next();
  stream.leave();
  await until('the listener is in the log', () => broken().length === 1);
  await until('a long-poll is in the log', async () => {
    // It may be given up before it has arrived: then another one.
    const signal = AbortSignal.timeout(300);
    await fetch(`${rig.base}/v1/jobs/${id}?until=terminal`, { headers: { prefer: 'wait=60' }, signal }).catch(
      () => {},
    );
    return broken().length > 1;
  });
  const [left, gone] = broken();
  assert.deepEqual([left?.url, left?.status, left?.principal], [`/v1/jobs/${id}/events`, 200, 'local']);
  assert.deepEqual([gone?.url, gone?.status], [`/v1/jobs/${id}?until=terminal`, 499]);
});

test('events of a job that is not there are refused, and HEAD makes nobody wait', async () => {
  await rig.api.refused('JOB_NOT_FOUND', { url: '/v1/jobs/nope/events' });
  await rig.api.refused('JOB_NOT_FOUND', { url: '/v1/jobs/nope/report' });
  const id = await submit('/a\0');
  const head = await rig.api.app.inject({ method: 'HEAD', url: `/v1/jobs/${id}/events` });
  assert.equal(head.statusCode, 405);
});

test('a service that ends lets its listeners go', async () => {
  const other = startApi({ store: rig.store, caches: CACHES });
  const address = await other.listen();
  const id = await submit('/a\0');
  const response = await fetch(`${address}/v1/jobs/${id}/events`);
  const text = response.text();
  // As browsers do: a connection without a request.
  const early = connect(Number(new URL(address).port), '127.0.0.1');
  await once(early, 'connect');
  const ended = once(early, 'close');
  await other.close();
  await ended;
  assert.match(await text, /event: job/);
});

test('reports tell of every file, or of those that are not done, and can be read as what they are', async () => {
  const paths = Array.from({ length: 2500 }, (_, i) => `/run/${i}`);
  paths.push('=cmd|x', "'quoted", '-a,b "c"', 'two\nlines');
  const id = await submit(
    Buffer.concat([Buffer.from(`${paths.join('\0')}\0`), Buffer.from('caf\xe9\0', 'latin1')]),
  );
  await finishAll(rig.work, id, 5, (file) => result(file, file.index % 100 === 0 ? { state: 'failed' } : {}));
  const get = (query: string) => rig.api.app.inject({ url: `/v1/jobs/${id}/report${query}` });

  const all = await get('?format=ndjson&scope=all');
  assert.equal(all.headers['content-type'], 'application/x-ndjson');
  assert.equal(all.headers['content-disposition'], `attachment; filename="${id}-all.ndjson"`);
  const files = all.body
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as JobFile);
  assert.deepEqual(
    files.map(({ path }) => path),
    [...paths, 'caf\udce9'],
  );

  const failed = await get('');
  assert.equal(failed.headers['content-type'], 'text/csv; charset=utf-8; header=present');
  assert.equal(failed.headers['content-disposition'], `attachment; filename="${id}-failed.csv"`);
  const rows = parseCsv(failed.body);
  assert.deepEqual(
    rows.slice(1).map(([index, path, state]) => [index, path, state]),
    Array.from({ length: 26 }, (_, i) => [String(i * 100), i < 25 ? paths[i * 100] : "'=cmd|x", 'failed']),
  );
  assert.equal(rows[1]?.[11], 'ENOENT');

  const csv = parseCsv((await get('?format=csv&scope=all')).body);
  assert.equal(csv.length, 2506);
  assert.ok(csv.every((row) => row.length === csv[0]?.length));
  assert.deepEqual(
    csv.slice(-5).map(([, path]) => path),
    ["'=cmd|x", "''quoted", `'-a,b "c"`, 'two\nlines', 'caf\\udce9'],
  );
  await rig.api.refused('VALIDATION', { url: `/v1/jobs/${id}/report?format=xlsx` });
});

/** A second, plain reader of RFC 4180. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  for (const [, quoted, bare, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    row.push(quoted === undefined ? (bare ?? '') : quoted.replaceAll('""', '"'));
    if (end === ',') continue;
    rows.push(row);
    row = [];
  }
  return rows;
}
