import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { pino } from 'pino';
import { JobFeed } from '../../src/api/job-feed.js';
import type { Job } from '../../src/model/job.js';
import { LOCAL_PRINCIPAL, type Principal } from '../../src/model/principal.js';
import type { JobStore } from '../../src/store/types.js';
import { finishAll } from '../store/fixture.js';
import { startApi } from '../support/api.js';
import { type EventStream, openEventStream } from '../support/event-stream.js';
import { CACHES, openRedisRig, type RedisRig } from './redis-rig.js';

/** Events of all jobs over HTTP and a real Redis; what a worker would do is done by hand. */

let rig: RedisRig;

before(async () => {
  rig = await openRedisRig({ waiters: 5 });
});

after(() => rig?.close());

function listen(query = '', lastEventId?: string): Promise<EventStream<Job>> {
  return openEventStream<Job>(`${rig.base}/v1/events${query}`, lastEventId);
}

/** The next events until one of `event` for this job. */
async function untilTold(stream: EventStream<Job>, id: string, event: string) {
  const told = [];
  for (;;) {
    const next = await stream.next();
    told.push(next);
    if (next.data.id === id && next.event === event) return told;
  }
}

test('a listener hears of every new job, of its changes and of its end', async () => {
  const stream = await listen();
  assert.equal(stream.response.headers.get('content-type'), 'text/event-stream');
  const id = await rig.submit('/a\n/b\n');
  const made = (await untilTold(stream, id, 'job')).at(-1);
  assert.equal(made?.data.state, 'queued');
  await finishAll(rig.work, id, 1);
  const told = await untilTold(stream, id, 'end');
  assert.deepEqual([told.at(-1)?.data.state, told.at(-1)?.data.progress.filesSucceeded], ['succeeded', 2]);
  assert.equal('revision' in (told.at(-1)?.data ?? {}), false);
  stream.leave();
});

test('a listener that comes back hears once of each job that has changed meanwhile, as it is now', async () => {
  const before = await listen();
  const { value: first } = await before.blocks.next();
  assert.deepEqual([first?.event, /^\d+$/.test(first?.id ?? '')], ['', true], 'an id comes before any event');
  before.leave();
  const one = await rig.submit('/a\n');
  const two = await rig.submit('/b\n');
  await finishAll(rig.work, one, 1);
  const again = await listen('', first?.id);
  const told = [await again.next(), await again.next()];
  assert.deepEqual(
    told.map(({ event, data }) => [event, data.id]),
    [
      ['job', two],
      ['end', one],
    ],
  );
  again.leave();
  // Also from in between.
  const late = await listen('', told[0]?.id);
  assert.equal((await late.next()).data.id, one);
  late.leave();
});

test('an id that no event had is taken as none, or as that of the newest event', async () => {
  for (const known of ['nonsense', '-1', '99999999999999999999', '8999999999999999']) {
    const stream = await listen('', known);
    const id = await rig.submit('/a\n');
    assert.equal((await stream.next()).data.id, id, known);
    stream.leave();
  }
});

test('filters choose the jobs that are told of', async () => {
  const scratch = await listen('?cache=scratch&label=run=7&kind=flush');
  const other = await rig.submit('/a\n', 'cache=projects&export=/exp1&label=run=7');
  const wanted = await rig.submit('/a\n', 'cache=scratch&export=/x&label=run=7&label=user=x');
  assert.equal((await scratch.next()).data.id, wanted);
  scratch.leave();
  const projects = await listen('?cache=projects', '1');
  assert.equal((await projects.next()).data.id, other);
  projects.leave();
  await rig.api.refused('VALIDATION', { url: '/v1/events?state=queued' });
});

