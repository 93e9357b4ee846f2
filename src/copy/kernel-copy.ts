/**
 * sendfile(2): the kernel copies from one file to another without a detour through this process, which halves the
 * CPU time of a copy. It works between any two file systems; what it cannot do, read and write can.
 */
export interface KernelCopy {
  /** Where the next `move` to the file goes. False if the file cannot be positioned. */
  seek(destination: number, position: number): boolean;
  /**
   * Copies up to `count` bytes from `position` of one descriptor to where the other stands. Resolves to the bytes
   * moved, 0 at the end of the source, or -1 if it failed: the ordinary way then succeeds, or says why it fails.
   */
  move(destination: number, source: number, position: number, count: number): Promise<number>;
}

/** There off_t has 64 bits, so that plain `sendfile` and `lseek` reach beyond 2 GiB in every C library. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'ppc64', 'riscv64', 'loong64', 's390x'];
const SEEK_SET = 0;

let loading: Promise<KernelCopy | null> | null = null;

/** Null where it cannot be used: not Linux, or no binary of koffi. */
export function kernelCopy(): Promise<KernelCopy | null> {
  loading ??= load().catch(() => null);
  return loading;
}

async function load(): Promise<KernelCopy | null> {
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) return null;
  const { default: koffi } = await import('koffi');
  const libc = koffi.load(null);
  const lseek = libc.func('int64_t lseek(int descriptor, int64_t offset, int whence)');
  const sendfile = libc.func('int64_t sendfile(int out, int in, _Inout_ int64_t *offset, size_t count)');
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
  };
}
