import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { get, type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Authenticator } from '../../src/access/authenticator.js';
import { newToken } from '../../src/access/token.js';
import { changeTokens } from '../../src/access/tokens-file.js';
import type { Problem } from '../../src/api/problem.js';
import { type AccessConfig, accessConfigSchema } from '../../src/model/access.js';
import { openJobStore } from '../../src/store/store.js';
import type { JobStore } from '../../src/store/types.js';
import { type ApiTest, SCRATCH, startApi } from '../support/api.js';
import { startRedis, type TestRedis } from '../support/redis.js';

/** Answers that are under way when their credential ends: real tokens, HTTP and Redis. */

/** More than the buffers of a connection take, so that its report is still under way. */
const FILES = 200_000;

const warnings: Error[] = [];
const onWarning = (warning: Error): void => {
  warnings.push(warning);
};

let folder: string;
let redis: TestRedis;
let store: JobStore;
let authenticator: Authenticator;
let api: ApiTest;
let base: string;

before(async () => {
  process.on('warning', onWarning);
  folder = await mkdtemp(join(tmpdir(), 'writeback-admissions-'));
  redis = await startRedis();
  store = await openJobStore({
    redis: { url: redis.url, cluster: false },
    keyPrefix: 'api',
    caches: [SCRATCH],
  });
  const opened = await Authenticator.open({
    access: access('submit'),
    onError: (error) => assert.fail(error),
  });
  assert.ok(opened);
  authenticator = opened;
  api = startApi({
    store,
    caches: [SCRATCH],
    authenticate: (field) => authenticator.authenticate(field),
  });
  base = await api.listen();
});

after(async () => {
  await api?.close();
  authenticator?.close();
  await store?.close();
  await redis?.stop();
  await rm(folder, { recursive: true, force: true });
  process.off('warning', onWarning);
  // Whoever wants to hear of the end of an answer adds a listener: of more than ten Node warns.
  assert.deepEqual(warnings.map(String), []);
});

/** Alice as a submitter and Olga with this role; null: she is not known. */
function access(olga: 'submit' | 'operate' | null): AccessConfig {
  const caches = [{ name: '*' }];
  return accessConfigSchema.parse({
    tokensFile: join(folder, 'tokens.json'),
    principals: [{ name: 'alice', caches }, ...(olga === null ? [] : [{ name: 'olga', role: olga, caches }])],
  });
}

