import type { Script } from './job-prelude.js';

/** The scripts that change what is kept about a cache. ARGV[1] is the tag, ARGV[2] the queue. */
const PRELUDE = `
local cache = KEYS[1]
local tag, queue = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Only what jobs show of their cache counts as a change: pause, hold, health.
local function changed()
  redis.call('HINCRBY', cache, 'rev', 1)
  redis.call('PUBLISH', tag .. ':changes', 'cache ' .. queue)
end
`;

/**
 * Limits in place of the configured ones. ARGV: tag, queue, and 'reset', or else inFlight and filesPerSecond:
 * '=' leaves one as it is; filesPerSecond '' is any number.
 */
const limits = `
if ARGV[3] == 'reset' then return redis.call('HDEL', cache, 'limit:inFlight', 'limit:filesPerSecond') end
if ARGV[3] ~= '=' then redis.call('HSET', cache, 'limit:inFlight', ARGV[3]) end
if ARGV[4] ~= '=' then redis.call('HSET', cache, 'limit:filesPerSecond', ARGV[4]) end
return 1
`;

/** ARGV: tag, queue, '1' or '0', reason. */
const pause = `
local v = redis.call('HMGET', cache, 'paused', 'pausedReason')
if (v[1] or '0') == ARGV[3] and (v[2] or '') == ARGV[4] then return 0 end
redis.call('HSET', cache, 'paused', ARGV[3], 'pausedReason', ARGV[4])
changed()
return 1
`;

/** ARGV: tag, queue, '1' if a file was flushed. Returns 1 if this ended a hold. */
const up = `
local v = redis.call('HMGET', cache, 'health', 'holdTries', 'breaker')
-- That a cache answers does not close its circuit breaker; a file that was flushed does.
local ends = v[2] and (v[3] ~= '1' or ARGV[3] == '1')
if v[1] == 'up' and not ends then return 0 end
redis.call('HSET', cache, 'health', 'up', 'healthDetail', '')
if ends then
  redis.call('HDEL', cache, 'holdTries', 'holdUntil', 'holdSince', 'holdCode', 'holdDetail', 'breaker')
end
changed()
return ends and 1 or 0
`;

/**
 * ARGV: tag, queue, code, message, shortest and longest pause in milliseconds, '1' if it answers, but the storage behind
 * it fails. Returns until, tries, milliseconds.
 */
const hold = `
local v = redis.call('HMGET', cache, 'holdUntil', 'holdTries', 'holdSince')
local untilMs, tries, since = tonumber(v[1] or '0'), tonumber(v[2] or '0'), tonumber(v[3] or now)
-- Several chunks notice the same outage: one pause for all of them.
if untilMs <= now then
  tries = tries + 1
  untilMs = now + math.min(tonumber(ARGV[6]), tonumber(ARGV[5]) * 2 ^ math.min(tries - 1, 20))
end
redis.call('HSET', cache, 'holdCode', ARGV[3], 'holdDetail', ARGV[4], 'holdUntil', untilMs, 'holdTries', tries,
  'holdSince', since)
if ARGV[7] == '1' then
  redis.call('HSET', cache, 'breaker', '1')
else
  redis.call('HSET', cache, 'health', 'down', 'healthDetail', ARGV[4])
  redis.call('HDEL', cache, 'breaker')
end
changed()
return { untilMs, tries, untilMs - now }
`;

/**
 * Shares out slots. Each worker holds the larger of what it was given and what it uses; the sum of that never exceeds
 * the limit, and what is given tends to the max-min fair share of what is wanted.
 * KEYS: cache, leases. ARGV: tag, queue, worker, in use, wanted, lease milliseconds, and the worker's configuration of
 * inFlight and filesPerSecond ('' is any number), and the slots of a trial, while the circuit breaker is not closed.
 * Returns slots, paused, both limits as they are in force, and whether it is a trial.
 */
