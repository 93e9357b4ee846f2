import { setTimeout as delay } from 'node:timers/promises';

/**
 * flock(2), which Node does not have: locks of the C library's kind belong to the open file and go with its last
 * descriptor. fcntl locks, which other packages take under that name, do not exclude these; a package with the
 * system call itself has to be compiled on every machine; and flock(1) on an inherited descriptor, which would do,
 * is a process each time.
 *
 * Only LOCK_NB is used. A blocking call would hold up either the event loop or one of the few threads that do the
 * copying, and could not be given up.
 */
const LOCK_EX = 2;
const LOCK_NB = 4;
const SHORTEST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 50;

interface Flock {
  /** 0, or the errno. */
  call(descriptor: number, operation: number): number;
  errno: Record<string, number>;
}

let loading: Promise<Flock> | null = null;

/** Another program holds the lock for longer than was allowed. */
export class LockTimeout extends Error {
  constructor(timeoutMs: number) {
    super(`another program has held its lock for ${timeoutMs / 1000} s`);
    this.name = 'LockTimeout';
  }
}

/**
 * Takes the exclusive lock of an open file; it ends when the file is closed.
 * @throws {LockTimeout} if another program holds it for all of `timeoutMs`
 */
export async function lockExclusively(descriptor: number, timeoutMs: number): Promise<void> {
  loading ??= load();
  const flock = await loading;
  const deadlineMs = performance.now() + timeoutMs;
  for (let pauseMs = SHORTEST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    const errno = flock.call(descriptor, LOCK_EX | LOCK_NB);
    if (errno === 0) return;
    if (errno !== flock.errno.EWOULDBLOCK && errno !== flock.errno.EAGAIN && errno !== flock.errno.EINTR) {
      throw new Error(`flock failed with errno ${errno}`);
    }
    if (performance.now() >= deadlineMs) throw new LockTimeout(timeoutMs);
    await delay(pauseMs);
  }
}

/** Loaded when first needed: the service runs where there is no binary of koffi. */
async function load(): Promise<Flock> {
  try {
    const { default: koffi } = await import('koffi');
    const flock = koffi.load(null).func('int flock(int descriptor, int operation)');
    return {
      call: (descriptor, operation) => (flock(descriptor, operation) === 0 ? 0 : koffi.errno()),
      errno: koffi.os.errno,
    };
  } catch (cause) {
    throw new Error('flock(2) cannot be called here: the package koffi has no binary for this platform', {
      cause,
    });
  }
}