async function tokenFor(
  principal: string,
  expiresAt: string | null = null,
): Promise<{ id: string; headers: { authorization: string } }> {
  const { token, id, digest } = newToken();
  const createdAt = new Date().toISOString();
  const path = join(folder, 'tokens.json');
  await changeTokens(path, (known) => [
    ...known,
    { id, digest, principal, description: '', createdAt, expiresAt },
  ]);
  const headers = { authorization: `Bearer ${token}` };
  const until = Date.now() + 60_000;
  while ((await fetch(`${base}/v1/me`, { headers })).status === 401 && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { id, headers };
}

async function submit(headers: { authorization: string }, files: number): Promise<string> {
  const { status, body } = await api.json({
    method: 'POST',
    url: '/v1/flushes?cache=scratch&export=/x',
    headers: { ...headers, 'content-type': 'text/plain' },
    payload: Array.from({ length: files }, (_, i) => `/a-directory/of-some-length/f${i}\n`).join(''),
  });
  assert.equal(status, 202, JSON.stringify(body));
  return (body as { id: string }).id;
}

async function stream(path: string, headers: { authorization: string }): Promise<IncomingMessage> {
  const [answer] = (await once(get(`${base}${path}`, { headers }), 'response')) as [IncomingMessage];
  assert.equal(answer.statusCode, 200);
  // One that is cut.
  answer.on('error', () => {});
  return answer;
}

/** All that comes until the end. `whole`: the end was one of HTTP. */
async function rest(answer: IncomingMessage): Promise<{ text: string; whole: boolean }> {
  let text = '';
  answer.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  answer.resume();
  if (!answer.closed) await new Promise((resolve) => answer.once('close', resolve));
  return { text, whole: answer.complete };
}

test('a token that is revoked ends what it has open, and leaves alone what another one of the same principal has', {
  timeout: 120_000,
}, async () => {
  const [lost, kept] = [await tokenFor('alice'), await tokenFor('alice')];
  const id = await submit(lost.headers, FILES);
  const wait = { ...lost.headers, prefer: 'wait=60' };
  const poll = fetch(`${base}/v1/jobs/${id}?until=terminal`, { headers: wait });
  const [ofJob, ofAll, others, report] = await Promise.all([
    stream(`/v1/jobs/${id}/events`, lost.headers),
    stream('/v1/events', lost.headers),
    stream('/v1/events', kept.headers),
    stream(`/v1/jobs/${id}/report?format=ndjson&scope=all`, lost.headers),
  ]);
  // Nobody reads the report: it is under way for as long as that.
  report.pause();
  const ends = Promise.all([rest(ofJob), rest(ofAll)]);
  await changeTokens(join(folder, 'tokens.json'), (known) => known.filter((token) => token.id !== lost.id));

  for (const { text, whole } of await ends) {
    assert.match(text, /\n: The token is not known here: .*it was revoked\.\n\n$/);
    assert.equal(whole, true, 'an end of its own');
  }
  const answer = await poll;
  assert.equal(answer.status, 401);
  assert.match(answer.headers.get('www-authenticate') ?? '', /invalid_token/);
  assert.equal(((await answer.json()) as Problem).code, 'UNAUTHENTICATED');
  const { text, whole } = await rest(report);
  assert.equal(whole, false, 'a report that was cut does not pass for a whole one');
  assert.ok(text.split('\n').length < FILES);
  assert.equal(others.closed, false);
  others.destroy();
});

test('a token that expires, a role that is taken away, and a principal that is not known any more do so too', {
  timeout: 120_000,
}, async () => {
  authenticator.reconfigure(access('operate'));
  const short = await tokenFor('alice', new Date(Date.now() + 6000).toISOString());
  const olga = await tokenFor('olga');
  const [expiring, reduced] = await Promise.all([
    stream('/v1/events', short.headers),
    stream('/v1/events', olga.headers),
  ]);
  authenticator.reconfigure(access('submit'));
  assert.match((await rest(reduced)).text, /\n: The principal "olga" has the role submit now.*\n\n$/);
  assert.match((await rest(expiring)).text, /\n: The token \w+ has expired at .*\n\n$/);
  const again = await stream('/v1/events', olga.headers);
  authenticator.reconfigure(access(null));
  assert.match(
    (await rest(again)).text,
    /\n: The credential is valid, but its principal "olga" stands nowhere/,
  );
});

test('a list whose credential is revoked while it arrives becomes no job', { timeout: 120_000 }, async () => {
  authenticator.reconfigure(access('submit'));
  const { id, headers } = await tokenFor('olga');
  const sent = request(`${base}/v1/flushes?cache=scratch&export=/x`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'text/plain' },
  });
  sent.write('/first\n');
  const witness = await stream('/v1/events', headers);
  await changeTokens(join(folder, 'tokens.json'), (known) => known.filter((token) => token.id !== id));
  // Both were looked at together.
  await rest(witness);
  sent.end('/last\n');
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  assert.equal(answer.statusCode, 401);
  assert.match((await rest(answer)).text, /UNAUTHENTICATED/);
  assert.equal((await store.listJobs({ principal: 'olga' }, null, 1)).items.length, 0);
});

test('more rights end nothing', { timeout: 120_000 }, async () => {
  authenticator.reconfigure(access('submit'));
  const olga = await tokenFor('olga');
  const open = await stream('/v1/events', olga.headers);
  let text = '';
  open.on('data', (part: Buffer) => {
    text += part.toString();
  });
  authenticator.reconfigure(access('operate'));
  const { headers } = await tokenFor('alice');
  const ended = await stream('/v1/events', headers);
  authenticator.reconfigure({ ...access('operate'), principals: access('operate').principals.slice(1) });
  // By then the others were looked at again as well.
  await rest(ended);
  assert.equal(open.closed, false);
  assert.doesNotMatch(text, /^: /m);
  open.destroy();
});
