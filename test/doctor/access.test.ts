import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { newToken } from '../../src/access/token.js';
import { startService, testFolder } from '../e2e/processes.js';
import { NO_OPENSSL, selfSigned, signedBy } from '../support/certificates.js';
import { startReceiver } from '../support/receiver.js';
import { closedPort, doctor } from './doctor.js';

/** What `writeback doctor` says of access: files, credentials, listening, TLS, issuers, webhooks. */

const secret = (byte: number): string => `whsec_${Buffer.alloc(32, byte).toString('base64')}`;

async function issuer(t: TestContext): Promise<string> {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const keys = [{ ...publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256' }];
  const server = createServer((_request, response) => response.end(JSON.stringify({ keys })));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`;
}

async function tokensFile(path: string, tokens: [principal: string, days: number][]): Promise<string> {
  const made = tokens.map(([principal, days]) => {
    const { token, id, digest } = newToken();
    const expiresAt = new Date(Date.now() + days * 86_400_000).toISOString();
    const stored = { id, digest, principal, description: '', createdAt: new Date().toISOString(), expiresAt };
    return { token, stored };
  });
  await writeFile(path, JSON.stringify({ version: 1, tokens: made.map(({ stored }) => stored) }), {
    mode: 0o600,
  });
  return made[0]?.token ?? '';
}

test('where access is as it should be, every step says so, and a token is tried on the service', {
  skip: NO_OPENSSL,
}, async (t) => {
  const folder = await testFolder(t);
  const at = (name: string) => join(folder, name);
  const authority = await selfSigned(folder, 'authority');
  const server = await signedBy(authority, folder, 'server', 90);
  const receiver = await startReceiver();
  t.after(() => receiver.close());
  await writeFile(at('slurm.key'), randomBytes(32), { mode: 0o600 });
  const token = await tokensFile(at('tokens.json'), [['ops', 90]]);
  await writeFile(at('token'), token);
  const config = {
    http: { port: 0, tls: server },
    access: {
      tokensFile: at('tokens.json'),
      jwt: [
        { secretFile: at('slurm.key'), principalClaim: 'sun' },
        { jwksUrl: await issuer(t), issuer: 'https://id.example.org', audience: 'writeback' },
      ],
      principals: [{ name: 'ops', role: 'operate', caches: [{ name: '*' }] }],
    },
    webhooks: {
      endpoints: [{ name: 'hook', url: `${receiver.url}/a-secret-path`, secrets: [secret(1)] }],
      networks: ['127.0.0.0/8'],
    },
  };
  const service = await startService(t, config);
  const trying = ['--url', service.url, '--token-file', at('token'), '--ca-file', authority.certFile];
  const { failed, has, text } = await doctor(t, config, trying);
  assert.deepEqual(failed, []);
  has('ok', 'config', /changed by its owner only \(mode 0600\)/);
  has('ok', 'http', /wants a credential, over TLS/);
  has('ok', 'access', /^the tokens file, .* can be read/);
  has('ok', 'access', /holds 1 valid token$/);
  has('ok', 'access', /^JWTs: the shared secret, .* can be read/);
  has('ok', 'access', /^JWTs of https:\/\/id\.example\.org: http.* has 1 key$/);
  has('ok', 'access', /^1 principal is configured, others are refused/);
  has('ok', 'tls', /^the certificate for localhost, 127\.0\.0\.1 is valid until 20/);
  has('ok', 'tls', /belong together/);
  has('warn', 'webhooks', /^hook: http:\/\/127.* takes a connection, but messages .* Use https/);
  has('ok', 'token', /takes it: it is of ops, with the role operate/);
  assert.deepEqual(receiver.received, [], 'nothing is sent');
  for (const hidden of [token, secret(1), 'a-secret-path']) assert.ok(!text.includes(hidden));

  await writeFile(at('token'), newToken().token);
  const refused = await doctor(t, config, trying);
  refused.has('fail', 'token', /The token is not known here/);
});

test('whatever is wrong with access gets a sentence that says what to do', {
  skip: NO_OPENSSL,
}, async (t) => {
  const folder = await testFolder(t);
  const at = (name: string) => join(folder, name);
  const authority = await selfSigned(folder, 'authority');
  const server = await signedBy(authority, folder, 'server', 5);
  const other = await signedBy(authority, folder, 'other');
  await tokensFile(at('tokens.json'), [
    ['nobody', 90],
    ['alice', 3],
    ['alice', -1],
  ]);
  await chmod(at('tokens.json'), 0o660);
  await writeFile(at('slurm.key'), randomBytes(16));
  await mkdir(at('open'));
  await chmod(at('open'), 0o777);
  await writeFile(at('open/jwks.json'), '{}', { mode: 0o600 });
  const jwksUrl = `http://127.0.0.1:${await closedPort()}/jwks.json`;
  const { has } = await doctor(t, {
    http: { host: '0.0.0.0', tls: { ...server, keyFile: other.keyFile, clientCaFile: other.certFile } },
    access: {
      tokensFile: at('tokens.json'),
      jwt: [
        { secretFile: at('slurm.key'), principalClaim: 'sun' },
        { jwksFile: at('open/jwks.json'), issuer: 'a', audience: 'w' },
        { jwksFile: at('none.json'), issuer: 'b', audience: 'w' },
        { jwksUrl, issuer: 'c', audience: 'w' },
      ],
      principals: [{ name: 'alice', caches: [{ name: 'mistyped' }], identity: { uid: 0, gid: 0 } }],
    },
    webhooks: {
      endpoints: [
        { name: 'closed', url: `http://127.0.0.1:${await closedPort()}/`, secrets: [secret(1)] },
        { name: 'private', url: 'https://10.1.2.3/', secrets: [secret(1)] },
      ],
      networks: ['127.0.0.0/8'],
    },
  });
  has('fail', 'access', /^the tokens file, .* can be changed by others \(mode 0660\).* chmod go-w it/);
  has('ok', 'access', /holds 2 valid tokens, and 1 that have expired/);
  has('warn', 'access', /within 14 days end the tokens \w+ \(alice\)\. Make new ones/);
  has('warn', 'access', /the tokens \w+ \(nobody\) are of principals that .* does not name/);
  has('warn', 'access', /the shared secret, .* can be read by every user of this host \(mode 0644\)/);
  has('fail', 'access', /has 16 bytes; HS256 needs 32\. Take the file from the issuer again/);
  has('fail', 'access', /^JWTs of a: the key set, .* lies in a folder in which everybody may replace it/);
  has('fail', 'access', /^JWTs of b: the key set, .* is not there/);
  has(
    'fail',
    'access',
    /^JWTs of c: the keys at .* cannot be read \(.*ECONNREFUSED.*\), so every JWT is answered with 503/,
  );
  has('warn', 'access', /^alice may flush mistyped, which is no configured cache/);
  has('warn', 'access', /^the NFS calls for alice are made as root/);
  has('warn', 'tls', /^the certificate for .* expires at 20.*, in less than 14 days\. Renew it/);
  has('fail', 'tls', /is not the key of the certificate/);
  has('fail', 'tls', /^CN=other in .* is no authority/);
  has('fail', 'webhooks', /^closed: no connection to .*ECONNREFUSED/);
  has('fail', 'webhooks', /^private: 10\.1\.2\.3 is no public address/);
  has('warn', 'webhooks', /^private and closed share a secret/);

  const bare = await doctor(t, { http: { host: '0.0.0.0' } });
  bare.has('fail', 'http', /no credential is configured: whoever connects would be an administrator/);
  const open = await doctor(t, { http: { host: '0.0.0.0' }, access: { insecureWithoutCredentials: true } });
  open.has('warn', 'http', /whoever can connect is an administrator/);
  const clear = await doctor(t, { http: { host: '0.0.0.0' }, access: { tokensFile: at('none') } });
  clear.has('warn', 'http', /credentials travel in clear/);
  clear.has('warn', 'access', /holds no token: "writeback token create" makes one/);
  clear.has('fail', 'access', /no principal is configured, so every credential is refused/);
});
