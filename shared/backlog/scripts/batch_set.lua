-- Pause, resume, cancel a batch, or try once more what ended without pictures: one flip of its state. `feed` does the
-- rest, in slices.
-- ARGV: batch, account, 'pause' | 'resume' | 'cancel' | 'retry', nonce
-- Returns 'none' | 'ended' | 'not_failed' | 'insufficient_credits' | 'ok'.
local batch, account, what, nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name = P .. 'b:' .. batch
local b = redis.call('HMGET', name, 'status', 'account', 'reserved', 'failed', 'cancelled', 'expired', 'nonce')
if b[2] ~= account then return 'none' end
if b[7] == nonce then return 'ok' end -- the reply to this very call was lost
local status, reserved, now = b[1], tonumber(b[3]), now_ms()
local unfed = redis.call('LLEN', P .. 'bl:' .. batch)

-- Lines that were not fed begin (1) or cease (-1) to count.
local function defer(sign)
  if unfed == 0 then return end
  redis.call('HINCRBY', P .. 'count', 'deferred', int(sign * unfed))
  redis.call('HINCRBY', P .. 'a:' .. account, 'deferred', int(sign * unfed))
  if reserved == 0 then return end
  redis.call('HINCRBY', P .. 'a:' .. account, 'balance', int(-sign * reserved))
  redis.call('HINCRBY', P .. 'a:' .. account, 'reserved', int(sign * reserved))
end

if what == 'retry' then
  local lost = tonumber(b[4] or 0) + tonumber(b[5] or 0) + tonumber(b[6] or 0)
  if lost == 0 and not (status == 'cancelled' and unfed > 0) then return 'not_failed' end
  if status == 'cancelled' then
    if reserved > 0 and tonumber(redis.call('HGET', P .. 'a:' .. account, 'balance') or 0) < reserved then
      return 'insufficient_credits'
    end
    defer(1)
  end
  if status ~= 'paused' then reopen_batch(batch) end
  redis.call('HSET', name, 'retry', 0)
elseif status ~= 'running' and status ~= 'paused' then
  return 'ended'
elseif what == 'pause' then
  redis.call('HSET', name, 'status', 'paused', 'cursor', 0)
elseif what == 'resume' then
  redis.call('HSET', name, 'status', 'running')
else
  redis.call('HSET', name, 'status', 'cancelled')
  redis.call('HDEL', name, 'retry')
  defer(-1)
end
redis.call('HSET', name, 'nonce', nonce)
redis.call('SADD', P .. 'feeding', batch)
if what == 'cancel' then close_batch(batch, now) end
return 'ok'
