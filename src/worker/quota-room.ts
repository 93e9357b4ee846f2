import { setTimeout as delay } from 'node:timers/promises';
import type { AppendEnd, ExpansionRun, NewFile } from '../store/work.js';
import type { WorkStore } from '../store/work-store.js';

/** What directories hold is added to a job as the quota of its principal leaves room: it waits, and never goes above. */

/** Between two looks whether there is room. */
const LOOK_MS = 500;
/** How soon a directory that went back to the queue is taken up again. */
export const NO_ROOM_PAUSE_MS = 2000;

/** There is no room, and no seat to wait in hand: the directory goes back to the queue, and is walked anew. */
export class NoRoom extends Error {
  constructor() {
    super('the quota of the principal leaves no room');
    this.name = 'NoRoom';
  }
}

/**
 * The directories of one queue that wait in hand, where they go on without a second walk. Never as many as there are
 * items in hand at a time: room comes from chunks that are taken up.
 */
export class WaitingSeats {
  readonly #seats: number;
  #taken = 0;

  /** @param concurrency items in hand at a time */
  constructor(concurrency: number) {
    this.#seats = Math.floor(concurrency / 2);
  }

  /** @throws {NoRoom} */
  take(): void {
    if (this.#taken >= this.#seats) throw new NoRoom();
    this.#taken++;
  }

  leave(): void {
    this.#taken--;
  }
}

/**
 * `expansions.append` of all the files, part by part as there is room.
 * @throws the reason of `signal`; {NoRoom}: what was not added yet is found again by the next run
 */
export async function appendAsRoomIs(
  run: ExpansionRun,
  files: readonly (string | NewFile)[],
  { store, seats }: { store: Pick<WorkStore, 'expansions'>; seats: WaitingSeats },
  signal: AbortSignal,
): Promise<AppendEnd> {
  let left = files;
  let seated = false;
  try {
    for (;;) {
      const reply = await store.expansions.append(run, left);
      if (typeof reply === 'string') return reply;
      if (reply.room > 0) {
        const some = left.slice(0, reply.room);
        const added = await store.expansions.append(run, some);
        if (added === 'ok') left = left.slice(some.length);
        else if (typeof added === 'string') return added;
      }
      if (!seated) seats.take();
      seated = true;
      await delay(LOOK_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  } finally {
    if (seated) seats.leave();
  }
}
