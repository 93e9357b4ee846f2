import { BrokerError } from '../model/errors.js';
import type { JobOwner } from '../model/principal.js';

/**
 * Why the script made no job of what was added.
 * @param result what the script said
 * @param files how many different ones the list has
 */
export function notCommitted(result: string, owner: JobOwner, files: number): BrokerError {
  switch (result) {
    case 'reused':
      return keyReused();
    case 'arriving':
      return keyInUse();
    case 'files':
    case 'jobs':
      return quotaUsedUp(result, owner, files);
    case 'full':
      return new BrokerError(
        'QUEUE_FULL',
        'More files wait for this cache than the service keeps. Try again when some are done.',
        { retryAfterSeconds: 30 },
      );
    default:
      return new BrokerError(
        'STORE_UNAVAILABLE',
        'The list took too long to arrive and has expired. Send it again.',
      );
  }
}

/** Another request with the key has not ended. */
export function keyInUse(): BrokerError {
  return new BrokerError(
    'IDEMPOTENCY_KEY_IN_USE',
    'A request with this Idempotency-Key is still arriving. Ask again when it is complete.',
    { retryAfterSeconds: 1 },
  );
}

/** The key was used for another request. */
export function keyReused(): BrokerError {
  return new BrokerError(
    'IDEMPOTENCY_KEY_REUSED',
    'This Idempotency-Key belongs to another request: the files, the cache, the export, the options or the labels differ. A new request needs a new key.',
  );
}

function quotaUsedUp(of: 'files' | 'jobs', { name, quotas }: JobOwner, files: number): BrokerError {
  const { queuedFiles, runningJobs } = quotas;
  if (of === 'files' && queuedFiles !== null && files > queuedFiles) {
    return new BrokerError(
      'QUOTA_EXCEEDED',
      `The principal ${JSON.stringify(name)} may have ${queuedFiles} files waiting; this list alone has ${files}. Send it in parts.`,
      { retryAfterSeconds: 30 },
    );
  }
  const what = of === 'files' ? `${queuedFiles} files waiting` : `${runningJobs} jobs that have not ended`;
  return new BrokerError(
    'QUOTA_EXCEEDED',
    `The principal ${JSON.stringify(name)} may have ${what} at a time. Try again when some are done.`,
    { retryAfterSeconds: 30 },
  );
}
