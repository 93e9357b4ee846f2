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

export const SMALL_SCRIPTS = {
  wbShow: { lua: show, numberOfKeys: 2 },
  wbAddChunk: { lua: addChunk, numberOfKeys: 3 },
} as const satisfies Record<string, Script>;
