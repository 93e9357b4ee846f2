import { jobScript } from './job-prelude.js';

/** The scripts that note something about a job. ARGV[1] and ARGV[2] are always the tag and the job's id. */

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

export const TELLING_SCRIPTS = {
  wbWarn: jobScript(warn),
  wbSetDetail: jobScript(setDetail),
  wbEnqueued: jobScript(enqueued),
} as const;
