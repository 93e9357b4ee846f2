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
local job, states, chunks, details, errors, runs, cache, jobs, open, deadlines, outbox, retention, ending, queues = unpack(KEYS)
local tag, id = ARGV[1], ARGV[2]
local CHUNK = 512
local TERMINAL = { succeeded = true, partial = true, failed = true, canceled = true, expired = true }
local FIELD = { p = 'filesPending', a = 'filesActive', s = 'filesSucceeded', c = 'filesSucceeded', f = 'filesFailed',
  k = 'filesSkipped', x = 'filesCanceled', e = 'filesExpired' }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Applies differences by state letter to the job's counters and to those of its cache.
local function count(delta)
  local byField = {}
  for letter, n in pairs(delta) do
    byField[FIELD[letter]] = (byField[FIELD[letter]] or 0) + n
  end
  for field, n in pairs(byField) do
    if n ~= 0 then redis.call('HINCRBY', job, field, n) end
  end
  if (delta.c or 0) ~= 0 then redis.call('HINCRBY', job, 'filesAlreadyClean', delta.c) end
  if (delta.p or 0) ~= 0 then redis.call('HINCRBY', cache, 'filesQueued', delta.p) end
  if (delta.a or 0) ~= 0 then redis.call('HINCRBY', cache, 'filesActive', delta.a) end
end

-- Everything that a reader may see goes through here. Progress is told at most four times a second per job.
local function changed(state)
  redis.call('HINCRBY', job, 'rev', 1)
  redis.call('HSET', job, 'updatedAt', now)
  if state then
    redis.call('HSET', job, 'state', state)
  else
    local told = tonumber(redis.call('HGET', job, 'toldAt') or '0')
    if now - told < 250 and now >= told then return end
  end
  redis.call('HSET', job, 'toldAt', now)
  redis.call('PUBLISH', tag .. ':changes', 'job ' .. id .. ' ' .. (state or redis.call('HGET', job, 'state')))
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
  -- A retry wants to know what was expanded, and nothing else of it.
  if redis.call('HGET', job, 'directories') == '0' then redis.call('DEL', runs) end
  changed(state)
  return state
end

-- From here on nothing is begun; what has not ended yet is to be settled as 'why'.
local function startEnding(why)
  local v = redis.call('HMGET', job, 'ending', 'final')
  if v[1] ~= '' then return end
  redis.call('HSET', job, 'ending', why, 'final', '1', 'cut', v[2] == '1' and '0' or '1')
  redis.call('SADD', ending, id)
  redis.call('ZREM', outbox, id)
  redis.call('PUBLISH', tag .. ':endings', id .. ' ' .. why)
  changed(why == 'canceled' and 'canceling' or nil)
end

local function expireIfDue()
  local v = redis.call('HMGET', job, 'ending', 'deadlineAt')
  if v[1] == '' and now >= tonumber(v[2]) then startEnding('expired') end
end

local function settleSpan(first, last, activeToo)
  local letter = redis.call('HGET', job, 'ending') == 'expired' and 'e' or 'x'
  local span = redis.call('GETRANGE', states, first, last)
  local pending, active = 0, 0
  span, pending = span:gsub('p', letter)
  if activeToo then span, active = span:gsub('a', letter) end
  if pending + active == 0 then return end
  redis.call('SETRANGE', states, first, span)
  count({ p = -pending, a = -active, [letter] = pending + active })
  redis.call('HINCRBY', errors, letter == 'e' and 'n:DEADLINE' or 'n:CANCELED', pending + active)
  changed()
end

