/** Of files with the evidence `accepted`; without brackets, for Lua. */
const UNPROVEN_WARNING =
  'The target answered OK at once and has never shown that it is an HPC Cache. A plain NFS server answers so too and means nothing by it: these files have the evidence "accepted". If it is a plain server, use the dialect rfc1813.';

/**
 * The scripts that change a job. All state lives here: a job's record, its counters, its state bytes and the indexes
 * change together in one script or not at all.
 *
 * Job:
 *   (intake) --commit--> queued --begin--> running            when no directories are to be expanded
 *                        queued --begin, beginExpansion--> expanding --last endExpansion--> running
 *   any of these --cancel--> canceling
 *   any of these --last file ended, final--> succeeded | partial | failed | canceled | expired
 * `ending` (canceled, expired) says that the rest is being cut off; the sweeper or the caller of cancel settles the
 * pending files in slices, workers settle the active ones. The end is decided in `finish`:
 *   ending, and something was cut off by it → that; else all good → succeeded, some → partial, none → failed.
 *
 * File, one byte each:
 *   p --begin--> a --record--> s c f e x        first terminal byte stays, whoever comes later
 *   a --release--> p                            only by the newest run of the chunk
 *   p, a --settle--> x e                        when the job is ending
 *   k                                           set at intake
 */
