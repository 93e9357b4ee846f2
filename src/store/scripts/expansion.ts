import { jobScript } from './job-prelude.js';

/** The scripts with which workers add to a job what its directories hold. ARGV[1] and ARGV[2] are always the tag and the job's id. */

/**
 * Files that the quota of the job's principal leaves room for, or nil without one. What does not fit waits for room and
 * is no fault, so the job says that it waits.
 */
const ROOM = `
local function room()
  local most = redis.call('HGET', job, 'queuedFilesMost')
  if not most then return nil end
  local used = redis.call('HGET', tag .. ':usage:' .. redis.call('HGET', job, 'principal'), 'filesQueued')
  return math.max(0, tonumber(most) - tonumber(used or '0'))
end
local function waitForRoom()
  if redis.call('HSETNX', job, 'waitsForRoom', '1') == 1 then changed() end
end
`;

/** Takes up a directory. ARGV: tag, id, directory. Returns false, 'no room', or run, directories, meta, queue, deadline. */
const beginExpansion = `
${ROOM}
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
if room() == 0 then
  waitForRoom()
  return 'no room'
end
local run = redis.call('HINCRBY', runs, 'd' .. directory, 1)
redis.call('HDEL', runs, 'd' .. directory .. ':seq')
started()
changed(state ~= 'expanding' and 'expanding' or nil)
local v = redis.call('HMGET', job, 'meta', 'queue', 'deadlineAt')
return { run, redis.call('HGET', runs, 'directories'), v[1], v[2], v[3] }
`;

/**
 * Adds a chunk that a directory was expanded to. ARGV: tag, id, directory, run, sequence number within the run, most
 * files of a job, number of files, entries, files of unknown size, bytes of the others, then as for record: updates,
 * details, sentence, codes, samples. Returns a word, or of files that wait and do not all fit how many would.
 */
const append = `
${ROOM}
local directory, run, sequence = 'd' .. ARGV[3], ARGV[4], tonumber(ARGV[5])
local v = redis.call('HMGET', job, 'state', 'ending', 'chunks', 'filesTotal')
if not v[1] or TERMINAL[v[1]] or v[2] ~= '' then return 'ended' end
if redis.call('HGET', runs, directory) ~= run then return 'fenced' end
-- A command that is sent again after a lost connection has run already.
if sequence <= tonumber(redis.call('HGET', runs, directory .. ':seq') or '0') then return 'ok' end
local files, chunk = tonumber(ARGV[7]), tonumber(v[3])
-- A single entry that has ended already always fits: it may be the one that says why there are no more.
local fits = tonumber(v[4]) + files <= tonumber(ARGV[6]) or (files == 1 and ARGV[11] ~= '')
if not fits then return 'full' end
if ARGV[11] == '' then
  local left = room()
  if left and left < files then
    waitForRoom()
    return left
  end
  redis.call('HDEL', job, 'waitsForRoom')
end
redis.call('HSET', runs, directory .. ':seq', sequence, 'c' .. chunk, ARGV[3])
redis.call('HSET', chunks, chunk, ARGV[8])
redis.call('SETRANGE', states, chunk * CHUNK, string.rep('p', files))
redis.call('HINCRBY', job, 'chunks', 1)
redis.call('HINCRBY', job, 'filesTotal', files)
redis.call('HINCRBY', job, 'unsized', ARGV[9])
moveBytes('bytesKnown', tonumber(ARGV[10]))
count({ p = files })
if ARGV[11] ~= '' then
  apply(chunk, ARGV[11], ARGV[12], ARGV[13], ARGV[14], samplesFrom(15))
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
redis.call('HDEL', job, 'waitsForRoom')
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

export const EXPANSION_SCRIPTS = {
  wbBeginExpansion: jobScript(beginExpansion),
  wbAppend: jobScript(append),
  wbEndExpansion: jobScript(endExpansion),
} as const;
