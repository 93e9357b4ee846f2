import { jobScript } from './job-prelude.js';

/** The scripts that only transfers need. ARGV[1] and ARGV[2] are always the tag and the job's id. */

/**
 * What agents report of copies under way. ARGV: tag, id, '1' if a pending file becomes active by it, then per file:
 * index, bytes durable, what else is kept of it. Returns how the job is ending ('' if it is not, 'gone'), and its limits.
 */
const progress = `
local v = redis.call('HMGET', job, 'state', 'ending', 'limitBps', 'limitCpu')
if not v[1] then return { 'gone', '', '' } end
if TERMINAL[v[1]] then return { v[1] == 'expired' and 'expired' or 'canceled', v[3], v[4] } end
expireIfDue()
v[2] = redis.call('HGET', job, 'ending')
if v[2] ~= '' then return { v[2], v[3], v[4] } end
local moved, active = 0, 0
for i = 4, #ARGV, 3 do
  local index, durable = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local state = redis.call('GETRANGE', states, index, index)
  if state == 'p' and ARGV[3] == '1' then
    redis.call('SETRANGE', states, index, 'a')
    active = active + 1
    state = 'a'
  end
  if state == 'a' then
    local field = id .. ':' .. ARGV[i]
    local before = redis.call('HGET', parts, field)
    moved = moved + durable - (before and tonumber(before:match('^%d+')) or 0)
    redis.call('HSET', parts, field, ARGV[i + 1] .. ' ' .. ARGV[i + 2])
  end
end
if active > 0 then
  count({ p = -active, a = active })
  started()
end
moveBytes('bytesMoving', moved)
if moved ~= 0 or active > 0 then
  sampleRates()
  changed()
end
return { '', v[3], v[4] }
`;

/** Sizes of files of a chunk that were not known. ARGV: tag, id, chunk, files, bytes. Counts once per chunk. */
const sizes = `
local v = redis.call('HGET', job, 'state')
if not v or TERMINAL[v] or redis.call('HSETNX', runs, 'z' .. ARGV[3], '1') == 0 then return 0 end
redis.call('HINCRBY', job, 'unsized', '-' .. ARGV[4])
moveBytes('bytesKnown', tonumber(ARGV[5]))
changed()
return 1
`;

/** ARGV: tag, id, then names of fields and values. Returns the state, or false. */
const setLimits = `
local state = redis.call('HGET', job, 'state')
if not state or TERMINAL[state] then return state end
for i = 3, #ARGV, 2 do redis.call('HSET', job, ARGV[i], ARGV[i + 1]) end
redis.call('PUBLISH', tag .. ':limits', id)
changed(state)
return state
`;

export const TRANSFER_SCRIPTS = {
  wbProgress: jobScript(progress),
  wbSizes: jobScript(sizes),
  wbSetLimits: jobScript(setLimits),
} as const;
