import type { Evidence } from '../model/words.js';
import type { FileHandle } from '../nfs/nfs3.js';
import type { CallLimit } from '../nfs/target.js';
import { Fault, type RetryPolicy } from './fault.js';
import type { FileAttributes, TargetCalls } from './target-calls.js';

/** One file on its way through a driver: what the driver may use, and what it keeps there between two tries. */
export interface DrivenFile {
  readonly calls: TargetCalls;
  readonly handle: FileHandle;
  readonly limit: CallLimit;
  readonly retry: Readonly<RetryPolicy>;
  /** The file was given up meanwhile (deadline, cancel): return `GIVEN_UP` at once, whatever it says. */
  readonly ended: boolean;
  /** How often a flush was begun. */
  attempts: number;
  /** The status was asked this often since then. */
  polls: number;
  /** Next pause before the status is asked. */
  pollMs: number;
  /** A flush is under way on the target: go on asking, do not start. */
  underWay: boolean;
  /**
   * A flush of it was begun on behalf of the job, or may have been: the answer to a start was lost. That another
   * start finds nothing to do says nothing about the file as it was then.
   */
  begun: boolean;
  /** The target has shown the dialect, with this file or before. */
  readonly dialectProven: boolean;
  /** The target has just shown the dialect. */
  proveDialect(): void;
  /** What the file is doing, for the message of one that is given up: the call that is out, or null. */
  calling: string | null;
  /** Waits on the common timer wheel. */
  pause(ms: number): Promise<void>;
}

/** The end of a file that succeeded. */
export interface Driven {
  outcome: 'flushed' | 'already_clean';
  evidence: Evidence;
  /** Attributes after the flush, where the target gave them. */
  attributes: FileAttributes | null;
}

/**
 * How a target is asked to write a file back. A driver ends with a success or a fault and knows no deadline and no
 * retry: the engine decides about both and may call `flush` again for the same file.
 */
export interface FlushDriver {
  flush(file: DrivenFile): Promise<Driven | Fault>;
}

export const GIVEN_UP = new Fault('CANCELED', 'flush', 'given up', 'none');
