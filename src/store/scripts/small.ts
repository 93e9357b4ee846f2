import type { Script } from './job-prelude.js';

/** What is done most often, each with no more than the keys that it needs. */

/** A job and what it shows of its cache, in one answer. KEYS: job, cache. ARGV: fields of the cache. */
const show = `
return { redis.call('HGETALL', KEYS[1]), redis.call('HMGET', KEYS[2], unpack(ARGV)) }
`;

/**
 * A chunk of a list that is arriving: in one script, so that nothing is ever there without its expiry.
 * KEYS: chunks, states, details. ARGV: milliseconds, chunk, paths, index of its first file, state bytes, details or ''.
 */
const addChunk = `
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('SETRANGE', KEYS[2], ARGV[4], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[2] .. '.1', ARGV[6], ARGV[2] .. ':n', 1)
  redis.call('PEXPIRE', KEYS[3], ARGV[1])
end
return 1
`;

/** Counts a request. KEYS: its principal's. ARGV: most in a minute. Returns milliseconds to wait, or 0. */
const request = `
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], 60000) end
if n <= tonumber(ARGV[1]) then return 0 end
return math.max(1, redis.call('PTTL', KEYS[1]))
`;

export const SMALL_SCRIPTS = {
  wbRequest: { lua: request, numberOfKeys: 1 },
  wbShow: { lua: show, numberOfKeys: 2 },
  wbAddChunk: { lua: addChunk, numberOfKeys: 3 },
} as const satisfies Record<string, Script>;
