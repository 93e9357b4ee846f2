import { jobScript } from './job-prelude.js';

/**
 * The scripts that make an intake a job, or nothing. ARGV[1] and ARGV[2] are always the tag and the job's id, KEYS[20]
 * is the record of the intake's idempotency key.
 *
 * Idempotency key: (free) --claim--> held by an intake --commit--> answered by a job --window over--> (free)
 *                  held --abort, or the lease of a dead process--> (free)
 */

/** Claims the key, or holds it for longer. ARGV: tag, id, lease in milliseconds. */
const claim = `
local asked = KEYS[20]
local v = redis.call('HMGET', asked, 'intake', 'job', 'fingerprint')
if v[2] then return { 'answered', v[2], v[3] } end
if v[1] and v[1] ~= id then return { 'arriving' } end
redis.call('HSET', asked, 'intake', id)
redis.call('PEXPIRE', asked, ARGV[3])
return { 'claimed' }
`;

/**
 * Makes an intake a job. ARGV: tag, id, meta, queue, registry entry, files, duplicates, chunks, directories as JSON or
 * '', their number, milliseconds to the deadline, retention milliseconds, files of unknown size, bytes of the others,
 * limits of a transfer (bytes per second, per cent of a CPU; '': none), fingerprint, '1' to join a job of the same
 * fingerprint, most files queued for the cache or '', milliseconds for which the key is remembered or '' without a key,
 * name of the owner, most files queued and most jobs that have not ended of its jobs together or '', then warnings (code,
 * message, count or '').
 * Returns 'made' (also when it was done before: a resent command), 'replayed' or 'joined', each with the job's id; or
 * 'reused' (the key belongs to another request), 'arriving' (to one that is not complete yet), 'full', 'files' or 'jobs' (a quota of the
 * owner is used up), or 'lost' if what
 * was stored has expired.
 */