test('a listener that reads slowly keeps nobody waiting and costs nothing but its own reading', async () => {
  const feed = new JobFeed(rig.store, pino({ level: 'silent' }));
  const controller = new AbortController();
  const wish = { key: '', wants: () => true };
  const slow = await feed.listen(undefined, wish, controller.signal);
  const quick = await feed.listen(undefined, wish, controller.signal);
  const read = async (stream: typeof slow) => String((await stream.next()).value);
  await read(slow);
  await read(quick);
  const ids: string[] = [];
  for (let i = 0; i < 70; i++) {
    const id = await rig.submit(`/${i}\n`);
    ids.push(id);
    await rig.store.cancel(id);
  }
  for (let text = ''; !text.includes(`${ids.at(-1)}`); text = await read(quick));
  let missed = '';
  while (!missed.includes(`${ids.at(-1)}`)) missed += await read(slow);
  const told = [...missed.matchAll(/^event: (\w+)\ndata: {"id":"(\w+)"/gm)].map(([, event, id]) => [
    event,
    id,
  ]);
  assert.deepEqual(
    told,
    ids.map((id) => ['end', id]),
  );
  controller.abort();
  assert.deepEqual([(await slow.next()).done, (await quick.next()).done], [true, true]);
});

test('listeners that came at different times share what is read, however much changes meanwhile', async () => {
  let last = 0;
  let pages = 0;
  const job = await rig.store.getJob(await rig.submit('/a\n'));
  // With every look something has changed.
  const restless: Pick<JobStore, 'lastPlace' | 'changedSince' | 'watchChanges'> = {
    lastPlace: async () => ++last,
    changedSince: async (_place, limit) => {
      if (limit < 100) pages += 1;
      last += 1;
      return { jobs: [{ job, place: last }], place: last };
    },
    watchChanges: () => () => {},
  };
  const feed = new JobFeed(restless as JobStore, pino({ level: 'silent' }));
  const controller = new AbortController();
  const wish = { key: '', wants: () => true };
  const streams = [];
  for (let i = 0; i < 5; i++) {
    const stream = await feed.listen(undefined, wish, controller.signal);
    streams.push(stream);
    await stream.next();
  }
  for (let round = 0; round < 4; round++) await Promise.all(streams.map((stream) => stream.next()));
  assert.ok(pages <= streams.length, `${pages} reads for one listener alone`);
  controller.abort();
});

test('listeners hear of what happens after Redis was away', async () => {
  const stream = await listen();
  rig.redis.freeze();
  await rig.api.refused('STORE_UNAVAILABLE', { url: '/v1/events' });
  rig.redis.thaw();
  for (;;) {
    const { status } = await rig.api.json({ url: '/v1/jobs' });
    if (status === 200) break;
  }
  const id = await rig.submit('/a\n');
  await untilTold(stream, id, 'job');
  stream.leave();
});

test('listeners of all jobs are bounded together with those that wait, and a service that ends lets them go', async () => {
  const other = startApi({ store: rig.store, caches: CACHES, limits: { waiters: 2 } });
  const url = `${await other.listen()}/v1/events`;
  const streams = [await openEventStream(url), await openEventStream(url)];
  await other.refused('TOO_MANY_WAITERS', { url: '/v1/events' });
  await other.close();
  for (const { blocks } of streams) for await (const { data } of blocks) assert.equal(data, null);
});

test("without the role operate one hears of one's own jobs only", async () => {
  const named = (name: string, role: 'submit' | 'operate'): Principal => ({ ...LOCAL_PRINCIPAL, name, role });
  const principals = {
    alice: named('alice', 'submit'),
    bob: named('bob', 'submit'),
    ops: named('ops', 'operate'),
  };
  const other = startApi({ store: rig.store, caches: CACHES, principals });
  const url = `${await other.listen()}/v1/events`;
  const open = (token: string): Promise<EventStream<Job>> =>
    openEventStream<Job>(url, undefined, { authorization: `Bearer ${token}` });
  const [alice, ops] = [await open('alice'), await open('ops')];
  const submitAs = async (token: string): Promise<string> => {
    const { body } = await other.json({
      method: 'POST',
      url: '/v1/flushes?cache=scratch&export=/x',
      headers: { 'content-type': 'text/plain', authorization: `Bearer ${token}` },
      payload: '/a\n',
    });
    return (body as Job).id;
  };
  const ids = [await submitAs('bob'), await submitAs('alice')];
  assert.equal((await alice.next()).data.id, ids[1]);
  assert.deepEqual([(await ops.next()).data.id, (await ops.next()).data.id], ids);
  await other.refused('ROLE_TOO_LOW', {
    url: '/v1/events?principal=bob',
    headers: { authorization: 'Bearer alice' },
  });
  await other.close();
});