const PRELUDE = `
local job, states, chunks, details, errors, runs, cache, jobs, open, deadlines, outbox, retention, ending, queues, parts,
  joinable, lastChanges, deliveries, announced = unpack(KEYS)
local tag, id = ARGV[1], ARGV[2]
local CHUNK = 512
local TERMINAL = { succeeded = true, partial = true, failed = true, canceled = true, expired = true }
local FIELD = { p = 'filesPending', a = 'filesActive', s = 'filesSucceeded', c = 'filesSucceeded', f = 'filesFailed',
  k = 'filesSkipped', x = 'filesCanceled', e = 'filesExpired' }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What the jobs of its principal have under way, for quotas and fair shares. Only the job knows whose it is, so this key is not among
-- KEYS; it has the tag of all others.
local function use(field, n)
  local owner = redis.call('HGET', job, 'principal')
  if not owner then return end
  local usage = tag .. ':usage:' .. owner
  if redis.call('HINCRBY', usage, field, n) <= 0 then redis.call('HDEL', usage, field) end
end

-- Applies differences by state letter to the job's counters and to those of its cache and its principal.
local function count(delta)
  local byField = {}
  for letter, n in pairs(delta) do
    byField[FIELD[letter]] = (byField[FIELD[letter]] or 0) + n
  end
  for field, n in pairs(byField) do
    if n ~= 0 then redis.call('HINCRBY', job, field, n) end
  end
  if (delta.c or 0) ~= 0 then redis.call('HINCRBY', job, 'filesAlreadyClean', delta.c) end
  if (delta.p or 0) ~= 0 then
    redis.call('HINCRBY', cache, 'filesQueued', delta.p)
    use('filesQueued', delta.p)
  end
  if (delta.a or 0) ~= 0 then redis.call('HINCRBY', cache, 'filesActive', delta.a) end
  -- Files leave a terminal state never, so these only grow.
  for letter in ('scfxe'):gmatch('.') do
    if (delta[letter] or 0) ~= 0 then redis.call('HINCRBY', cache, 'ended:' .. letter, delta[letter]) end
  end
end

-- Bytes of the job: known, durable of files under way, or of files that succeeded. A node also knows what all its open
-- jobs have still to move.
local isNode = cache:find(':cache:node-', 1, true) ~= nil
local function moveBytes(field, bytes)
  if bytes == 0 then return end
  redis.call('HINCRBY', job, field, string.format('%.0f', bytes))
  if not isNode then return end
  redis.call('HINCRBY', cache, 'bytesQueued', string.format('%.0f', field == 'bytesKnown' and bytes or -bytes))
  if field == 'bytesDone' then redis.call('HINCRBY', cache, 'bytesDone', string.format('%.0f', bytes)) end
end

-- What ended in this minute, for the hour that the cache shows; see history.ts. The slot of an hour ago is taken over.
local function remember(delta, bytes)
  local succeeded, failed = (delta.s or 0) + (delta.c or 0), delta.f or 0
  if succeeded + failed == 0 then return end
  local minute = math.floor(now / 60000)
  local slot = 'minute:' .. minute % 60
  local known = redis.call('HGET', cache, slot) or ''
  local m, s, f, b = known:match('^(%d+) (%d+) (%d+) (%d+)$')
  if tonumber(m) ~= minute then s, f, b = 0, 0, 0 end
  redis.call('HSET', cache, slot, string.format('%d %.0f %.0f %.0f', minute, s + succeeded, f + failed, b + bytes))
end

-- Puts the job behind all that changed before it. In microseconds, so that places rise also after Redis has lost some.
local function place()
  local last = redis.call('ZREVRANGE', lastChanges, 0, 0, 'WITHSCORES')[2]
  local at = math.max(time[1] * 1000000 + time[2], tonumber(last or '0') + 1)
  redis.call('ZADD', lastChanges, string.format('%.0f', at), id)
end

-- Everything that a reader may see goes through here. Progress is told at most four times a second per job.
local function changed(state)
  redis.call('HINCRBY', job, 'rev', 1)
  redis.call('HSET', job, 'updatedAt', now)
  place()
  if state then
    if redis.call('HGET', job, 'state') == 'queued' then use('jobsQueued', -1) end
    redis.call('HSET', job, 'state', state)
    redis.call('HINCRBY', cache, 'jobs:' .. state, 1)
  else
    local told = tonumber(redis.call('HGET', job, 'toldAt') or '0')
    if now - told < 250 and now >= told then return end
  end
  redis.call('HSET', job, 'toldAt', now)
  redis.call('PUBLISH', tag .. ':changes', 'job ' .. id .. ' ' .. (state or redis.call('HGET', job, 'state')))
end

-- What waits to be told, by when it began to; for metrics, see webhook-gauges.ts.
local undelivered = tag .. ':undelivered'

-- What its webhook wants to be told: once per kind of event, and in the script that makes it true. Whoever calls
-- webhooks hears of it at once; should nobody, the sweeper finds it.
local function announce(event)
  local wanted = redis.call('HGET', job, 'webhookEvents')
  if not wanted or not (' ' .. wanted .. ' '):find(' ' .. event .. ' ', 1, true) then return end
  if redis.call('HSETNX', deliveries, event .. ':at', now) == 0 then return end
  redis.call('HSET', deliveries, event .. ':state', 'pending', event .. ':nextAt', now)
  redis.call('ZADD', announced, now, id .. ' ' .. event)
  redis.call('ZADD', undelivered, now, id .. ' ' .. event)
  redis.call('PUBLISH', tag .. ':announcements', id .. ' ' .. event)
end

local function endJoining()
  local fingerprint = redis.call('HGET', job, 'fingerprint')
  if fingerprint and redis.call('HGET', joinable, fingerprint) == id then redis.call('HDEL', joinable, fingerprint) end
end

local function finish()
  local v = redis.call('HMGET', job, 'state', 'final', 'filesPending', 'filesActive', 'filesSucceeded', 'filesFailed',
    'filesCanceled', 'filesExpired', 'ending', 'cut', 'deadlineAt', 'retentionMs')
  local state, why = v[1], v[9]
  if TERMINAL[state] or v[2] ~= '1' or v[3] ~= '0' or v[4] ~= '0' then return state end
  local succeeded, failed, canceled, expired = tonumber(v[5]), tonumber(v[6]), tonumber(v[7]), tonumber(v[8])
  -- Workers keep the deadline by their own clocks, so the last file may expire a moment before the job is marked.
  if why == '' and expired > 0 and now >= tonumber(v[11]) - 1000 then why = 'expired' end
  if why ~= '' and (canceled + expired > 0 or v[10] == '1') then
    state = why
  elseif failed + canceled + expired == 0 then
    state = 'succeeded'
  elseif succeeded > 0 then
    state = 'partial'
  else
    state = 'failed'
  end
  local goneAt = now + tonumber(v[12])
  redis.call('HSET', job, 'finishedAt', now, 'goneAt', goneAt)
  redis.call('ZREM', open, id)
  redis.call('ZREM', deadlines, id)
  redis.call('ZREM', outbox, id)
  redis.call('SREM', ending, id)
  redis.call('ZADD', retention, goneAt, id)
  redis.call('HINCRBY', cache, 'jobsActive', -1)
  use('jobsActive', -1)
  if isNode then
    local b = redis.call('HMGET', job, 'bytesKnown', 'bytesDone', 'bytesMoving')
    redis.call('HINCRBY', cache, 'bytesQueued', string.format('%.0f', b[2] + b[3] - b[1]))
  end
  endJoining()
  -- A retry wants to know what was expanded, and nothing else of it.
  if redis.call('HGET', job, 'directories') == '0' then redis.call('DEL', runs) end
  changed(state)
  announce('job.ended')
  return state
end

-- Keeps what a job waited for that is not its own, for the files that nobody had in hand; see waiting.ts.
local function waitedFor()
  local v = redis.call('HMGET', cache, 'paused', 'pausedReason', 'served', 'servedAt', 'holdSince', 'holdCode',
    'holdDetail')
  if v[1] == '1' then
    redis.call('HSET', job, 'waitedFor', 'paused', 'waitedWhy', v[2] or '')
  elseif v[3] ~= '1' then
    redis.call('HSET', job, 'waitedFor', 'unserved', 'waitedSince', v[4] or '')
  elseif v[5] then
    redis.call('HSET', job, 'waitedFor', 'held', 'waitedSince', v[5], 'waitedCode', v[6] or '', 'waitedWhy', v[7] or '')
  elseif redis.call('HEXISTS', job, 'waitsForRoom') == 1 then
    redis.call('HSET', job, 'waitedFor', 'room')
  end
end

-- From here on nothing is begun; what has not ended yet is to be settled as 'why'.
local function startEnding(why)
  local v = redis.call('HMGET', job, 'ending', 'final')
  if v[1] ~= '' then return end
  redis.call('HSET', job, 'ending', why, 'final', '1', 'cut', v[2] == '1' and '0' or '1')
  redis.call('SADD', ending, id)
  if why == 'expired' then waitedFor() end
  endJoining()
  redis.call('ZREM', outbox, id)
  redis.call('PUBLISH', tag .. ':endings', id .. ' ' .. why)
  changed(why == 'canceled' and 'canceling' or nil)
end

local function expireIfDue()
  local v = redis.call('HMGET', job, 'ending', 'deadlineAt')
  if v[1] == '' and now >= tonumber(v[2]) then startEnding('expired') end
end

-- Bytes of a file under way count as moved. When it ends they do not any more: then its size counts, or nothing.
-- 'gone' says that its temporary file is no more; else what is kept of it lets an agent remove that.
local function endPart(index, gone)
  local field = id .. ':' .. index
  local part = redis.call('HGET', parts, field)
  if not part then return end
  local durable, rest = part:match('^(%d+) (.*)$')
  moveBytes('bytesMoving', -tonumber(durable))
  if gone then
    redis.call('HDEL', parts, field)
  elseif durable ~= '0' then
    redis.call('HSET', parts, field, '0 ' .. rest)
  end
end

local function endParts(first, last)
  if redis.call('EXISTS', parts) == 0 then return end
  for _, field in ipairs(redis.call('HKEYS', parts)) do
    local owner, index = field:match('^(.*):(%d+)$')
    index = tonumber(index)
    -- What stays active is ended by its agent.
    if owner == id and index >= first and index <= last and redis.call('GETRANGE', states, index, index) ~= 'a' then
      endPart(string.format('%.0f', index), false)
    end
  end
end

local function settleSpan(first, last, activeToo)
  local letter = redis.call('HGET', job, 'ending') == 'expired' and 'e' or 'x'
  local span = redis.call('GETRANGE', states, first, last)
  local pending, active = 0, 0
  span, pending = span:gsub('p', letter)
  if activeToo then span, active = span:gsub('a', letter) end
  if pending + active == 0 then return end
  redis.call('SETRANGE', states, first, span)
  endParts(first, last)
  count({ p = -pending, a = -active, [letter] = pending + active })
  redis.call('HINCRBY', errors, letter == 'e' and 'n:DEADLINE' or 'n:CANCELED', pending + active)
  changed()
end

-- Newest estimate of the rates, exponentially weighted over some ten seconds; see rates.ts for how it is read.
local function sampleRates()
  local v = redis.call('HMGET', job, 'rateAt', 'rateFiles', 'rateBytes', 'fps', 'bps', 'filesSucceeded', 'filesFailed', 'bytesDone', 'bytesMoving')
  if not v[1] then return end
  local elapsed = now - tonumber(v[1])
  if elapsed < 500 then return end
  local files, bytes = tonumber(v[6]) + tonumber(v[7]), tonumber(v[8]) + tonumber(v[9])
  local keep = math.exp(-elapsed / 10000)
  local fps = tonumber(v[4]) * keep + (files - tonumber(v[2])) / elapsed * 1000 * (1 - keep)
  local bps = tonumber(v[5]) * keep + math.max(0, bytes - tonumber(v[3])) / elapsed * 1000 * (1 - keep)
  redis.call('HSET', job, 'rateAt', now, 'rateFiles', files, 'rateBytes', string.format('%.0f', bytes),
    'fps', string.format('%.9g', fps), 'bps', string.format('%.9g', bps))
end

local function started()
  if redis.call('HSETNX', job, 'startedAt', now) == 1 then
    redis.call('HSET', job, 'rateAt', now)
    announce('job.started')
  end
end

local function countErrors(codes)
  for code, n in pairs(codes) do redis.call('HINCRBY', errors, 'n:' .. code, n) end
end

-- Returns in how many blobs the details of the chunk lie now.
local function addDetails(chunk, blob)
  local batch = redis.call('HINCRBY', details, chunk .. ':n', 1)
  redis.call('HSET', details, chunk .. '.' .. batch, blob)
  return batch + redis.call('HEXISTS', details, chunk)
end

-- Applies packed results to the bytes of one chunk; a file that has ended already is left alone.
-- updates: per file offset (2 bytes), new state byte, number of its code in 'codes' or 0 (255: evidence 'accepted'),
-- faults (2 bytes), size (double, -1 unknown)
-- Returns how many were accepted, and in how many blobs the details lie (0: none was added).
local function apply(chunk, updates, blob, sentence, codeList, samples)
  local first = chunk * CHUNK
  local span = redis.call('GETRANGE', states, first, first + CHUNK - 1)
  local bytes = { span:byte(1, -1) }
  local codes = {}
  for code in codeList:gmatch('%S+') do codes[#codes + 1] = code end
  local byByte, byCode, accepted, bytesDone, faults, unproven, blobs = {}, {}, 0, 0, 0, 0, 0
  local position, number = 1, 0
  local hasParts = redis.call('EXISTS', parts) == 1
  local unpackUpdate = struct.unpack
  while position <= #updates do
    local offset, letterByte, code, fault, size
    offset, letterByte, code, fault, size, position = unpackUpdate('>HBBHd', updates, position)
    number = number + 1
    local old = bytes[offset + 1]
    -- Whoever says that a copy has ended has no temporary file any more.
    if hasParts then endPart(string.format('%.0f', first + offset), true) end
    -- From p (112) or a (97); bytes count where they are those of s (115) or c (99).
    if old == 112 or old == 97 then
      bytes[offset + 1] = letterByte
      byByte[old] = (byByte[old] or 0) - 1
      byByte[letterByte] = (byByte[letterByte] or 0) + 1
      accepted = accepted + 1
      faults = faults + fault
      if size > 0 and (letterByte == 115 or letterByte == 99) then bytesDone = bytesDone + size end
      if code == 255 then
        unproven = unproven + 1
      elseif code > 0 then
        local name = codes[code]
        byCode[name] = (byCode[name] or 0) + 1
        local sample = samples[number]
        if sample then
          local known = tonumber(redis.call('HGET', errors, 'n:' .. name) or '0') + byCode[name]
          if known <= 5 then redis.call('HSET', errors, 's:' .. name .. ':' .. known, sample) end
        end
      end
    end
  end
  if accepted == 0 then return 0, 0 end
  redis.call('SETRANGE', states, first, string.char(unpack(bytes)))
  local delta = {}
  for byte, n in pairs(byByte) do delta[string.char(byte)] = n end
  count(delta)
  remember(delta, bytesDone)
  countErrors(byCode)
  moveBytes('bytesDone', bytesDone)
  if faults > 0 then redis.call('HINCRBY', job, 'faults', faults) end
  if blob ~= '' then blobs = addDetails(chunk, blob) end
  -- Here and not by a call of its own, which could come after the end of the job.
  if unproven > 0 then
    redis.call('HSETNX', job, 'w:DIALECT_UNPROVEN', [[${UNPROVEN_WARNING}]])
    redis.call('HINCRBY', job, 'wc:DIALECT_UNPROVEN', unproven)
  end
  if sentence ~= '' and next(byCode) then redis.call('HSET', job, 'detail', sentence) end
  sampleRates()
  changed()
  if (delta.f or 0) + (delta.e or 0) > 0 then announce('job.failing') end
  return accepted, blobs
end

local function samplesFrom(position)
  local samples = {}
  for i = position, #ARGV, 2 do samples[tonumber(ARGV[i])] = ARGV[i + 1] end
  return samples
end
`;

/** Keys that every script on a job takes; see Keys.ofJob. */
const JOB_KEYS = 19;

export interface Script {
  lua: string;
  numberOfKeys: number;
}

/** @param moreKeys how many keys the script takes behind those of the job */
export function jobScript(lua: string, moreKeys = 0): Script {
  return { lua: PRELUDE + lua, numberOfKeys: JOB_KEYS + moreKeys };
}
