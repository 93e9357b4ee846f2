import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { freePort } from '../support/free-ports.js';
import { startRedis } from '../support/redis.js';

const SKIP =
  spawnSync('openssl', ['version']).status !== 0
    ? 'there is no openssl command to make a certificate with'
    : false;

test('a Redis is reached over TLS if its certificate is trusted, and never if it is not', {
  skip: SKIP,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'writeback-tls-'));
  const key = join(folder, 'key.pem');
  const certificate = join(folder, 'certificate.pem');
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
  await promisify(execFile)('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'],
    ...['-addext', names, '-keyout', key, '-out', certificate],
  ]);
  const port = await freePort();
  const redis = await startRedis({
    args: [
      ...['--bind', '127.0.0.1', '--tls-port', `${port}`, '--tls-auth-clients', 'no'],
      ...['--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', certificate],
    ],
  });
  try {
    await Promise.all(
      ['localhost', '127.0.0.1'].flatMap((host) => {
        const url = `rediss://${host}:${port}`;
        return [
          // Node reads what else is trusted when it starts.
          healthSeenFromOutside(url, { NODE_EXTRA_CA_CERTS: certificate }).then((trusted) =>
            assert.match(trusted, /"ok":true/),
          ),
          healthSeenFromOutside(url, {}).then((told) =>
            assert.match(told, /does not answer: self-signed certificate/),
          ),
        ];
      }),
    );
  } finally {
    await redis.stop();
    await rm(folder, { recursive: true, force: true });
  }
});

async function healthSeenFromOutside(url: string, env: Record<string, string>): Promise<string> {
  const module = new URL('../../src/store/startup.js', import.meta.url).href;
  const source = `
    const { untilRedisAnswers } = await import(${JSON.stringify(module)});
    const target = { url: ${JSON.stringify(url)}, cluster: false };
    const told = untilRedisAnswers(target, 3000, new AbortController().signal);
    process.stdout.write(await told.then(JSON.stringify, (error) => error.message));`;
  const run = promisify(execFile)(process.execPath, ['--input-type=module', '-e', source], {
    env: { PATH: process.env.PATH, ...env },
    timeout: 20_000,
  });
  return (await run).stdout;
}
