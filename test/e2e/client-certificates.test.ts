import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { get } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { NO_OPENSSL, selfSigned, signedBy } from '../support/certificates.js';
import { until } from '../support/until.js';
import { startProgram, startService, testFolder } from './processes.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

async function run(args: readonly string[], env: Record<string, string>) {
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const [code] = await once(child, 'close');
  return { code: code as number, output };
}

test('only clients with a certificate of the authority get as far as their credential; the health check needs none', {
  skip: NO_OPENSSL,
}, async (t) => {
  const folder = await testFolder(t);
  const at = (name: string) => join(folder, name);
  const [authority, foreign] = [await selfSigned(folder, 'authority'), await selfSigned(folder, 'foreign')];
  const server = await signedBy(authority, folder, 'server');
  const client = await signedBy(authority, folder, 'client');
  const stranger = await signedBy(foreign, folder, 'stranger');
  await copyFile(authority.certFile, at('clients.crt'));
  const tokensFile = at('tokens.json');
  const access = { tokensFile, principals: [{ name: 'ops', role: 'operate' }] };
  await writeFile(at('token.yaml'), JSON.stringify({ access, dataDir: folder }));
  const created = await run(['token', 'create', '--config', at('token.yaml'), '--principal', 'ops'], {});
  await writeFile(at('token'), created.output.split('\n').find((line) => line.startsWith('wbt_')) ?? '');

  const healthSocket = at('health.sock');
  const tls = { ...server, clientCaFile: at('clients.crt') };
  const service = await startService(t, { http: { port: 0, tls }, access, healthSocket });
  const base = { WRITEBACK_URL: service.url, WRITEBACK_TOKEN_FILE: at('token') };
  const trusting = { ...base, WRITEBACK_CA_FILE: authority.certFile };
  const as = ({ certFile, keyFile }: typeof client) => ({
    ...trusting,
    WRITEBACK_CERT_FILE: certFile,
    WRITEBACK_KEY_FILE: keyFile,
  });

  const [good, without, wrong, distrusting, half, mixed] = await Promise.all([
    run(['jobs'], as(client)),
    run(['jobs'], trusting),
    run(['jobs', '--cert-file', stranger.certFile, '--key-file', stranger.keyFile], trusting),
    run(['jobs'], { ...as(client), WRITEBACK_CA_FILE: foreign.certFile }),
    run(['jobs', '--cert-file', client.certFile], trusting),
    run(['jobs', '--cert-file', client.certFile, '--key-file', stranger.keyFile], trusting),
  ]);
  assert.equal(good.code, 0, good.output);
  assert.deepEqual([without.code, wrong.code, distrusting.code], [69, 69, 69]);
  assert.match(without.output, /it wants a certificate of yours \(--cert-file and --key-file\)/);
  assert.match(
    distrusting.output,
    /no authority that is known here has signed its certificate \(--ca-file\)/,
  );
  assert.deepEqual([half.code, mixed.code], [2, 2]);
  assert.match(half.output, /give both --cert-file and --key-file/);
  assert.match(mixed.output, /cannot be used together for TLS/);
  assert.match(
    service.log(),
    /"code":"ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE".*a client was refused by TLS/,
  );

  const ca = await readFile(authority.certFile);
  const statusWith = async ({ certFile, keyFile }: typeof client): Promise<number | null> => {
    const [cert, key] = [await readFile(certFile), await readFile(keyFile)];
    return new Promise((resolve) => {
      const request = get(`${service.url}/v1/me`, { ca, cert, key, agent: false }, (answer) => {
        answer.resume();
        resolve(answer.statusCode ?? 0);
      });
      request.once('error', () => resolve(null));
    });
  };
  assert.equal(await statusWith(client), 401, 'a certificate is no credential');
  assert.equal(await statusWith(stranger), null);
  // The authority of the clients is renewed as the other files are.
  await copyFile(foreign.certFile, at('clients.crt'));
  await until('the new authority is in force', async () => (await statusWith(stranger)) === 401);
  assert.equal(await statusWith(client), null);

  // As the image does it: no port, no certificate, no credential.
  const health = await run(['health'], { WRITEBACK_HEALTH_SOCKET: healthSocket });
  assert.equal(health.code, 0, health.output);
  assert.match(health.output, /^writeback \S+ is alive, for \d+ s\n$/);
  service.kill('SIGKILL');
  await service.ended;
  const dead = await run(['health', '--socket', healthSocket], {});
  assert.equal(dead.code, 69);
  assert.match(dead.output, /No service answers at .*health\.sock/);
});

test('a health socket that a killed process left is taken over, one in use is not', async (t) => {
  const folder = await testFolder(t);
  const healthSocket = join(folder, 'health.sock');
  const first = await startService(t, { healthSocket });
  first.kill('SIGKILL');
  await first.ended;
  assert.ok((await stat(healthSocket)).isSocket(), 'it is left');
  const second = await startService(t, { healthSocket });
  const config = join(folder, 'third.yaml');
  await writeFile(
    config,
    JSON.stringify({ http: { port: 0 }, dataDir: join(folder, 'third'), healthSocket }),
  );
  const third = startProgram(t, ['serve', '--config', config]);
  assert.equal(await third.ended, 69, third.log());
  assert.match(third.log(), /health\.sock is the socket of another process/);
  assert.equal((await run(['health', '--socket', healthSocket], {})).code, 0);
  second.kill('SIGTERM');
  assert.equal(await second.ended, 0, second.log());
  await assert.rejects(stat(healthSocket), { code: 'ENOENT' });
});
