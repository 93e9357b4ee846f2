import { constants } from 'node:fs';
import { chmod, open, readFile, rename, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { PRINCIPAL_NAME } from '../model/principal.js';

/** The file of bearer tokens: digests, and whose they are. Written by `writeback token`, read by the service. */

const LOCK_WAIT_MS = 5000;
const LOCK_LOOK_MS = 50;
const TOKENS_MAX = 10_000;

const tokenSchema = z.strictObject({
  id: z.string().regex(/^[a-z2-7]{12}$/),
  /** SHA-256 of the secret part. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  principal: z.string().regex(PRINCIPAL_NAME),
  /** What it is for, in words. */
  description: z.string().max(200),
  createdAt: z.iso.datetime(),
  /** Null: never. */
  expiresAt: z.iso.datetime().nullable(),
});
export type StoredToken = z.infer<typeof tokenSchema>;

const tokensFileSchema = z.strictObject({
  version: z.literal(1),
  tokens: z.array(tokenSchema).max(TOKENS_MAX),
});

/** @throws {Error} that says what is wrong with it, without its content */
export function parseTokens(content: Buffer | null, path: string): StoredToken[] {
  if (content === null) return [];
  let json: unknown;
  try {
    json = JSON.parse(content.toString('utf8'));
  } catch {
    throw new Error(`the tokens file ${path} is not JSON`);
  }
  const parsed = tokensFileSchema.safeParse(json);
  if (parsed.success) return parsed.data.tokens;
  const [issue] = parsed.error.issues;
  throw new Error(
    `the tokens file ${path} is not as "writeback token" writes it, at ${issue?.path.join('.') || 'its start'}`,
  );
}

/** @throws {Error} for the operator */
export async function readTokens(path: string): Promise<StoredToken[]> {
  try {
    return parseTokens(await readFile(path), path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/**
 * Reads, changes and writes the file, so that of two at once none is lost, and a reader or a crash finds the old file or
 * the new one. It gets the mode 0600.
 * @throws {Error} for the operator, and what `change` throws: then nothing is written
 */
export async function changeTokens(
  path: string,
  change: (tokens: StoredToken[]) => StoredToken[],
): Promise<void> {
  const lock = `${path}.lock`;
  await takeLock(lock);
  const next = `${path}.new`;
  try {
    const tokens = change(await readTokens(path));
    if (tokens.length > TOKENS_MAX) throw new Error(`${path} has ${TOKENS_MAX} tokens; revoke some first`);
    const file = await open(next, constants.O_CREAT | constants.O_TRUNC | constants.O_WRONLY, 0o600);
    try {
      // One that an earlier crash left may have another mode.
      await chmod(next, 0o600);
      await file.writeFile(`${JSON.stringify({ version: 1, tokens }, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(next, path);
  } finally {
    await rm(next, { force: true });
    await rm(lock, { force: true });
  }
}

async function takeLock(lock: string): Promise<void> {
  const until = Date.now() + LOCK_WAIT_MS;
  for (;;) {
    try {
      await (await open(lock, 'wx', 0o600)).close();
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (Date.now() >= until) {
      throw new Error(
        `${lock} is there: another "writeback token" is at work, or one was killed. Remove it in the second case`,
      );
    }
    await delay(LOCK_LOOK_MS);
  }
}
