import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { createGzip, gzipSync } from 'node:zlib';
import { discard } from '../../src/api/body.js';
import type { Problem } from '../../src/api/problem.js';
import { type ApiTest, type ApiTestOptions, startApi } from '../support/api.js';
import { until } from '../support/until.js';

/** Uploads over a real connection: what no injected request can show. */

const LIST = '/v1/flushes?cache=projects&export=/exp1';

async function listening(t: TestContext, options: ApiTestOptions = {}) {
  const api = startApi(options);
  const url = await api.listen();
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(async () => {
    agent.destroy();
    await api.close();
  });
  const open = (headers: Record<string, string> = {}, path = LIST) =>
    httpRequest(url + path, { method: 'POST', agent, headers: { 'content-type': 'text/plain', ...headers } });
  return { api, url, agent, open };
}

async function answer(request: ClientRequest) {
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return {
    status: response.statusCode,
    headers: response.headers,
    body: JSON.parse(Buffer.concat(chunks).toString()),
  };
}

function stored(api: ApiTest, id: string): string[] {
  return api.memory.find(id).paths.map(String);
}

test('a list that arrives in pieces of any size is taken whole', async (t) => {
  const { api, open } = await listening(t);
  const paths = Array.from({ length: 5000 }, (_, i) => `/dir ${i % 7}/été ${i}`);
  const body = Buffer.from(paths.join('\n'));
  const request = open();
  for (let at = 0, size = 1; at < body.length; at += size, size = (size * 7) % 20011) {
    if (!request.write(body.subarray(at, at + size))) await once(request, 'drain');
  }
  request.end();
  const { status, body: job } = await answer(request);
  assert.equal(status, 202);
  assert.deepEqual(stored(api, job.id), paths);
});

test('a compressed list is taken as it arrives, and several gzip members are one list', async (t) => {
  const { api, open } = await listening(t);
  const request = open({ 'content-encoding': 'gzip' });
  const gzip = createGzip();
  gzip.pipe(request);
  for (let i = 0; i < 20_000; i++) if (!gzip.write(`/file${i}\n`)) await once(gzip, 'drain');
  gzip.end();
  const { body: job } = await answer(request);
  assert.equal(stored(api, job.id).length, 20_000);
  const two = open({ 'content-encoding': 'gzip' });
  two.end(Buffer.concat([gzipSync('/a\n/b'), gzipSync('c\n')]));
  assert.deepEqual(stored(api, (await answer(two)).body.id), ['/a', '/bc']);
});

test('a list is read no faster than the store takes it', async (t) => {
  const { api, open } = await listening(t);
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  let added = 0;
  api.memory.addDelay = () => {
    added++;
    return gate;
  };
  const request = open();
  const body = Buffer.from('/some/long/path/of/a/file\n'.repeat(400_000));
  let flushed = false;
  request.end(body, () => {
    flushed = true;
  });
  await until('a first path to be added', () => added === 1);
  // The kernel and the sockets hold a few megabytes; the rest must still be with the sender.
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(added, 1);
  assert.equal(flushed, false);
  api.memory.addDelay = null;
  release();
  const { body: job } = await answer(request);
  assert.equal(job.progress.filesTotal, 400_000);
});

test('waiting for the store is not taken for a slow sender', async (t) => {
  const { api, open } = await listening(t, { limits: { uploadIdleSeconds: 1 } });
  const clock = { waited: false };
  api.memory.addDelay = async () => {
    if (clock.waited) return;
    clock.waited = true;
    await new Promise((resolve) => setTimeout(resolve, 2500));
  };
  const request = open();
  request.end('/some/long/path/of/a/file\n'.repeat(40_000));
  assert.equal((await answer(request)).status, 202);
});

test('an upload that breaks off leaves nothing', async (t) => {
  const { api, open } = await listening(t);
  for (const headers of [{}, { 'content-encoding': 'gzip' }]) {
    const before = api.memory.aborted;
    const request = open(headers as Record<string, string>);
    request.on('error', () => {});
    request.write(gzipSync('/a\n/b\n'.repeat(1000)));
    await until('something to be sent', () => request.socket !== null && request.socket.bytesWritten > 0);
    await new Promise((resolve) => setTimeout(resolve, 50));
    request.destroy();
    await until('the intake to be aborted', () => api.memory.aborted === before + 1);
  }
  assert.equal(api.memory.jobs.length, 0);
});

test('a sender that stops gets 408, and one that is too slow in all as well', async (t) => {
  for (const limits of [{ uploadIdleSeconds: 0.2 }, { uploadSeconds: 0.5 }]) {
    const { api, open } = await listening(t, { limits });
    for (const type of ['text/plain', 'application/json']) {
      const path = type === 'text/plain' ? LIST : '/v1/flushes';
      const request = open({ 'content-type': type }, path);
      request.write(type === 'text/plain' ? '/a\n' : '{');
      const trickle = limits.uploadSeconds ? setInterval(() => request.write(' '), 20) : undefined;
      const { status, body } = await answer(request);
      clearInterval(trickle);
      assert.equal(status, 408);
      assert.equal((body as Problem).code, 'REQUEST_TIMEOUT');
      request.destroy();
    }
    assert.equal(api.memory.jobs.length, 0);
    assert.equal(api.memory.aborted, 2);
  }
});