const lease = `
local leases, worker = KEYS[2], ARGV[3]
local inUse, wanted, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local set = redis.call('HMGET', cache, 'paused', 'limit:inFlight', 'limit:filesPerSecond', 'breaker')
local paused, limit, perSecond = set[1] == '1', tonumber(set[2] or ARGV[7]), set[3] or ARGV[8]
local trial = set[4] == '1'
if trial then limit = math.min(limit, tonumber(ARGV[9])) end
if paused then wanted = 0 end
local me = { name = worker, inUse = inUse, wanted = wanted, starvedAt = 0 }
local sharers, held = { me }, 0
local stored = redis.call('HGETALL', leases)
for i = 1, #stored, 2 do
  local slots, used, wants, expires, starvedAt = stored[i + 1]:match('^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  if stored[i] == worker then
    me.starvedAt = tonumber(starvedAt)
  elseif tonumber(expires) <= now then
    redis.call('HDEL', leases, stored[i])
  else
    held = held + math.max(tonumber(slots), tonumber(used))
    sharers[#sharers + 1] = { name = stored[i], wanted = tonumber(wants), starvedAt = tonumber(starvedAt) }
  end
end
if inUse == 0 and wanted == 0 then
  redis.call('HDEL', leases, worker)
  return { 0, paused and 1 or 0, limit, perSecond, trial and 1 or 0 }
end
-- Small wishes first. Rounding favours the last, so those that have waited longest with nothing come last.
table.sort(sharers, function(a, b)
  if a.wanted ~= b.wanted then return a.wanted < b.wanted end
  local since, other = a.starvedAt == 0 and math.huge or a.starvedAt, b.starvedAt == 0 and math.huge or b.starvedAt
  if since ~= other then return since > other end
  return a.name < b.name
end)
local rest, fair = limit, 0
for i, sharer in ipairs(sharers) do
  local share = math.min(sharer.wanted, math.floor(rest / (#sharers - i + 1)))
  rest = rest - share
  if sharer == me then fair = share end
end
local slots = math.max(0, math.min(fair, limit - held))
if slots > 0 or wanted == 0 then
  me.starvedAt = 0
elseif me.starvedAt == 0 then
  me.starvedAt = now
end
redis.call('HSET', leases, worker, string.format('%.0f %.0f %.0f %.0f %.0f', slots, inUse, wanted, now + ttl, me.starvedAt))
redis.call('PEXPIRE', leases, ttl)
return { slots, paused and 1 or 0, limit, perSecond, trial and 1 or 0 }
`;

/**
 * Token bucket of flush starts. KEYS: cache, bucket. ARGV: tag, queue, per second, wanted.
 * Returns the number granted and the milliseconds to wait before asking again.
 */
const starts = `
local bucket = KEYS[2]
local rate, wanted = tonumber(ARGV[3]), tonumber(ARGV[4])
local at = time[1] * 1000000 + time[2]
local capacity = math.max(1, rate / 4)
local v = redis.call('HMGET', bucket, 'tokens', 'at')
local tokens = 1
if v[1] then tokens = math.min(capacity, tonumber(v[1]) + math.max(0, at - tonumber(v[2])) / 1000000 * rate) end
local granted = math.min(wanted, math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', bucket, 'tokens', string.format('%.9f', tokens), 'at', string.format('%.0f', at))
redis.call('PEXPIRE', bucket, math.ceil(math.max(60000, 2000 / rate)))
local missing = wanted - granted
if missing == 0 then return { granted, 0 } end
-- Half a bucket at a time: fewer questions, and still no burst.
local target = math.min(missing, math.max(1, math.floor(capacity / 2)))
return { granted, math.ceil(math.max(1, (target - tokens) / rate * 1000)) }
`;

/**
 * A worker or agent shows that it serves the queue, or that it leaves; without a name it is only looked who is there.
 * KEYS: cache, servers, queues. ARGV: tag, queue, name or '', '1' or '0', milliseconds of silence after which one counts
 * as gone, '1' if the queue must be in the registry. Returns how many there are.
 */
