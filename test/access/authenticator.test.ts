import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { exportJWK, SignJWT, UnsecuredJWT } from 'jose';
import { Authenticator } from '../../src/access/authenticator.js';
import { newToken, parseToken } from '../../src/access/token.js';
import { changeTokens, readTokens, type StoredToken } from '../../src/access/tokens-file.js';
import { accessConfigSchema } from '../../src/model/access.js';
import { type ApiErrorCode, BrokerError } from '../../src/model/errors.js';
import { until } from '../support/until.js';

let folder: string;
const open: Authenticator[] = [];
const faults: string[] = [];
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'writeback-access-'));
});
after(async () => {
  for (const authenticator of open) authenticator.close();
  await rm(folder, { recursive: true, force: true });
});

async function authenticator(access: Record<string, unknown>): Promise<Authenticator> {
  const principals = [{ name: 'alice', identity: { uid: 7, gid: 8 } }, { name: 'bob' }];
  const opened = await Authenticator.open({
    access: accessConfigSchema.parse({ principals, ...access }),
    onError: (error) => void faults.push(error.message),
  });
  assert.ok(opened);
  open.push(opened);
  return opened;
}

async function addToken(path: string, more: Partial<StoredToken> = {}): Promise<string> {
  const { token, id, digest } = newToken();
  const createdAt = new Date().toISOString();
  const stored = { id, digest, principal: 'alice', description: '', createdAt, expiresAt: null, ...more };
  await changeTokens(path, (tokens) => [...tokens, stored]);
  return token;
}

async function refused(
  by: Authenticator,
  credential: string | undefined,
  reason: RegExp,
  code: ApiErrorCode = 'UNAUTHENTICATED',
): Promise<void> {
  const field = credential === undefined ? undefined : `Bearer ${credential}`;
  await assert.rejects(by.authenticate(field), (error) => {
    assert.ok(error instanceof BrokerError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, reason);
    // Nothing of a credential comes back: errors are logged, and copied into tickets.
    if (credential !== undefined && credential.length > 20) assert.ok(!error.message.includes(credential));
    return true;
  });
}

test('nobody is asked who they are only where no credential is configured', async () => {
  assert.equal(
    await Authenticator.open({ access: accessConfigSchema.parse({}), onError: assert.fail }),
    null,
  );
});

test('a token is taken for its principal; one that is wrong, expired or for nobody is refused', async () => {
  const path = join(folder, 'tokens.json');
  const token = await addToken(path);
  const expired = await addToken(path, { expiresAt: '2020-01-01T00:00:00.000Z' });
  const stranger = await addToken(path, { principal: 'mallory' });
  const by = await authenticator({ tokensFile: path });
  const principal = await by.authenticate(`bearer  ${token}`);
  assert.deepEqual([principal.name, principal.role, principal.identity?.uid], ['alice', 'submit', 7]);
  assert.deepEqual(principal.caches, [], 'without a grant nothing is granted');

  await refused(by, undefined, /send "Authorization: Bearer TOKEN"/);
  await refused(by, '', /must be "Bearer"/);
  await refused(by, expired, /has expired at 2020/);
  await refused(by, stranger, /"mallory" stands nowhere/, 'PRINCIPAL_UNKNOWN');
  await refused(by, newToken().token, /not known here/);
  const other = token.endsWith('A') ? 'B' : 'A';
  await refused(by, token.slice(0, -1) + other, /not known here/);
  await refused(by, token.slice(0, -1), /not known here/);
  await refused(by, `${token}x`, /not known here/);
  await refused(by, 'a.b.c', /cannot be read/);
  await assert.rejects(by.authenticate(`Basic ${Buffer.from('a:b').toString('base64')}`), BrokerError);
});

test('the file has no token in it, only its owner reads it, and two who change it at once lose nothing', async () => {
  const path = join(folder, 'shared.json');
  const tokens = await Promise.all(Array.from({ length: 8 }, () => addToken(path)));
  assert.equal((await readTokens(path)).length, 8);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const text = JSON.stringify(await readTokens(path));
  for (const token of tokens) assert.ok(!text.includes(parseToken(token)?.secret ?? ''));
  await assert.rejects(
    changeTokens(path, () => {
      throw new Error('no');
    }),
    /^Error: no$/,
  );
  assert.equal((await readTokens(path)).length, 8);
});

