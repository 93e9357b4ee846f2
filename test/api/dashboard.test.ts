import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { readDashboard } from '../../src/api/dashboard.js';
import { BrokerError } from '../../src/model/errors.js';
import { startApi } from '../support/api.js';

const files = readDashboard(fileURLToPath(new URL('../../src/web', import.meta.url)));
const scripts = files.filter(({ url }) => url.endsWith('.js'));

test('the dashboard needs no credential, and what it asks for does', async (t) => {
  const api = startApi({
    dashboard: files,
    authenticate: async () => {
      throw new BrokerError('UNAUTHENTICATED', 'No.');
    },
  });
  t.after(api.close);
  for (const { url, type, body } of files) {
    const answer = await api.app.inject({ url });
    assert.equal(answer.statusCode, 200, url);
    assert.equal(answer.headers['content-type'], type);
    assert.deepEqual(answer.rawPayload, body);
    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
  }
  await api.refused('UNAUTHENTICATED', { url: '/v1/jobs' });
  await api.refused('METHOD_NOT_ALLOWED', { url: '/', method: 'POST' });
  await api.refused('NOT_FOUND', { url: '/assets/other.js' });
});

test('names change with content and are kept for ever; the page itself is asked for each time', async (t) => {
  const api = startApi({ dashboard: files });
  t.after(api.close);
  for (const { url, body } of files) {
    const headers = { 'accept-encoding': 'br, gzip' };
    const answer = await api.app.inject({ url, headers });
    assert.equal(answer.headers['content-encoding'], 'gzip');
    assert.equal(answer.headers.vary, 'Accept-Encoding');
    assert.deepEqual(gunzipSync(answer.rawPayload), body);
    assert.equal(
      answer.headers['cache-control'],
      url === '/' ? 'no-cache' : 'public, max-age=31536000, immutable',
    );
    if (url !== '/') assert.match(url, /-[A-Z0-9]{8}\.\w+$/);
    const known = { ...headers, 'if-none-match': String(answer.headers.etag) };
    const again = await api.app.inject({ url, headers: known });
    assert.deepEqual([again.statusCode, again.body], [304, '']);
    const head = await api.app.inject({ url, method: 'HEAD' });
    assert.deepEqual([head.statusCode, head.headers.etag, head.body], [200, answer.headers.etag, '']);
  }
});

test('the page has nothing in it that runs, and loads nothing from elsewhere', async (t) => {
  const api = startApi({ dashboard: files });
  t.after(api.close);
  const { body, headers } = await api.app.inject({ url: '/' });
  const policy = String(headers['content-security-policy']);
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self'; /);
  assert.doesNotMatch(policy, /unsafe|\*|http/);
  const loaded = [...body.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, url]) => url);
  const served = files.map(({ url }) => url);
  assert.deepEqual(
    loaded.filter((url) => url !== '/docs').sort(),
    served.filter((url) => url !== '/').sort(),
  );
  assert.doesNotMatch(body, /<style|style=|\son\w+=|<script(?![^>]*\ssrc=)/i);
});

test('the dashboard is small: less than 60 kB of script', () => {
  assert.equal(scripts.length, 1);
  const bytes = scripts.reduce((sum, { body }) => sum + gzipSync(body).length, 0);
  assert.ok(bytes < 60_000, `${bytes} bytes with gzip`);
});