test('a refusal in the middle of an upload reaches the sender, and the connection serves the next request', async (t) => {
  const { api, open, agent } = await listening(t, { limits: { filesPerJob: 10 } });
  const sockets = new Set<unknown>();
  for (let i = 0; i < 3; i++) {
    const request = open();
    request.once('socket', (socket) => sockets.add(socket));
    request.end('/a/path/that/is/one/too/many\n'.repeat(200_000));
    const { status, body } = await answer(request);
    assert.equal(status, 413);
    assert.equal((body as Problem).code, 'TOO_MANY_FILES');
  }
  await until('the connection to be free', () => Object.keys(agent.freeSockets).length === 1);
  assert.equal(sockets.size, 1);
  assert.equal(api.memory.aborted, 3);
});

test('a refused sender that never ends is cut off', async (t) => {
  const { url } = await listening(t, { limits: { filesPerJob: 1 } });
  // By hand: the client of Node stops sending when it has its answer.
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  const closed = new Promise((resolve) => socket.once('close', resolve));
  let text = '';
  socket.on('data', (data) => {
    text += data;
  });
  socket.write(
    `POST ${LIST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n`,
  );
  const paths = '/x\n'.repeat(300_000);
  const chunk = Buffer.from(`${paths.length.toString(16)}\r\n${paths}\r\n`);
  while (!socket.destroyed) {
    if (socket.write(chunk)) continue;
    await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed]);
  }
  assert.match(text, /^HTTP\/1\.1 413 /);
});

test('a refused sender that neither goes on nor ends is cut off', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const body = new PassThrough();
  discard(body as unknown as IncomingMessage);
  body.write('/x\n');
  t.mock.timers.tick(29_000);
  assert.equal(body.destroyed, false);
  t.mock.timers.tick(1000);
  assert.equal(body.destroyed, true);
});

test('compressed nothing without end is refused', async (t) => {
  const { open } = await listening(t, { limits: { streamedBodyBytes: 100_000 } });
  const nothing = Buffer.concat(Array.from({ length: 10_000 }, () => gzipSync('')));
  const request = open({ 'content-encoding': 'gzip' });
  request.end(nothing);
  const { status, body } = await answer(request);
  assert.equal(status, 413);
  assert.equal((body as Problem).code, 'BODY_TOO_LARGE');
});

test('bytes behind the end of a gzip body do not spoil the next request of the connection', async (t) => {
  const { api, url } = await listening(t);
  const body = Buffer.concat([gzipSync('/a\n'), Buffer.alloc(100_000)]);
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  t.after(() => socket.destroy());
  const head = `POST ${LIST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: ${body.length}\r\n\r\n`;
  const next = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
  socket.write(Buffer.concat([Buffer.from(head), body, Buffer.from(next)]));
  let text = '';
  for await (const chunk of socket) text += chunk;
  assert.match(text, /^HTTP\/1\.1 202 /);
  assert.match(text, /HTTP\/1\.1 200 OK/);
  assert.equal(api.memory.jobs.length, 1);
});

test('what is no HTTP is refused as a problem', async (t) => {
  const { url } = await listening(t);
  const send = async (bytes: string): Promise<string> => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    t.after(() => socket.destroy());
    socket.write(bytes);
    let text = '';
    for await (const chunk of socket) text += chunk;
    return text;
  };
  const nonsense = await send('HELO mail\r\n\r\n');
  assert.match(nonsense, /^HTTP\/1\.1 400 Bad Request\r\nContent-Type: application\/problem\+json\r\n/);
  assert.equal(JSON.parse(nonsense.split('\r\n\r\n')[1] as string).code, 'MALFORMED');
  const long = await send(`GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`);
  assert.match(long, /^HTTP\/1\.1 431 /);
});

test('no upload stops the process: others are answered while lists of every form are read', async (t) => {
  const { api, url, open } = await listening(t);
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }, 1);
  t.after(() => clearInterval(timer));
  // What JSON.parse would need a second for.
  const request = open({ 'content-type': 'application/json' }, '/v1/flushes');
  request.end(`{"files":["/a"],"labels":${'[{}'.padEnd(15_000_000, ',{}')}]}`);
  const { status } = await answer(request);
  assert.equal(status, 413);
  const other = await fetch(`${url}/healthz`);
  assert.equal(other.status, 200);
  assert.equal(api.memory.jobs.length, 0);
  t.diagnostic(`longest pause of the event loop, both ends in one process: ${longest.toFixed(0)} ms`);
});
