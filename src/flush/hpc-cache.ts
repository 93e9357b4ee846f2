import { NFS3_OK, NFS3ERR_JUKEBOX, NFS3ERR_NOT_SYNC, NFS3ERR_NOTEMPTY } from '../nfs/nfs3.js';
import { type Driven, type DrivenFile, type FlushDriver, GIVEN_UP } from './driver.js';
import { Fault, statusFault } from './fault.js';
import type { AttributesReply, CommitReply } from './target-calls.js';

/**
 * The flush of Azure HPC Cache and Avere OS: NFSv3 COMMIT with arguments that no client would send for a range.
 * The answers 10002 and 66 mean something else here than in RFC 1813.
 */
export const MAGIC_OFFSET_HIGH = 0x1234abcd;
export const MAGIC_OFFSET_LOW = 0xdeaddead;
/** The reply comes when the file is on the core filer. */
export const MAGIC_COUNT_SYNC = 0xabadbeef;
/** Starts a flush, or joins the one under way. */
export const MAGIC_COUNT_START = 0xadeadbe6;
export const MAGIC_COUNT_STATUS = 0xadeadbe5;

const POLL_GROWTH = 1.5;

/** Starts a flush and asks for its status until it has ended. */
export const hpcCacheAsync: FlushDriver = {
  async flush(file) {
    if (!file.underWay) {
      const started = await start(file);
      if (started !== null) return started;
    }
    for (;;) {
      file.calling = null;
      await file.pause(file.pollMs);
      if (file.ended) return GIVEN_UP;
      file.pollMs = Math.min(file.pollMs * POLL_GROWTH, file.retry.pollMaxMs);
      file.polls++;
      const reply = await magicCommit(file, MAGIC_COUNT_STATUS);
      if (reply instanceof Fault) return reply;
      const { status } = reply;
      if (status === NFS3_OK) return success('flushed', file, reply);
      if (status === NFS3ERR_NOT_SYNC) continue;
      if (status === NFS3ERR_JUKEBOX) return statusFault(status, 'poll', 'COMMIT (status of the flush)');
      file.underWay = false;
      if (status === NFS3ERR_NOTEMPTY) return stillDirty(file, status, 'poll');
      return statusFault(status, 'poll', 'COMMIT (status of the flush)');
    }
  },
};

/** Null: the flush is under way. */
async function start(file: DrivenFile): Promise<Driven | Fault | null> {
  file.attempts++;
  file.polls = 0;
  file.pollMs = file.retry.pollMinMs;
  const reply = await magicCommit(file, MAGIC_COUNT_START);
  if (reply instanceof Fault || reply.resent) file.begun = true;
  if (reply instanceof Fault) return reply;
  const { status } = reply;
  if (status === NFS3_OK) return success(file.begun ? 'flushed' : 'already_clean', file, reply);
  if (status === NFS3ERR_NOTEMPTY) return stillDirty(file, status, 'flush');
  // "Try later" means that nothing was begun.
  if (status === NFS3ERR_JUKEBOX) file.attempts--;
  if (status !== NFS3ERR_NOT_SYNC) return statusFault(status, 'flush', 'COMMIT (start of a flush)');
  file.proveDialect();
  file.underWay = true;
  file.begun = true;
  return null;
}

/** One COMMIT, which is answered when the file is written back. */
export const hpcCacheSync: FlushDriver = {
  async flush(file) {
    file.attempts++;
    // Minutes may pass until the answer: no reason to send the call again.
    const reply = await magicCommit(file, MAGIC_COUNT_SYNC, true);
    if (reply instanceof Fault) return reply;
    const { status } = reply;
    if (status === NFS3_OK) return success('flushed', file, reply);
    if (status === NFS3ERR_NOTEMPTY) return stillDirty(file, status, 'flush');
    if (status === NFS3ERR_NOT_SYNC) {
      // Somebody else's flush of the file is under way.
      file.proveDialect();
      file.attempts--;
      return new Fault('STILL_DIRTY', 'flush', 'COMMIT: a flush is under way (10002)', 'later', status);
    }
    if (status === NFS3ERR_JUKEBOX) file.attempts--;
    return statusFault(status, 'flush', 'COMMIT (synchronous flush)');
  },
};

async function magicCommit(file: DrivenFile, count: number, patient = false): Promise<CommitReply | Fault> {
  file.calling = count === MAGIC_COUNT_STATUS ? 'COMMIT (status of the flush)' : 'COMMIT (flush)';
  const reply = await file.calls.commit(
    file.handle,
    MAGIC_OFFSET_HIGH,
    MAGIC_OFFSET_LOW,
    count,
    patient ? { ...file.limit, patient } : file.limit,
    count === MAGIC_COUNT_STATUS ? 'poll' : 'flush',
  );
  return file.ended ? GIVEN_UP : reply;
}

function success(outcome: Driven['outcome'], file: DrivenFile, reply: AttributesReply): Driven {
  // A plain server answers OK at once and means nothing by it: only one that has shown the dialect is believed.
  const evidence = file.dialectProven ? 'written-back' : 'accepted';
  return { outcome, evidence, attributes: reply.attributes };
}

function stillDirty(file: DrivenFile, status: number, phase: 'flush' | 'poll'): Fault {
  file.proveDialect();
  return new Fault(
    'STILL_DIRTY',
    phase,
    `COMMIT: no flush is running and the file is still dirty (66), after attempt ${file.attempts}`,
    'restart',
    status,
  );
}