-- Newest estimate of the rates, exponentially weighted over some ten seconds; see rates.ts for how it is read.
local function sampleRates()
  local v = redis.call('HMGET', job, 'rateAt', 'rateFiles', 'rateBytes', 'fps', 'bps', 'filesSucceeded', 'filesFailed', 'bytesDone')
  if not v[1] then return end
  local elapsed = now - tonumber(v[1])
  if elapsed < 500 then return end
  local files, bytes = tonumber(v[6]) + tonumber(v[7]), tonumber(v[8])
  local keep = math.exp(-elapsed / 10000)
  local fps = tonumber(v[4]) * keep + (files - tonumber(v[2])) / elapsed * 1000 * (1 - keep)
  local bps = tonumber(v[5]) * keep + (bytes - tonumber(v[3])) / elapsed * 1000 * (1 - keep)
  redis.call('HSET', job, 'rateAt', now, 'rateFiles', files, 'rateBytes', string.format('%.0f', bytes),
    'fps', string.format('%.9g', fps), 'bps', string.format('%.9g', bps))
end

local function started()
  if redis.call('HSETNX', job, 'startedAt', now) == 1 then
    redis.call('HSET', job, 'rateAt', now)
  end
end

local function countErrors(codes)
  for code, n in pairs(codes) do redis.call('HINCRBY', errors, 'n:' .. code, n) end
end

local function addDetails(chunk, blob)
  local batch = redis.call('HINCRBY', details, chunk .. ':n', 1)
  redis.call('HSET', details, chunk .. '.' .. batch, blob)
end

