import { NFS3_OK, NFS3ERR_JUKEBOX, NFS3ERR_NOT_SYNC, NFS3ERR_NOTEMPTY, nfsStatusText } from '../nfs/nfs3.js';
import { type FlushDriver, GIVEN_UP } from './driver.js';
import { Fault, statusFault } from './fault.js';

/** COMMIT as RFC 1813 §3.3.21 has it: offset 0 and count 0, the whole file to stable storage, done with the reply. */
export const rfc1813: FlushDriver = {
  async flush(file) {
    file.attempts++;
    file.calling = 'COMMIT';
    const reply = await file.calls.commit(file.handle, 0, 0, 0, file.limit, 'flush');
    if (file.ended) return GIVEN_UP;
    if (reply instanceof Fault) return reply;
    const { status, attributes } = reply;
    if (status === NFS3_OK) return { outcome: 'flushed', evidence: 'stable', attributes };
    if (status === NFS3ERR_JUKEBOX) file.attempts--;
    if (status === NFS3ERR_NOT_SYNC || status === NFS3ERR_NOTEMPTY) {
      return new Fault(
        'PROTOCOL_ERROR',
        'flush',
        `COMMIT: ${nfsStatusText(status)}, which RFC 1813 does not allow here; if the target is an HPC Cache its dialect is hpc-cache`,
        'none',
        status,
      );
    }
    return statusFault(status, 'flush', 'COMMIT');
  },
};