test('a running service takes new tokens, refuses revoked ones, and keeps the last good file', async () => {
  const path = join(folder, 'live.json');
  const by = await authenticator({ tokensFile: path });
  await refused(by, newToken().token, /not known here/);
  const token = await addToken(path);
  await until('the new token to be taken', () =>
    by.authenticate(`Bearer ${token}`).then(Boolean, () => false),
  );
  await writeFile(`${path}.half`, '{"version": 1, "tok');
  await rename(`${path}.half`, path);
  await until('the fault of the file to be told', () =>
    faults.some((fault) => fault.includes('live.json is not JSON')),
  );
  assert.equal((await by.authenticate(`Bearer ${token}`)).name, 'alice');
  await writeFile(path, JSON.stringify({ version: 1, tokens: [] }));
  await until('the revoked token to be refused', () =>
    by.authenticate(`Bearer ${token}`).then(
      () => false,
      () => true,
    ),
  );
});

test('what unknown principals may do is configuration, and their names cannot leave a prefix', async () => {
  const path = join(folder, 'unknown.json');
  const caches = [{ name: 'nas', prefixes: ['/home/{name}'] }];
  const by = await authenticator({ tokensFile: path, unknownPrincipals: { caches } });
  const token = await addToken(path, { principal: 'zoe' });
  await until('the new token to be taken', () =>
    by.authenticate(`Bearer ${token}`).then(Boolean, () => false),
  );
  const { name, caches: granted } = await by.authenticate(`Bearer ${token}`);
  assert.deepEqual([name, granted], ['zoe', [{ name: 'nas', prefixes: ['/home/zoe'] }]]);
});

function jwt(claims: Record<string, unknown>, expires: string | number | null = '5m'): SignJWT {
  const token = new SignJWT(claims).setIssuedAt();
  return expires === null ? token : token.setExpirationTime(expires);
}

test('a JWT as Slurm issues it is taken by the shared secret', async () => {
  const secretFile = join(folder, 'jwt_hs256.key');
  const secret = randomBytes(32);
  await writeFile(secretFile, secret);
  const by = await authenticator({
    jwt: [{ secretFile, principalClaim: 'sun' }],
    unknownPrincipals: { caches: [{ name: 'nas', prefixes: ['/{name}'] }] },
  });
  const sign = (token: SignJWT, key: Uint8Array = secret, alg = 'HS256') =>
    token.setProtectedHeader({ alg, typ: 'JWT' }).sign(key);
  assert.equal((await by.authenticate(`Bearer ${await sign(jwt({ sun: 'bob' }))}`)).name, 'bob');

  await refused(by, await sign(jwt({ sun: 'bob' }), randomBytes(32)), /no issuer .* has signed it/);
  await refused(by, await sign(jwt({ sun: 'bob' }), randomBytes(64), 'HS512'), /no issuer .* has signed it/);
  await refused(by, await sign(jwt({ sun: 'bob' }, null)), /claim "exp"/);
  await refused(by, await sign(jwt({ sun: 'bob' }, Math.floor(Date.now() / 1000) - 40)), /has expired/);
  const justNow = jwt({ sun: 'bob' }, Math.floor(Date.now() / 1000) - 5);
  assert.equal(
    (await by.authenticate(`Bearer ${await sign(justNow)}`)).name,
    'bob',
    'clocks differ a little',
  );
  await refused(by, await sign(jwt({ sub: 'bob' })), /claim "sun"/);
  await refused(by, await sign(jwt({ sun: 7 })), /claim "sun" is no text/);
  await refused(by, await sign(jwt({ sun: '../bob' })), /stands nowhere/, 'PRINCIPAL_UNKNOWN');
  await refused(
    by,
    new UnsecuredJWT({ sun: 'alice' }).setExpirationTime('5m').encode(),
    /no issuer|cannot be read/,
  );
  await writeFile(join(folder, 'short.key'), randomBytes(31));
  await assert.rejects(
    authenticator({ jwt: [{ secretFile: join(folder, 'short.key') }] }),
    /has 31 bytes.*needs 32/,
  );
});