const commit = `
local meta, queue, entry = ARGV[3], ARGV[4], ARGV[5]
local files, duplicates, chunkCount = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local directories, directoryCount = ARGV[9], tonumber(ARGV[10])
local fingerprint, asked, window = ARGV[17], KEYS[20], ARGV[20]
if redis.call('EXISTS', job) == 1 then return { 'made', id } end

local function answeredBy(jobId)
  if window == '' then return end
  redis.call('DEL', asked)
  redis.call('HSET', asked, 'job', jobId, 'fingerprint', fingerprint)
  redis.call('PEXPIRE', asked, window)
end

if window ~= '' then
  local v = redis.call('HMGET', asked, 'intake', 'job', 'fingerprint')
  if v[2] then return v[3] == fingerprint and { 'replayed', v[2] } or { 'reused' } end
  -- Our lease was over, and somebody else holds the key now.
  if v[1] and v[1] ~= id then return { 'arriving' } end
end
local same = ARGV[18] == '1' and redis.call('HGET', joinable, fingerprint)
if same then
  answeredBy(same)
  return { 'joined', same }
end
if ARGV[19] ~= '' then
  local queued = tonumber(redis.call('HGET', cache, 'filesQueued') or '0')
  if queued + files - duplicates > tonumber(ARGV[19]) then return { 'full' } end
end
local used = redis.call('HMGET', tag .. ':usage:' .. ARGV[21], 'filesQueued', 'jobsActive', 'jobsQueued')
-- What directories hold is not known yet, but that they hold something: the rest of it waits until there is room.
local least = math.max(files - duplicates, math.min(directoryCount, 1))
if ARGV[22] ~= '' and tonumber(used[1] or '0') + least > tonumber(ARGV[22]) then return { 'files' } end
if ARGV[23] ~= '' and tonumber(used[2] or '0') >= tonumber(ARGV[23]) then return { 'jobs' } end
if redis.call('STRLEN', states) ~= files or redis.call('HLEN', chunks) ~= chunkCount then return { 'lost' } end
for _, key in ipairs({ states, chunks, details, errors }) do redis.call('PERSIST', key) end
local deadlineAt = now + tonumber(ARGV[11])
redis.call('HSET', job, 'id', id, 'meta', meta, 'queue', queue, 'state', 'queued', 'rev', 1, 'createdAt', now,
  'updatedAt', now, 'deadlineAt', deadlineAt, 'retentionMs', ARGV[12], 'fingerprint', fingerprint, 'principal', ARGV[21],
  'ending', '', 'cut', '0',
  'final', directoryCount == 0 and '1' or '0', 'filesTotal', files, 'filesPending', files - duplicates,
  'filesActive', 0, 'filesSucceeded', 0, 'filesAlreadyClean', 0, 'filesFailed', 0, 'filesSkipped', duplicates,
  'filesCanceled', 0, 'filesExpired', 0, 'bytesDone', 0, 'bytesMoving', 0, 'unsized', ARGV[13], 'bytesKnown', ARGV[14],
  'limitBps', ARGV[15], 'limitCpu', ARGV[16], 'faults', 0, 'rateFiles', 0, 'rateBytes', 0, 'fps', 0, 'bps', 0,
  'behind', used[3] or '0', 'chunks', chunkCount, 'chunksQueued', 0, 'directories', directoryCount, 'directoriesQueued', 0, 'directoriesDone', 0)
for i = 24, #ARGV, 3 do
  redis.call('HSET', job, 'w:' .. ARGV[i], ARGV[i + 1])
  if ARGV[i + 2] ~= '' then redis.call('HSET', job, 'wc:' .. ARGV[i], ARGV[i + 2]) end
end
local described = cjson.decode(meta)
local webhook = described.webhook
if webhook then redis.call('HSET', job, 'webhookEvents', table.concat(webhook.events, ' ')) end
if directoryCount > 0 then
  redis.call('HSET', runs, 'directories', directories)
  -- What an SCR transfer file lists is in the hands of its agent at once, and never waits.
  local isScr = type(described.options.scrTransferFile) == 'string'
  if ARGV[22] ~= '' and not isScr then redis.call('HSET', job, 'queuedFilesMost', ARGV[22]) end
end
redis.call('HSET', joinable, fingerprint, id)
answeredBy(id)
redis.call('ZADD', jobs, 0, id)
redis.call('ZADD', open, 0, id)
redis.call('ZADD', deadlines, deadlineAt, id)
redis.call('ZADD', outbox, now, id)
redis.call('HINCRBY', cache, 'jobsActive', 1)
use('jobsActive', 1)
use('jobsQueued', 1)
use('filesQueued', files - duplicates)
redis.call('ZADD', tag .. ':jobs-of:' .. ARGV[21], 0, id)
if isNode then redis.call('HINCRBY', cache, 'bytesQueued', ARGV[14]) end
redis.call('HINCRBY', cache, 'jobsKept', 1)
redis.call('HINCRBY', cache, 'jobs:queued', 1)
redis.call('HINCRBY', cache, 'filesQueued', files - duplicates)
if redis.call('HGET', queues, queue) ~= entry then
  redis.call('HSET', queues, queue, entry)
  redis.call('PUBLISH', tag .. ':registry', queue)
end
place()
redis.call('PUBLISH', tag .. ':changes', 'job ' .. id .. ' queued')
return { 'made', id }
`;

/** Removes an intake that has not become a job, and frees the key that it holds. */
const abort = `
if redis.call('HGET', KEYS[20], 'intake') == id then redis.call('DEL', KEYS[20]) end
if redis.call('EXISTS', job) == 1 then return 0 end
return redis.call('UNLINK', states, chunks, details, errors)
`;

export const INTAKE_SCRIPTS = {
  wbClaim: jobScript(claim, 1),
  wbCommit: jobScript(commit, 1),
  wbAbort: jobScript(abort, 1),
} as const;
