import { jobScript } from './job-prelude.js';

/** The scripts with which workers take up chunks and tell what became of their files. ARGV[1] and ARGV[2] are always the tag and the job's id. */

/** ARGV: tag, id, chunk. Returns false, or run, state bytes, paths, meta, queue, deadline, and of a held cache code, since and message. */
const begin = `
local chunk = tonumber(ARGV[3])
local state = redis.call('HGET', job, 'state')
if not state or TERMINAL[state] then return false end
local blob = redis.call('HGET', chunks, chunk)
if not blob then return false end
expireIfDue()
local first = chunk * CHUNK
local last = first + CHUNK - 1
local v = redis.call('HMGET', job, 'ending', 'final', 'meta', 'queue', 'deadlineAt')
if v[1] ~= '' then
  -- Whoever had this chunk before has lost it, else it would not be begun anew: its active files end here too.
  settleSpan(first, last, true)
  finish()
  return false
end
local run = redis.call('HINCRBY', runs, chunk, 1)
local span, pending = redis.call('GETRANGE', states, first, last):gsub('p', 'a')
if pending > 0 then
  redis.call('SETRANGE', states, first, span)
  count({ p = -pending, a = pending })
end
if not span:find('a', 1, true) then return false end
started()
local wanted = v[2] == '1' and 'running' or 'expanding'
state = redis.call('HGET', job, 'state')
changed(state ~= wanted and wanted or nil)
local hold = redis.call('HMGET', cache, 'holdCode', 'holdSince', 'holdDetail')
return { run, span, blob, v[3], v[4], v[5], hold[1] or '', hold[2] or '', hold[3] or '' }
`;

/**
 * ARGV: tag, id, chunk, updates, details, sentence, codes, then samples as pairs. Returns state, number accepted, and in
 * how many blobs the details of the chunk lie if this added one.
 */
const record = `
if redis.call('EXISTS', job) == 0 then return { 'gone', 0, 0 } end
local accepted, blobs = apply(tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7], samplesFrom(8))
local state = redis.call('HGET', job, 'state')
if TERMINAL[state] then return { state, accepted, blobs } end
expireIfDue()
state = finish()
if redis.call('HGET', job, 'ending') == 'expired' and not TERMINAL[state] then state = 'expired' end
return { state, accepted, blobs }
`;

/** ARGV: tag, id, chunk, run. Returns how many files were given back. */
const release = `
local chunk = tonumber(ARGV[3])
if redis.call('HGET', runs, chunk) ~= ARGV[4] then return 0 end
local first = chunk * CHUNK
if redis.call('HGET', job, 'ending') ~= '' then
  settleSpan(first, first + CHUNK - 1, true)
  finish()
  return 0
end
local span, active = redis.call('GETRANGE', states, first, first + CHUNK - 1):gsub('a', 'p')
if active == 0 then return 0 end
redis.call('SETRANGE', states, first, span)
count({ p = active, a = -active })
changed()
return active
`;

/** ARGV: tag, id, chunk, batches seen, packed details. False if another batch came meanwhile. */
const compact = `
local chunk, batches = ARGV[3], ARGV[4]
if redis.call('HGET', details, chunk .. ':n') ~= batches then return 0 end
redis.call('HSET', details, chunk, ARGV[5])
for i = 1, tonumber(batches) do redis.call('HDEL', details, chunk .. '.' .. i) end
redis.call('HDEL', details, chunk .. ':n')
return 1
`;

export const CHUNK_SCRIPTS = {
  wbBegin: jobScript(begin),
  wbRecord: jobScript(record),
  wbRelease: jobScript(release),
  wbCompact: jobScript(compact),
} as const;
