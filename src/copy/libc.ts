/** What of the C library a copy can use, and Node does not have. All of it is for speed or exactness: without it a copy is still right. */
export interface Libc {
  /** Where the next `move` to the file goes. False if the file cannot be positioned. */
  seek(destination: number, position: number): boolean;
  /**
   * sendfile(2): the kernel copies up to `count` bytes from `position` of one descriptor to where the other stands,
   * without a detour through this process, which halves the CPU time of a copy. It works between any two file systems.
   * Resolves to the bytes moved, 0 at the end of the source, or -1 if it failed: the ordinary way then succeeds, or
   * says why it fails.
   */
  move(destination: number, source: number, position: number, count: number): Promise<number>;
  /** futimens(3): times to the nanosecond, of which a double keeps some hundreds. False if it failed. */
  setTimes(file: number, atimeNs: bigint, mtimeNs: bigint): boolean;
  /** posix_fadvise(2): drops what is durable of a file from the page cache, so that it is read from storage next. */
  dropCache(file: number): Promise<void>;
}

/** There off_t and timespec have 64 bits, so that the plain functions take all sizes and times in every C library. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'ppc64', 'riscv64', 'loong64', 's390x'];
const SEEK_SET = 0;
const POSIX_FADV_DONTNEED = process.arch === 's390x' ? 6 : 4;
const NS_PER_SECOND = 1_000_000_000n;

let loading: Promise<Libc | null> | null = null;

/** Null where it cannot be used: not Linux, or no binary of koffi. */
export function loadLibc(): Promise<Libc | null> {
  loading ??= load().catch(() => null);
  return loading;
}

async function load(): Promise<Libc | null> {
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) return null;
  const { default: koffi } = await import('koffi');
  const libc = koffi.load(null);
  const lseek = libc.func('int64_t lseek(int descriptor, int64_t offset, int whence)');
  const sendfile = libc.func('int64_t sendfile(int out, int in, _Inout_ int64_t *offset, size_t count)');
  const futimens = libc.func('int futimens(int descriptor, const int64_t *times)');
  const fadvise = libc.func('int posix_fadvise(int descriptor, int64_t offset, int64_t length, int advice)');
  return {
    seek: (destination, position) => Number(lseek(destination, position, SEEK_SET)) === position,
    move: (destination, source, position, count) =>
      new Promise((resolve) => {
        const moved = (error: unknown, bytes: number | bigint): void => resolve(error ? -1 : Number(bytes));
        try {
          sendfile.async(destination, source, [position], count, moved);
        } catch {
          // More calls at a time than koffi takes.
          resolve(-1);
        }
      }),
    setTimes: (file, atimeNs, mtimeNs) => futimens(file, [...timespec(atimeNs), ...timespec(mtimeNs)]) === 0,
    dropCache: (file) =>
      new Promise((resolve) => {
        try {
          fadvise.async(file, 0, 0, POSIX_FADV_DONTNEED, () => resolve());
        } catch {
          resolve();
        }
      }),
  };
}

/** Seconds and nanoseconds; of a time before 1970 the nanoseconds count forwards all the same. */
function timespec(ns: bigint): [bigint, bigint] {
  const rest = ((ns % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  return [(ns - rest) / NS_PER_SECOND, rest];
}
