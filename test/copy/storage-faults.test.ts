import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { CopyError } from '../../src/copy/copy-error.js';
import { type CopyRequest, copyFile } from '../../src/copy/copy-file.js';
import { compare } from '../../src/copy/look.js';
import { Throttle } from '../../src/copy/throttle.js';

/** What storage answers to one call, at a time when it matters. */

const within = (...paths: Buffer[]) => ({ paths, followsLinks: true });
const never = new AbortController().signal;
const NUMBERS = { EIO: -5, EROFS: -30, ENOSPC: -28, EDQUOT: -122, ESTALE: -116 } as const;
type Code = keyof typeof NUMBERS;

function fault(code: Code): Error {
  return Object.assign(new Error(code), { code, errno: NUMBERS[code], syscall: 'test' });
}

let folder: string;
/** What all file handles share: their methods can be replaced there. */
let handles: fs.FileHandle;
before(async () => {
  folder = await fs.mkdtemp(join(tmpdir(), 'writeback-faults-'));
  const file = await fs.open(join(folder, 'source'), 'w');
  await file.write(randomBytes(300_000));
  await file.close();
  handles = Object.getPrototypeOf(file) as fs.FileHandle;
});
after(() => fs.rm(folder, { recursive: true, force: true }));

function request(more: Partial<CopyRequest>): CopyRequest {
  return {
    source: Buffer.from(join(folder, 'source')),
    destination: Buffer.from(join(folder, 'out/copy')),
    roots: { source: within(Buffer.from(folder)), destination: within(Buffer.from(folder)) },
    size: null,
    resumeAt: 0,
    resumeVersion: null,
    mode: 'atomic',
    attemptId: 'a',
    verify: 'crc32',
    bufferBytes: 65_536,
    ...more,
  };
}

const isOfDestination = async (handle: fs.FileHandle): Promise<boolean> => {
  const path = await fs.readlink(`/proc/self/fd/${handle.fd}`).catch(() => '');
  return path.startsWith(join(folder, 'out/')) || path === join(folder, 'out');
};

/** Has the n-th such call on the destination fail. */
function failing(t: TestContext, method: 'sync' | 'write' | 'chmod' | 'read', n: number, code: Code) {
  const original = handles[method] as (this: fs.FileHandle, ...args: unknown[]) => Promise<unknown>;
  let calls = 0;
  t.mock.method(handles, method, async function (this: fs.FileHandle, ...args: unknown[]) {
    if ((await isOfDestination(this)) && ++calls === n) throw fault(code);
    return original.apply(this, args);
  });
  return () => calls >= n;
}

/** Has the destination's closing fail, with all bytes there and verified. */
function failingClose(t: TestContext, code: Code) {
  const open = fs.open;
  let failed = false;
  t.mock.method(fs, 'open', async (...args: Parameters<typeof open>) => {
    const handle = await open(...args);
    const close = handle.close;
    if (!String(args[0]).endsWith('.part')) return handle;
    handle.close = async () => {
      await close.call(handle);
      if (!failed) {
        failed = true;
        throw fault(code);
      }
    };
    return handle;
  });
  return () => failed;
}

const FAULTS = [
  ['write', 1, 'ENOSPC'],
  ['write', 3, 'EDQUOT'],
  ['sync', 1, 'EIO'],
  ['read', 2, 'EIO'],
  ['chmod', 1, 'EROFS'],
  ['close', 1, 'EDQUOT'],
] as const;

describe('a copy fails, says why and leaves neither half a file nor a temporary one', {
  skip: process.platform !== 'linux',
}, () => {
  for (const [method, n, code] of FAULTS) {
    test(`when ${method} number ${n} of the destination answers ${code}`, async (t) => {
      await fs.mkdir(join(folder, 'out'), { recursive: true });
      await fs.writeFile(join(folder, 'out/copy'), 'old');
      const hasFailed = method === 'close' ? failingClose(t, code) : failing(t, method, n, code);
      await assert.rejects(copyFile(request({}), new Throttle(), never), (error: unknown) => {
        assert.ok(error instanceof CopyError, String(error));
        assert.equal(error.code, code);
        return true;
      });
      assert.ok(hasFailed());
      assert.deepEqual(await fs.readdir(join(folder, 'out')), ['copy']);
      assert.equal(await fs.readFile(join(folder, 'out/copy'), 'utf8'), 'old');
    });
  }

  test('when the rename answers ESTALE', async (t) => {
    t.mock.method(fs, 'rename', async () => {
      throw fault('ESTALE');
    });
    await assert.rejects(copyFile(request({}), new Throttle(), never), { code: 'ESTALE' });
    assert.deepEqual(await fs.readdir(join(folder, 'out')), ['copy']);
  });

  test('in place, and hears of no byte that a failed fsync may have lost', async (t) => {
    for (const verify of ['size', 'crc32'] as const) {
      t.mock.restoreAll();
      await fs.rm(join(folder, 'out/copy'), { force: true });
      const heard: number[] = [];
      failing(t, 'sync', 1, 'EIO');
      const copying = copyFile(request({ mode: 'in-place', verify }), new Throttle(), never, (bytes) => {
        heard.push(bytes);
      });
      await assert.rejects(copying, { code: 'EIO' });
      assert.deepEqual(heard, [0]);
    }
  });
});

test('a directory entry that cannot be made durable is no success', {
  skip: process.platform !== 'linux',
}, async (t) => {
  await fs.mkdir(join(folder, 'out'), { recursive: true });
  let renamed = false;
  const rename = fs.rename;
  t.mock.method(fs, 'rename', async (...args: Parameters<typeof rename>) => {
    await rename(...args);
    renamed = true;
  });
  const sync = handles.sync;
  t.mock.method(handles, 'sync', async function (this: fs.FileHandle) {
    if (renamed) throw fault('EIO');
    return sync.apply(this);
  });
  await assert.rejects(copyFile(request({}), new Throttle(), never), { code: 'EIO' });
});

test('what is compared with its source is not taken for the same because a link leads to it', async () => {
  await fs.mkdir(join(folder, 'out'), { recursive: true });
  const destination = join(folder, 'out/compared');
  const asked = (content: boolean) =>
    compare({ ...request({ destination: Buffer.from(destination) }), content }, new Throttle(), never);
  await fs.symlink('../source', destination);
  assert.equal((await asked(true)).identical, false);
  await fs.rm(destination);
  await fs.link(join(folder, 'source'), destination);
  await assert.rejects(asked(false), { code: 'EINVAL', message: /the same file/ });
  await fs.rm(destination);
  await copyFile(request({ destination: Buffer.from(destination) }), new Throttle(), never);
  assert.equal((await asked(true)).identical, true);
  const { atime, mtime } = await fs.stat(destination);
  await fs.writeFile(destination, randomBytes(300_000));
  await fs.utimes(destination, atime, mtime);
  assert.equal((await asked(true)).identical, false);
});
