import { jobScript } from './job-prelude.js';

/** The scripts that cut a job off, settle what is left of it, and delete it in the end. ARGV[1] and ARGV[2] are always the tag and the job's id. */

/** ARGV: tag, id. Returns the state. */
const cancel = `
local state = redis.call('HGET', job, 'state')
if not state then return false end
if TERMINAL[state] then return state end
startEnding('canceled')
return finish()
`;

/** ARGV: tag, id. Expires a job whose deadline has passed. */
const expire = `
local state = redis.call('HGET', job, 'state')
if not state or TERMINAL[state] then
  redis.call('ZREM', deadlines, id)
  return 0
end
expireIfDue()
if redis.call('HGET', job, 'ending') ~= '' then redis.call('ZREM', deadlines, id) end
finish()
return 1
`;

/**
 * Settles a slice of an ending job. ARGV: tag, id, first index, number of files, '1' for active ones too.
 * Returns the index to go on with, or -1 at the end.
 */
const settle = `
local v = redis.call('HMGET', job, 'state', 'ending')
if not v[1] or TERMINAL[v[1]] or v[2] == '' then
  redis.call('SREM', ending, id)
  return -1
end
local first, length = tonumber(ARGV[3]), tonumber(ARGV[4])
settleSpan(first, first + length - 1, ARGV[5] == '1')
if TERMINAL[finish()] or first + length >= redis.call('STRLEN', states) then return -1 end
return first + length
`;

/** Deletes an ended job after its retention. ARGV: tag, id, milliseconds for which it is told to be gone; KEYS[20] says so, and whose it was. */
const purge = `
local v = redis.call('HMGET', job, 'state', 'goneAt')
if v[1] and (not TERMINAL[v[1]] or now < tonumber(v[2])) then return 0 end
if v[1] then
  redis.call('HINCRBY', cache, 'jobsKept', -1)
  local owner = redis.call('HGET', job, 'principal') or 'local'
  redis.call('SET', KEYS[20], owner, 'PX', ARGV[3])
  redis.call('ZREM', tag .. ':jobs-of:' .. owner, id)
end
for _, event in ipairs({ 'job.started', 'job.failing', 'job.ended' }) do
  redis.call('ZREM', announced, id .. ' ' .. event)
  if redis.call('ZREM', undelivered, id .. ' ' .. event) == 1 then
    redis.call('HINCRBY', tag .. ':webhooks', 'failed', 1)
  end
end
redis.call('UNLINK', job, states, chunks, details, errors, runs, deliveries)
for _, index in ipairs({ jobs, open, lastChanges, deadlines, outbox, retention }) do redis.call('ZREM', index, id) end
redis.call('SREM', ending, id)
return 1
`;

export const ENDING_SCRIPTS = {
  wbCancel: jobScript(cancel),
  wbExpire: jobScript(expire),
  wbSettle: jobScript(settle),
  wbPurge: jobScript(purge, 1),
} as const;