const serve = `
local servers, name, silentMs = KEYS[2], ARGV[3], tonumber(ARGV[5])
-- A worker may not have heard yet that the address was forgotten.
if ARGV[6] == '1' and redis.call('HEXISTS', KEYS[3], queue) == 0 then return 0 end
if name ~= '' then
  if ARGV[4] == '1' then redis.call('ZADD', servers, now, name) else redis.call('ZREM', servers, name) end
  redis.call('HSET', cache, 'servedAt', now)
end
redis.call('ZREMRANGEBYSCORE', servers, '-inf', now - silentMs)
local count = redis.call('ZCARD', servers)
local served = count > 0 and '1' or '0'
if (redis.call('HGET', cache, 'served') or '0') ~= served then
  redis.call('HSET', cache, 'served', served)
  changed()
end
return count
`;

/**
 * Puts a node into the registry of queues, because an agent serves it. KEYS: cache, queues. ARGV: tag, queue, what the
 * registry says of it. Returns 1 if the node is paused.
 */
const enlist = `
if redis.call('HSETNX', KEYS[2], queue, ARGV[3]) == 1 then redis.call('PUBLISH', tag .. ':registry', queue) end
return redis.call('HGET', cache, 'paused') == '1' and 1 or 0
`;

/**
 * Takes the queue of an address out of the registry when no job of it is kept. What was counted there goes to the sum of
 * those that are gone, so that no counter over all addresses ever falls. KEYS: cache, queues, leases, bucket, sum,
 * servers.
 */
const forget = `
if tonumber(redis.call('HGET', cache, 'jobsKept') or '0') > 0 or redis.call('HGET', cache, 'paused') == '1' then return 0 end
local row = redis.call('HGETALL', cache)
-- What an operator has set stays, as a pause does.
for i = 1, #row, 2 do
  if row[i]:find('^limit:') then return 0 end
end
for i = 1, #row, 2 do
  if row[i]:find('^jobs:') or row[i]:find('^ended:') then redis.call('HINCRBY', KEYS[5], row[i], row[i + 1]) end
end
redis.call('HDEL', KEYS[2], queue)
redis.call('UNLINK', cache, KEYS[3], KEYS[4], KEYS[6])
redis.call('PUBLISH', tag .. ':registry', queue)
return 1
`;

/**
 * Takes a node out of the registry when no job of it is kept, nothing of it lies on storage, and no agent was there for
 * long. KEYS: cache, queues, parts, servers. ARGV: tag, queue, milliseconds. Returns 1 if it is forgotten.
 */
const forgetNode = `
local v = redis.call('HMGET', cache, 'jobsKept', 'paused', 'served', 'servedAt')
if tonumber(v[1] or '0') > 0 or v[2] == '1' or v[3] == '1' or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
if now - tonumber(v[4] or '0') < tonumber(ARGV[3]) then return 0 end
redis.call('HDEL', KEYS[2], queue)
redis.call('UNLINK', cache, KEYS[4])
redis.call('PUBLISH', tag .. ':registry', queue)
return 1
`;

function cacheScript(lua: string, numberOfKeys: number): Script {
  return { lua: PRELUDE + lua, numberOfKeys };
}

export const CACHE_SCRIPTS = {
  wbPause: cacheScript(pause, 1),
  wbLimits: cacheScript(limits, 1),
  wbUp: cacheScript(up, 1),
  wbHold: cacheScript(hold, 1),
  wbLease: cacheScript(lease, 2),
  wbStarts: cacheScript(starts, 2),
  wbForget: cacheScript(forget, 6),
  wbServe: cacheScript(serve, 3),
  wbForgetNode: cacheScript(forgetNode, 4),
  wbEnlist: cacheScript(enlist, 2),
} as const;
