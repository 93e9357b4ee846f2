import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { SignJWT } from 'jose';
import type { Job, JobFile } from '../../src/model/job.js';
import { isTerminalJobState } from '../../src/model/words.js';
import { startSimulatedCache } from '../../src/sim/server.js';
import { until } from '../support/until.js';
import { cacheAt, startProgram, startService, testFolder } from './processes.js';

const SKIP =
  spawnSync('openssl', ['version']).status !== 0
    ? 'there is no openssl command to make a certificate with'
    : false;

/** Runs a command to its end. */
async function run(t: Parameters<typeof startProgram>[0], args: readonly string[]) {
  const { child, log, ended } = startProgram(t, args);
  let stdout = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  const closed = once(child, 'close');
  const code = await ended;
  await closed;
  return { code, stdout, stderr: log() };
}

test('without a credential configured nobody else is listened to', async (t) => {
  const folder = await testFolder(t);
  const config = join(folder, 'config.yaml');
  await writeFile(config, JSON.stringify({ http: { port: 0 }, dataDir: join(folder, 'data') }));
  const hosts = ['0.0.0.0', '::', 'jobs.example.org'];
  const runs = await Promise.all(hosts.map((host) => run(t, ['serve', '--config', config, '--host', host])));
  for (const { code, stderr } of runs) {
    assert.equal(code, 2, stderr);
    assert.match(stderr, /no credential is configured: whoever connects would be an administrator/);
    assert.match(stderr, /access\.tokensFile .* or access\.jwt, or listen on 127\.0\.0\.1/);
  }
});

