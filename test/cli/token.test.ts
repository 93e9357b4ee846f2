import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { matchesDigest, parseToken } from '../../src/access/token.js';
import { readTokens } from '../../src/access/tokens-file.js';
import { runProgram } from '../../src/cli/program.js';
import { registerToken } from '../../src/cli/token.js';

let folder: string;
let path: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'writeback-token-'));
  path = join(folder, 'tokens.json');
});
after(() => rm(folder, { recursive: true, force: true }));

async function token(args: readonly string[], env: Record<string, string> = { WRITEBACK_TOKENS_FILE: path }) {
  const written = { stdout: '', stderr: '' };
  const into = (name: keyof typeof written) =>
    new Writable({
      write(chunk, _encoding, done) {
        written[name] += chunk;
        done();
      },
    });
  const context = {
    stdin: Readable.from([]),
    stdout: into('stdout'),
    stderr: into('stderr'),
    env,
    signal: new AbortController().signal,
    version: '0.0.0-test',
    setExitCode() {},
  };
  const settings = async () => ({ tokensFile: path, knows: (name: string) => name === 'alice' });
  const code = await runProgram(['token', ...args], context, [registerToken(settings)]);
  return { code, ...written };
}

test('a token is printed once, alone on standard output, and kept as a digest', async () => {
  const made = await token(['create', '--principal', 'alice', '--expires', '90d', '--description', 'epilog']);
  assert.equal(made.code, 0, made.stderr);
  const parts = parseToken(made.stdout.trimEnd());
  assert.ok(parts, made.stdout);
  const [stored] = await readTokens(path);
  assert.ok(stored);
  assert.deepEqual([stored.id, stored.principal, stored.description], [parts.id, 'alice', 'epilog']);
  assert.ok(matchesDigest(parts.secret, stored.digest));
  assert.ok(!matchesDigest(`${parts.secret.slice(0, -1)}-`, stored.digest));
  const life = Date.parse(stored.expiresAt ?? '') - Date.parse(stored.createdAt);
  assert.equal(life, 90 * 86_400_000);
  assert.ok(!(made.stderr + (await readFile(path, 'utf8'))).includes(parts.secret));
});

test('tokens are listed without what could be used, and revoked by their ids, all or none', async () => {
  await token(['create', '--principal', 'bob', '--expires', 'never']);
  const listed = await token(['list']);
  assert.match(listed.stdout, /ID +PRINCIPAL +CREATED +EXPIRES +DESCRIPTION\n.*alice.*epilog\n.*bob.*never/);
  const json = JSON.parse((await token(['list', '--json'])).stdout) as Record<string, unknown>[];
  assert.deepEqual(Object.keys(json[0] ?? {}), ['id', 'principal', 'description', 'createdAt', 'expiresAt']);
  const ids = json.map(({ id }) => String(id));
  const partly = await token(['revoke', ids[0] as string, 'nosuchtoken2']);
  assert.equal(partly.code, 2);
  assert.match(partly.stderr, /has no token nosuchtoken2; nothing was revoked/);
  assert.equal((await readTokens(path)).length, 2);
  assert.equal((await token(['revoke', ...ids])).code, 0);
  assert.deepEqual(await readTokens(path), []);
});

test('what cannot be is refused with the reason, before anything is written', async () => {
  for (const [args, reason] of [
    [['create'], /required option '--principal <name>'/],
    [['create', '--principal', '../x'], /a principal name is a letter or digit/],
    [['create', '--principal', 'alice', '--expires', '-1d'], /--expires/],
    [['create', '--principal', 'alice', '--expires', 'soon'], /--expires takes seconds, or a time/],
    [['create', '--principal', 'alice', '--description', 'a\nb'], /one line/],
    [['create', '--principal', 'mallory', '--config', '/etc/x.yaml'], /knows no principal "mallory"/],
  ] as const) {
    const { code, stdout, stderr } = await token(args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, reason);
    assert.equal(stdout, '');
  }
  assert.match((await token(['list'], {})).stderr, /Where are the tokens\?/);
  assert.deepEqual(await readTokens(path), []);
});
