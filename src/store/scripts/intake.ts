import { jobScript } from './job-prelude.js';

/** The scripts that make an intake a job, or nothing. ARGV[1] and ARGV[2] are always the tag and the job's id. */

/**
 * Makes an intake a job. ARGV: tag, id, meta, queue, registry entry, files, duplicates, chunks, directories as JSON or
 * '', their number, milliseconds to the deadline, retention milliseconds, files of unknown size, bytes of the others,
 * limits of a transfer (bytes per second, per cent of a CPU; '': none), then warnings (code, message, count or '').
 * Returns 'ok' (also when it was done before: a resent command), or 'lost' if what was stored has expired.
 */
const commit = `
local meta, queue, entry = ARGV[3], ARGV[4], ARGV[5]
local files, duplicates, chunkCount = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local directories, directoryCount = ARGV[9], tonumber(ARGV[10])
if redis.call('EXISTS', job) == 1 then return 'ok' end
if redis.call('STRLEN', states) ~= files or redis.call('HLEN', chunks) ~= chunkCount then return 'lost' end
for _, key in ipairs({ states, chunks, details, errors }) do redis.call('PERSIST', key) end
local deadlineAt = now + tonumber(ARGV[11])
redis.call('HSET', job, 'id', id, 'meta', meta, 'queue', queue, 'state', 'queued', 'rev', 1, 'createdAt', now,
  'updatedAt', now, 'deadlineAt', deadlineAt, 'retentionMs', ARGV[12], 'ending', '', 'cut', '0',
  'final', directoryCount == 0 and '1' or '0', 'filesTotal', files, 'filesPending', files - duplicates,
  'filesActive', 0, 'filesSucceeded', 0, 'filesAlreadyClean', 0, 'filesFailed', 0, 'filesSkipped', duplicates,
  'filesCanceled', 0, 'filesExpired', 0, 'bytesDone', 0, 'bytesMoving', 0, 'unsized', ARGV[13], 'bytesKnown', ARGV[14],
  'limitBps', ARGV[15], 'limitCpu', ARGV[16], 'faults', 0, 'rateFiles', 0, 'rateBytes', 0, 'fps', 0, 'bps', 0,
  'chunks', chunkCount, 'chunksQueued', 0, 'directories', directoryCount, 'directoriesQueued', 0, 'directoriesDone', 0)
for i = 17, #ARGV, 3 do
  redis.call('HSET', job, 'w:' .. ARGV[i], ARGV[i + 1])
  if ARGV[i + 2] ~= '' then redis.call('HSET', job, 'wc:' .. ARGV[i], ARGV[i + 2]) end
end
if directoryCount > 0 then redis.call('HSET', runs, 'directories', directories) end
redis.call('ZADD', jobs, 0, id)
redis.call('ZADD', open, 0, id)
redis.call('ZADD', deadlines, deadlineAt, id)
redis.call('ZADD', outbox, now, id)
redis.call('HINCRBY', cache, 'jobsActive', 1)
redis.call('HINCRBY', cache, 'jobsKept', 1)
redis.call('HINCRBY', cache, 'jobs:queued', 1)
redis.call('HINCRBY', cache, 'filesQueued', files - duplicates)
if redis.call('HGET', queues, queue) ~= entry then
  redis.call('HSET', queues, queue, entry)
  redis.call('PUBLISH', tag .. ':registry', queue)
end
redis.call('PUBLISH', tag .. ':changes', 'job ' .. id .. ' queued')
return 'ok'
`;

/** Removes an intake that has not become a job. */
const abort = `
if redis.call('EXISTS', job) == 1 then return 0 end
return redis.call('UNLINK', states, chunks, details, errors)
`;

export const INTAKE_SCRIPTS = {
  wbCommit: jobScript(commit),
  wbAbort: jobScript(abort),
} as const;