test('with TLS, tokens and JWTs each principal does its own work, under its own identity, and no secret is told', {
  skip: SKIP,
}, async (t) => {
  const folder = await testFolder(t);
  const at = (name: string) => join(folder, name);
  await promisify(execFile)('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', '/CN=writeback', '-addext', 'subjectAltName=IP:127.0.0.1'],
    ...['-keyout', at('tls.key'), '-out', at('tls.crt')],
  ]);
  const slurmKey = randomBytes(32);
  await writeFile(at('jwt_hs256.key'), slurmKey);
  // Whom the mode bits let in decides the server, by the identity that the calls claim.
  const cacheDir = at('cache');
  for (const directory of ['open', 'closed']) {
    await mkdir(join(cacheDir, directory), { recursive: true });
    await writeFile(join(cacheDir, directory, 'f'), directory);
    await chmod(join(cacheDir, directory, 'f'), 0o666);
  }
  await chmod(join(cacheDir, 'closed'), 0o700);
  await chmod(join(cacheDir, 'open'), 0o755);
  await chmod(cacheDir, 0o755);
  const sim = await startSimulatedCache({ cacheDir, filerDir: at('filer') });
  t.after(() => sim.close());

  const everything = { caches: [{ name: '*' }] };
  const access = {
    tokensFile: at('tokens.json'),
    jwt: [{ secretFile: at('jwt_hs256.key'), principalClaim: 'sun' }],
    principals: [
      { name: 'root', role: 'admin', ...everything },
      { name: 'alice', identity: { uid: 54_321, gid: 54_321 }, ...everything },
      { name: 'bob', ...everything, quotas: { requestsPerMinute: 3 } },
    ],
  };
  const config = {
    http: { host: '127.0.0.1', port: 0, tls: { certFile: at('tls.crt'), keyFile: at('tls.key') } },
    caches: [cacheAt(sim.ports)],
    access,
    log: { level: 'trace' },
  };
  await writeFile(at('config.yaml'), JSON.stringify({ ...config, dataDir: at('data') }));
  const created = await run(t, ['token', 'create', '--config', at('config.yaml'), '--principal', 'root']);
  const root = created.stdout.trim();
  assert.match(root, /^wbt_/, created.stderr);
  await writeFile(at('token'), created.stdout);
  const slurm = (sun: string, seconds = 60) =>
    new SignJWT({ sun })
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .setIssuedAt()
      .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
      .sign(slurmKey);
  const [alice, bob, late] = [await slurm('alice'), await slurm('bob'), await slurm('alice', -600)];

  const service = await startService(t, config);
  assert.match(service.url, /^https:/);
  const agent = new Agent({ keepAlive: true, ca: await readFile(at('tls.crt')) });
  t.after(() => agent.destroy());
  let answers = '';
  async function ask(token: string | null, method: string, path: string, body?: unknown) {
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (token !== null) headers.authorization = `Bearer ${token}`;
    const sent = request(`${service.url}${path}`, { method, agent, headers });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = await once(sent, 'response');
    let text = '';
    for await (const part of response) text += part;
    answers += `${JSON.stringify(response.headers)}${text}\n`;
    return { status: response.statusCode as number, headers: response.headers, text };
  }
  async function flush(token: string, path: string): Promise<{ job: Job; file: JobFile }> {
    const list = { cache: 'sim', export: '/cache', files: [path] };
    const posted = await ask(token, 'POST', '/v1/flushes', list);
    assert.equal(posted.status, 202, posted.text);
    let job = JSON.parse(posted.text) as Job;
    await until('the job has ended', async () => {
      job = JSON.parse((await ask(token, 'GET', `/v1/jobs/${job.id}`)).text) as Job;
      return isTerminalJobState(job.state);
    });
    const files = JSON.parse((await ask(token, 'GET', `/v1/jobs/${job.id}/files`)).text) as {
      items: JobFile[];
    };
    return { job, file: files.items[0] as JobFile };
  }

  const mine = await flush(alice, '/open/f');
  assert.deepEqual([mine.job.principal, mine.job.state], ['alice', 'succeeded']);
  assert.equal((await flush(alice, '/closed/f')).file.lastError?.code, 'EACCES');
  // The same directory as another user: what is known of it to one is not known to the other.
  assert.equal((await flush(root, '/closed/f')).job.state, 'succeeded');
  assert.equal((await flush(alice, '/closed/f')).file.lastError?.code, 'EACCES');

  for (const path of ['', '/files', '/report']) {
    assert.equal((await ask(bob, 'GET', `/v1/jobs/${mine.job.id}${path}`)).status, 404);
  }
  const tooMany = await ask(bob, 'GET', '/v1/me');
  assert.ok(
    Number(tooMany.headers['retry-after']) > 0 && tooMany.text.includes('RATE_LIMITED'),
    tooMany.text,
  );

  for (const token of [null, 'x', late, `${root}x`, `${alice.slice(0, -4)}AAAA`, 'a.b.c']) {
    const { status, headers, text } = await ask(token, 'POST', '/v1/flushes', { token });
    assert.equal(status, 401, text);
    assert.match(String(headers['www-authenticate']), /^Bearer/);
  }
  assert.equal((await ask(null, 'GET', '/healthz')).status, 200);
  assert.equal((await ask(null, 'GET', '/metrics')).status, 401);
  assert.equal((await ask(root, 'GET', '/metrics')).status, 200);

  const options = ['--url', service.url, '--ca-file', at('tls.crt'), '--token-file', at('token')];
  const listed = await run(t, ['jobs', '--json', ...options]);
  assert.equal(listed.code, 0, listed.stderr);
  assert.ok(listed.stdout.includes(mine.job.id));
  const untrusted = await run(t, ['jobs', '--url', service.url, '--token-file', at('token')]);
  assert.match(untrusted.stderr, /no authority that is known here has signed its certificate/);

  const told = service.log() + answers + listed.stdout + listed.stderr + untrusted.stderr + created.stderr;
  const key = await readFile(at('tls.key'), 'utf8');
  const secrets = {
    'the token': root.slice('wbt_'.length + 13),
    'a JWT': alice.split('.')[2] as string,
    'another JWT': bob.split('.')[2] as string,
    'an expired JWT': late.split('.')[2] as string,
    'the key of TLS': key.split('\n')[1] as string,
    'the secret of Slurm': slurmKey.toString('base64').slice(0, 40),
    'the secret of Slurm in hexadecimal': slurmKey.toString('hex'),
  };
  for (const [what, secret] of Object.entries(secrets)) assert.ok(!told.includes(secret), `${what} was told`);
  assert.ok(told.length > 10_000);
});