-- Applies packed results to the bytes of one chunk; a file that has ended already is left alone.
-- updates: per file offset (2 bytes), new state byte, number of its code in 'codes' or 0 (255: evidence 'accepted'),
-- faults (2 bytes), size (double, -1 unknown)
local function apply(chunk, updates, blob, sentence, codeList, samples)
  local first = chunk * CHUNK
  local span = redis.call('GETRANGE', states, first, first + CHUNK - 1)
  local bytes = { span:byte(1, -1) }
  local codes = {}
  for code in codeList:gmatch('%S+') do codes[#codes + 1] = code end
  local delta, byCode, accepted, bytesDone, faults, unproven = {}, {}, 0, 0, 0, 0
  local position, number = 1, 0
  while position <= #updates do
    local offset, letterByte, code, fault, size
    offset, letterByte, code, fault, size, position = struct.unpack('>HBBHd', updates, position)
    number = number + 1
    local old = bytes[offset + 1]
    if old == 112 or old == 97 then
      local letter = string.char(letterByte)
      local oldLetter = string.char(old)
      bytes[offset + 1] = letterByte
      delta[oldLetter] = (delta[oldLetter] or 0) - 1
      delta[letter] = (delta[letter] or 0) + 1
      accepted = accepted + 1
      faults = faults + fault
      if size > 0 and (letter == 's' or letter == 'c') then bytesDone = bytesDone + size end
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
  if accepted == 0 then return 0 end
  redis.call('SETRANGE', states, first, string.char(unpack(bytes)))
  count(delta)
  countErrors(byCode)
  if bytesDone > 0 then redis.call('HINCRBY', job, 'bytesDone', string.format('%.0f', bytesDone)) end
  if faults > 0 then redis.call('HINCRBY', job, 'faults', faults) end
  if blob ~= '' then addDetails(chunk, blob) end
  -- Here and not by a call of its own, which could come after the end of the job.
  if unproven > 0 then
    redis.call('HSETNX', job, 'w:DIALECT_UNPROVEN', [[${UNPROVEN_WARNING}]])
    redis.call('HINCRBY', job, 'wc:DIALECT_UNPROVEN', unproven)
  end
  if sentence ~= '' and next(byCode) then redis.call('HSET', job, 'detail', sentence) end
  sampleRates()
  changed()
  return accepted
end

local function samplesFrom(position)
  local samples = {}
  for i = position, #ARGV, 2 do samples[tonumber(ARGV[i])] = ARGV[i + 1] end
  return samples
end
`;

/**
 * Makes an intake a job. ARGV: tag, id, meta, queue, registry entry, files, duplicates, chunks, directories as JSON or
 * '', their number, milliseconds to the deadline, retention milliseconds, channel-free warnings (code, message, count).
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
  'filesCanceled', 0, 'filesExpired', 0, 'bytesDone', 0, 'faults', 0, 'rateFiles', 0, 'rateBytes', 0, 'fps', 0, 'bps', 0,
  'chunks', chunkCount, 'chunksQueued', 0, 'directories', directoryCount, 'directoriesQueued', 0, 'directoriesDone', 0)
for i = 13, #ARGV, 3 do
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

/** ARGV: tag, id, chunk. Returns false, or run, state bytes, paths, meta, queue, deadline. */
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
return { run, span, blob, v[3], v[4], v[5] }
`;

/** ARGV: tag, id, chunk, updates, details, sentence, codes, then samples as pairs. Returns state and number accepted. */
const record = `
if redis.call('EXISTS', job) == 0 then return { 'gone', 0 } end
local accepted = apply(tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7], samplesFrom(8))
if TERMINAL[redis.call('HGET', job, 'state')] then return { redis.call('HGET', job, 'state'), accepted } end
expireIfDue()
local state = finish()
if redis.call('HGET', job, 'ending') == 'expired' and not TERMINAL[state] then state = 'expired' end
return { state, accepted }
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

/** Takes up a directory. ARGV: tag, id, directory. Returns false, or run, directories, meta, queue, deadline. */
const beginExpansion = `
local directory = ARGV[3]
local state = redis.call('HGET', job, 'state')
if not state or TERMINAL[state] then return false end
if tonumber(directory) >= tonumber(redis.call('HGET', job, 'directories')) then return false end
expireIfDue()
if redis.call('HGET', job, 'ending') ~= '' then
  finish()
  return false
end
if redis.call('HEXISTS', runs, 'd' .. directory .. ':done') == 1 then return false end
local run = redis.call('HINCRBY', runs, 'd' .. directory, 1)
redis.call('HDEL', runs, 'd' .. directory .. ':seq')
started()
changed(state ~= 'expanding' and 'expanding' or nil)
local v = redis.call('HMGET', job, 'meta', 'queue', 'deadlineAt')
return { run, redis.call('HGET', runs, 'directories'), v[1], v[2], v[3] }
`;

/**
 * Adds a chunk that a directory was expanded to. ARGV: tag, id, directory, run, sequence number within the run, most
 * files of a job, number of files, paths, then as for record: updates, details, sentence, codes, samples.
 */
const append = `
local directory, run, sequence = 'd' .. ARGV[3], ARGV[4], tonumber(ARGV[5])
local v = redis.call('HMGET', job, 'state', 'ending', 'chunks', 'filesTotal')
if not v[1] or TERMINAL[v[1]] or v[2] ~= '' then return 'ended' end
if redis.call('HGET', runs, directory) ~= run then return 'fenced' end
-- A command that is sent again after a lost connection has run already.
if sequence <= tonumber(redis.call('HGET', runs, directory .. ':seq') or '0') then return 'ok' end
local files, chunk = tonumber(ARGV[7]), tonumber(v[3])
-- A single entry that has ended already always fits: it may be the one that says why there are no more.
local fits = tonumber(v[4]) + files <= tonumber(ARGV[6]) or (files == 1 and ARGV[9] ~= '')
if not fits then return 'full' end
redis.call('HSET', runs, directory .. ':seq', sequence, 'c' .. chunk, ARGV[3])
redis.call('HSET', chunks, chunk, ARGV[8])
redis.call('SETRANGE', states, chunk * CHUNK, string.rep('p', files))
redis.call('HINCRBY', job, 'chunks', 1)
redis.call('HINCRBY', job, 'filesTotal', files)
count({ p = files })
if ARGV[9] ~= '' then
  apply(chunk, ARGV[9], ARGV[10], ARGV[11], ARGV[12], samplesFrom(13))
else
  changed()
end
redis.call('ZADD', outbox, now, id)
return 'ok'
`;

/** ARGV: tag, id, directory, run, files found, warning code, warning. */
const endExpansion = `
local directory = 'd' .. ARGV[3]
if redis.call('HGET', runs, directory) ~= ARGV[4] then return 0 end
if redis.call('HSETNX', runs, directory .. ':done', '1') == 0 then return 0 end
if ARGV[5] == '0' then
  redis.call('HSETNX', job, 'w:' .. ARGV[6], ARGV[7])
  redis.call('HINCRBY', job, 'wc:' .. ARGV[6], 1)
end
local done = redis.call('HINCRBY', job, 'directoriesDone', 1)
local v = redis.call('HMGET', job, 'directories', 'state')
if done >= tonumber(v[1]) then
  redis.call('HSET', job, 'final', '1')
  changed(v[2] == 'expanding' and 'running' or nil)
  finish()
else
  changed()
end
return 1
`;

/** ARGV: tag, id, code, message, count or ''. */
const warn = `
local state = redis.call('HGET', job, 'state')
if not state then return 0 end
local known = redis.call('HSETNX', job, 'w:' .. ARGV[3], ARGV[4]) == 0
if known and ARGV[5] == '' then return 0 end
if ARGV[5] ~= '' then redis.call('HINCRBY', job, 'wc:' .. ARGV[3], ARGV[5]) end
changed()
return 1
`;

/** ARGV: tag, id, sentence or ''. */
const setDetail = `
local state = redis.call('HGET', job, 'state')
if not state or TERMINAL[state] or (redis.call('HGET', job, 'detail') or '') == ARGV[3] then return 0 end
redis.call('HSET', job, 'detail', ARGV[3])
changed()
return 1
`;

/** What BullMQ has been given. ARGV: tag, id, chunks, directories. */
const enqueued = `
local v = redis.call('HMGET', job, 'state', 'chunks', 'chunksQueued', 'directories', 'directoriesQueued')
if not v[1] then
  redis.call('ZREM', outbox, id)
  return 0
end
local chunkMark = math.max(tonumber(v[3]), tonumber(ARGV[3]))
local directoryMark = math.max(tonumber(v[5]), tonumber(ARGV[4]))
redis.call('HSET', job, 'chunksQueued', chunkMark, 'directoriesQueued', directoryMark)
if TERMINAL[v[1]] or (chunkMark >= tonumber(v[2]) and directoryMark >= tonumber(v[4])) then
  redis.call('ZREM', outbox, id)
end
return 1
`;

/** Deletes an ended job after its retention. ARGV: tag, id, milliseconds for which it is told to be gone; KEYS[15] says so. */
const purge = `
local v = redis.call('HMGET', job, 'state', 'goneAt')
if v[1] and (not TERMINAL[v[1]] or now < tonumber(v[2])) then return 0 end
if v[1] then
  redis.call('HINCRBY', cache, 'jobsKept', -1)
  redis.call('SET', KEYS[15], '1', 'PX', ARGV[3])
end
redis.call('UNLINK', job, states, chunks, details, errors, runs)
for _, index in ipairs({ jobs, open, deadlines, outbox, retention }) do redis.call('ZREM', index, id) end
redis.call('SREM', ending, id)
return 1
`;

const JOB_KEYS = 14;

const withPrelude = (lua: string, keys: number = JOB_KEYS): { lua: string; numberOfKeys: number } => ({
  lua: PRELUDE + lua,
  numberOfKeys: keys,
});

export const JOB_SCRIPTS = {
  wbCommit: withPrelude(commit),
  wbAbort: withPrelude(abort),
  wbBegin: withPrelude(begin),
  wbRecord: withPrelude(record),
  wbRelease: withPrelude(release),
  wbCompact: withPrelude(compact),
  wbCancel: withPrelude(cancel),
  wbExpire: withPrelude(expire),
  wbSettle: withPrelude(settle),
  wbBeginExpansion: withPrelude(beginExpansion),
  wbAppend: withPrelude(append),
  wbEndExpansion: withPrelude(endExpansion),
  wbWarn: withPrelude(warn),
  wbSetDetail: withPrelude(setDetail),
  wbEnqueued: withPrelude(enqueued),
  wbPurge: withPrelude(purge, JOB_KEYS + 1),
} as const;
