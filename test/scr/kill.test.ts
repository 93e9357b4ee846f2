import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  changeTree,
  type FileEntry,
  filesTree,
  isDone,
  type Nested,
  readTree,
  removeFolder,
  sameContent,
  TestDaemon,
  temporaryFolder,
  treeOf,
  valueAt,
} from '../support/scr.js';

const ROUNDS = 50;
const MOST_KILLS = 3;
/** Several lives per round: the limit makes a round last longer than one life. */
const BYTES_PER_SECOND = 1_500_000;

test(`after kill -9 at random moments, ${ROUNDS} flushes end with identical bytes and were never DONE before`, async () => {
  const folder = await temporaryFolder();
  let kills = 0;
  let resumed = 0;
  try {
    await Promise.all(
      [0, 1, 2].map(async (lane) => {
        for (let round = lane; round < ROUNDS; round += 3) {
          const told = await flushWithKills(folder, round);
          kills += told.kills;
          resumed += told.resumed;
        }
      }),
    );
  } finally {
    await removeFolder(folder);
  }
  assert.ok(kills >= ROUNDS, `${kills} kills`);
  assert.ok(resumed >= ROUNDS / 4, `only ${resumed} lives went on from a WRITTEN above 0`);
});

async function flushWithKills(folder: string, round: number): Promise<{ kills: number; resumed: number }> {
  const file = join(folder, `${round}.scr`);
  const entries: FileEntry[] = [];
  for (const [i, size] of [randomInt(150_000, 400_000), randomInt(1, 60_000), 0].entries()) {
    const source = join(folder, `source-${round}-${i}`);
    await writeFile(source, randomBytes(size));
    entries.push({ source, destination: join(folder, `set-${round}`, `${i}`), size });
  }
  await changeTree(file, (tree) => {
    const wanted = { ...filesTree(entries, { bw: BYTES_PER_SECOND }), COMMAND: { RUN: {} } };
    for (const [key, below] of treeOf(wanted)) tree.set(key, below);
  });

  let kills = 0;
  let resumed = 0;
  let tree: Nested = {};
  for (;;) {
    const before = await readTree(file);
    if (entries.some((entry) => isBetween(before, entry))) resumed++;
    const daemon = new TestDaemon([
      file,
      '--poll',
      '0.1',
      '--buffer',
      '16384',
      ...(round % 4 ? [] : ['--verify']),
    ]);
    const isLast = kills >= MOST_KILLS;
    const deadline = performance.now() + 30_000;
    // Most die with something in hand, some while they start.
    let killAt = randomInt(5) === 0 && !isLast ? performance.now() + randomInt(300) : deadline;
    while (performance.now() < killAt && daemon.process.exitCode === null) {
      tree = await readTree(file);
      if (isDone(tree)) break;
      if (!isLast && killAt === deadline && writtenBytes(tree, entries) > writtenBytes(before, entries)) {
        killAt = performance.now() + randomInt(150);
      }
      await delay(10);
    }
    await daemon.signal('SIGKILL');
    tree = await readTree(file);
    for (const entry of entries) await assertPrefix(tree, entry);
    if (isDone(tree)) break;
    assert.ok(!isLast, `round ${round} did not end: ${JSON.stringify(tree)} ${daemon.log}`);
    kills++;
  }
  // The last life was killed as well, right after DONE.
  kills++;
  for (const { source, destination } of entries) {
    assert.ok(await sameContent(source, destination), `round ${round}: ${destination}`);
    await rm(source);
    await rm(destination);
  }
  return { kills, resumed };
}

function isBetween(tree: Nested, entry: FileEntry): boolean {
  const written = Number(valueAt(tree, 'FILES', entry.source, 'WRITTEN'));
  return written > 0 && written < entry.size;
}

function writtenBytes(tree: Nested, entries: readonly FileEntry[]): number {
  return entries.reduce((sum, { source }) => sum + Number(valueAt(tree, 'FILES', source, 'WRITTEN')), 0);
}

/** Whatever is recorded as written is there. */
async function assertPrefix(tree: Nested, { source, destination }: FileEntry): Promise<void> {
  const written = Number(valueAt(tree, 'FILES', source, 'WRITTEN'));
  if (written === 0) return;
  const [wanted, copied] = await Promise.all([readFile(source), readFile(destination)]);
  assert.deepEqual(copied.subarray(0, written), wanted.subarray(0, written));
}
