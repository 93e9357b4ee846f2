import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { startProgram, testFolder } from '../e2e/processes.js';

interface Line {
  level: string;
  subject: string;
  message: string;
}

/** Runs `writeback doctor` and reads its lines. */
export async function doctor(t: TestContext, config: Record<string, unknown>, args: readonly string[] = []) {
  const folder = await testFolder(t);
  const file = join(folder, 'config.yaml');
  await writeFile(file, JSON.stringify({ dataDir: join(folder, 'data'), ...config }), { mode: 0o600 });
  const { child, log, ended } = startProgram(t, ['doctor', '--config', file, ...args]);
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  await once(child, 'close');
  const status = await ended;
  const rows = text.trimEnd().split('\n');
  const last = rows.pop() ?? '';
  assert.match(last, /^\d+ ok, \d+ warnings, \d+ failed$/, log());
  const lines = rows.map((row): Line => {
    const [, level = '', subject = '', message = ''] =
      /^(ok {2}|warn|fail) {2}([^:]+(?::\d+)?): (.+)$/.exec(row) ?? [];
    assert.ok(level !== '', row);
    return { level: level.trim(), subject, message };
  });
  const failed = lines.filter(({ level }) => level === 'fail');
  assert.equal(status, failed.length > 0 ? 1 : 0, text);
  // A failure says what happened, and then what to do.
  for (const { message } of failed) assert.match(message, /\.\s|: .*\.$/, message);
  const has = (level: string, subject: string, pattern: RegExp): void =>
    assert.ok(
      lines.some((line) => line.level === level && line.subject === subject && pattern.test(line.message)),
      `no ${level} of ${subject} with ${pattern}:\n${text}`,
    );
  return { status, lines, failed, has, text };
}

export async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