test('a JWT of an OpenID provider is taken by its published keys, for us and nobody else', async () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const second = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  let keys = [{ ...(await exportJWK(publicKey)), kid: 'one', alg: 'RS256', use: 'sig' }];
  let reads = 0;
  let server: Server | null = createServer((_request, response) => {
    reads++;
    response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys }));
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server?.once('listening', resolve));
  const jwksUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`;
  const issuer = 'https://id.example.org';
  const claims = {
    iss: issuer,
    aud: 'writeback',
    preferred: 'bob',
    uidNumber: 501,
    gidNumber: 20,
    groups: [12, 61],
  };
  const by = await authenticator({
    jwt: [
      {
        issuer,
        audience: 'writeback',
        jwksUrl,
        principalClaim: 'preferred',
        identityClaims: { uid: 'uidNumber', gid: 'gidNumber', gids: 'groups' },
      },
    ],
  });
  const sign = (token: SignJWT, alg = 'RS256', kid = 'one') =>
    token.setProtectedHeader({ alg, kid }).sign(alg === 'RS256' ? privateKey : second.privateKey);
  try {
    const bob = await by.authenticate(`Bearer ${await sign(jwt(claims))}`);
    assert.deepEqual([bob.name, bob.identity], ['bob', { uid: 501, gid: 20, gids: [12, 61] }]);
    const alice = await by.authenticate(`Bearer ${await sign(jwt({ ...claims, preferred: 'alice' }))}`);
    assert.equal(alice.identity?.uid, 7, 'the configuration comes first');
    await by.authenticate(`Bearer ${await sign(jwt(claims))}`);
    assert.equal(reads, 1, 'keys are kept');

    await refused(by, await sign(jwt({ ...claims, aud: 'another' })), /claim "aud"/);
    await refused(by, await sign(jwt({ ...claims, iss: 'https://evil.example.org' })), /no issuer/);
    await refused(
      by,
      await sign(jwt({ ...claims, uidNumber: 0 })),
      /claim "uidNumber" is no user or group id above 0/,
    );
    await refused(by, await sign(jwt({ ...claims, groups: [0] })), /claim "groups\[0\]"/);
    await refused(by, await sign(jwt({ ...claims, gidNumber: undefined })), /claim "gidNumber"/);
    await refused(by, await sign(jwt(claims), 'ES256', 'two'), /no issuer/);
    // The public key as a secret: who takes the algorithm from the token falls for it.
    const pem = publicKey.export({ type: 'spki', format: 'pem' });
    const confused = jwt(claims).setProtectedHeader({ alg: 'HS256', kid: 'one' });
    await refused(by, await confused.sign(Buffer.from(pem)), /no issuer/);
  } finally {
    server.closeAllConnections();
    server.close();
    server = null;
  }
  const away = await authenticator({
    jwt: [{ issuer, audience: 'writeback', jwksUrl, principalClaim: 'preferred' }],
  });
  await refused(away, await sign(jwt(claims)), /could not be read/, 'KEYS_UNAVAILABLE');
  await refused(away, await sign(jwt(claims, Math.floor(Date.now() / 1000) - 40)), /has expired/);

  keys = [{ ...(await exportJWK(second.publicKey)), kid: 'two', alg: 'ES256', use: 'sig' }];
  const jwksFile = join(folder, 'jwks.json');
  await writeFile(jwksFile, JSON.stringify({ keys }));
  const byFile = await authenticator({
    jwt: [{ issuer, audience: 'writeback', jwksFile, principalClaim: 'preferred' }],
  });
  assert.equal((await byFile.authenticate(`Bearer ${await sign(jwt(claims), 'ES256', 'two')}`)).name, 'bob');
});

test('an issuer is configured so that its JWTs can be told from those for others', () => {
  const wrong = (jwt: Record<string, unknown>, reason: RegExp) => {
    const { error } = accessConfigSchema.safeParse({ jwt: [jwt] });
    assert.match(JSON.stringify(error?.issues), reason);
  };
  const keys = { issuer: 'i', audience: 'a', jwksFile: '/k' };
  wrong({}, /exactly one of/);
  wrong({ ...keys, secretFile: '/s' }, /exactly one of/);
  wrong({ ...keys, audience: null }, /which JWTs are for this one/);
  wrong({ ...keys, algorithms: ['HS256'] }, /HS256 is none for a key set/);
  wrong({ secretFile: '/s', algorithms: ['RS256'] }, /RS256 is none for a secret/);
  wrong({ ...keys, algorithms: ['none'] }, /Invalid option/);
  wrong({ issuer: 'i', audience: 'a', jwksUrl: 'http://id.example.org/k' }, /expected an https URL/);
});
