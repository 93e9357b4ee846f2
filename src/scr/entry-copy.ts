import { CopyError, type CopyErrorCode } from '../copy/copy-error.js';
import { type CopyRequest, copyFile } from '../copy/copy-file.js';
import { settle } from '../copy/look.js';
import type { Throttle } from '../copy/throttle.js';
import { pathBytes } from '../model/pathname.js';
import type { Entry } from './transfer-list.js';

/** After these, what stands at the destination is worth nothing. */
const STARTS_ANEW: readonly CopyErrorCode[] = ['SOURCE_CHANGED', 'VERIFY_FAILED'];

export interface EntryCopyOptions {
  throttle: Throttle;
  bufferBytes: number;
  verify: boolean;
  roots: CopyRequest['roots'];
  /** Called when there is something new to record. */
  onProgress: () => void;
}

/**
 * One entry of the transfer file on its way. It only tells what is true on storage; recording it is the daemon's
 * business, and `recorded` is what the transfer file is known to say.
 */
export class EntryCopy {
  readonly source: string;
  readonly destination: string;
  readonly size: number;
  /** WRITTEN as it stands in the transfer file. Somebody who changes it wants another beginning. */
  recorded: number;
  /** Bytes written and fsync'd, as far as is known: from `recorded` on, or anew from 0. */
  durable: number;
  sourceVersion: string | null = null;
  outcome: 'complete' | 'stopped' | CopyError | null = null;
  readonly ended: Promise<void>;
  readonly #stop = new AbortController();

  constructor(entry: Entry & { destination: string }, options: EntryCopyOptions) {
    this.source = entry.source;
    this.destination = entry.destination;
    this.size = entry.size;
    this.recorded = entry.written;
    this.durable = entry.written;
    this.ended = this.#run(entry, options)
      .then((outcome) => {
        this.outcome = outcome;
      })
      .catch((error: unknown) => {
        const failure =
          error instanceof CopyError ? error : new CopyError('EIO', String(error), { cause: error });
        if (STARTS_ANEW.includes(failure.code)) this.durable = 0;
        this.outcome = failure;
      })
      .finally(options.onProgress);
  }

  /** The burst under way is finished and made durable; `ended` tells when. */
  stop(): void {
    this.#stop.abort();
  }

  /** True if the entry still asks for this copy. */
  isFor(entry: Entry | undefined): boolean {
    return (
      entry?.destination === this.destination && entry.size === this.size && entry.written === this.recorded
    );
  }

  async #run(entry: Entry, options: EntryCopyOptions): Promise<'complete' | 'stopped'> {
    const destination = pathBytes(this.destination);
    if (entry.written === entry.size && entry.size > 0) {
      // Copied in an earlier life, maybe by another program. Its source may be gone by now, the copy may not.
      if (await settle(destination, options.roots?.destination ?? null, entry.size)) return 'complete';
      this.durable = 0;
    }
    const result = await copyFile(
      {
        source: pathBytes(this.source),
        destination,
        roots: options.roots,
        size: this.size,
        resumeAt: this.durable,
        resumeVersion: entry.sourceVersion,
        mode: 'in-place',
        verify: options.verify ? 'crc32' : 'size',
        bufferBytes: options.bufferBytes,
      },
      options.throttle,
      this.#stop.signal,
      (bytes, version) => {
        this.durable = bytes;
        this.sourceVersion = version;
        options.onProgress();
      },
    );
    return result.complete ? 'complete' : 'stopped';
  }
}
