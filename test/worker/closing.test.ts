import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

test('nothing keeps a process alive whose worker and agent were closed while Redis was away', async () => {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const program = fileURLToPath(new URL('close-without-redis.js', import.meta.url));
  const child = spawn(process.execPath, [program], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const kill = (): void => void child.kill('SIGKILL');
  let timer = setTimeout(kill, 120_000);
  child.stdout.on('data', (text: Buffer) => {
    if (!text.includes('closed\n')) return;
    clearTimeout(timer);
    // Less than what is left behind would take to end by itself.
    timer = setTimeout(kill, 30_000);
  });
  const [code, signal] = await once(child, 'exit');
  clearTimeout(timer);
  assert.deepEqual([code, signal], [0, null]);
});
