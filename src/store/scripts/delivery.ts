import { jobScript } from './job-prelude.js';

/**
 * The scripts of what webhooks are told. ARGV[1] and ARGV[2] are always the tag and the job's id, ARGV[3] the event.
 *
 * Delivery: (nothing) --announce--> pending --attempt--> delivered | failed, or pending again until `nextAt`
 *           any of these --resend--> pending
 *
 * Fields, each behind `<event>:`: at, state, nextAt, deliveredAt, body, attempts (in all), tries (since it was sent
 * last), log:<attempt modulo 20>.
 */

/** Keeps the body of the first time, so that every attempt says the same. ARGV: …, body. Returns state, nextAt, tries, body; or false. */
const beginDelivery = `
local event = ARGV[3]
if redis.call('EXISTS', job) == 0 or redis.call('HEXISTS', deliveries, event .. ':at') == 0 then
  redis.call('ZREM', announced, id .. ' ' .. event)
  redis.call('ZREM', undelivered, id .. ' ' .. event)
  return false
end
redis.call('HSETNX', deliveries, event .. ':body', ARGV[4])
return redis.call('HMGET', deliveries, event .. ':state', event .. ':nextAt', event .. ':tries', event .. ':body')
`;

/** ARGV: …, attempt as JSON, state it leads to, milliseconds until the next one. Returns when that is, or 0. */
const recordAttempt = `
local event, state = ARGV[3], ARGV[5]
if redis.call('HEXISTS', deliveries, event .. ':at') == 0 then return 0 end
local attempts = redis.call('HINCRBY', deliveries, event .. ':attempts', 1)
redis.call('HINCRBY', deliveries, event .. ':tries', 1)
redis.call('HSET', deliveries, event .. ':log:' .. attempts % 20, ARGV[4], event .. ':state', state)
redis.call('HINCRBY', tag .. ':webhooks', state == 'pending' and 'retried' or state, 1)
if state == 'pending' then
  local nextAt = now + tonumber(ARGV[6])
  redis.call('HSET', deliveries, event .. ':nextAt', nextAt)
  -- Looked at only if whoever has it in hand is gone by then.
  redis.call('ZADD', announced, nextAt + 60000, id .. ' ' .. event)
  -- One that a version announced which did not count them.
  redis.call('ZADD', undelivered, 'NX', redis.call('HGET', deliveries, event .. ':at'), id .. ' ' .. event)
  return nextAt
end
if state == 'delivered' then redis.call('HSET', deliveries, event .. ':deliveredAt', now) end
redis.call('HDEL', deliveries, event .. ':nextAt')
redis.call('ZREM', announced, id .. ' ' .. event)
redis.call('ZREM', undelivered, id .. ' ' .. event)
return 0
`;

/** Returns 0 if there is no such delivery. */
const resend = `
local event = ARGV[3]
if redis.call('HEXISTS', deliveries, event .. ':at') == 0 then return 0 end
redis.call('HSET', deliveries, event .. ':state', 'pending', event .. ':nextAt', now, event .. ':tries', 0)
redis.call('HDEL', deliveries, event .. ':deliveredAt')
redis.call('ZADD', announced, now, id .. ' ' .. event)
redis.call('ZADD', undelivered, now, id .. ' ' .. event)
return 1
`;

export const DELIVERY_SCRIPTS = {
  wbBeginDelivery: jobScript(beginDelivery),
  wbRecordAttempt: jobScript(recordAttempt),
  wbResend: jobScript(resend),
} as const;
