-- A courier writes a batch's images into archives, a part at a time, under a lease that each of its calls begins anew.
-- ARGV: batch, what, token (one per courier and batch), ms, part (JSON)
--   'claim'  take it, if it is due; the lease ends in `ms`
--   'hold'   it is still at it
--   'part'   it has written a part
--   'last'   it has written the last part: the batch has its archive
--   'later'  it gives up for now; the archive is due again in `ms`
-- Returns {account, outcome, parts written before, the last of them or ''}, or {} where there is nothing to do, or it is
-- another's by now.
local batch, what, token, part = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local name, list, due = P .. 'b:' .. batch, P .. 'ba:' .. batch, P .. 'bz'
local b = redis.call('HMGET', name, 'account', 'outcome', 'finished', 'archiver')
local at = redis.call('ZSCORE', due, batch)
local now = now_ms()

local function standing()
  return {b[1], b[2], redis.call('LLEN', list), redis.call('LINDEX', list, -1) or ''}
end

if not b[3] then -- it is gone, or runs once more
  redis.call('ZREM', due, batch)
  return {}
end
if what == 'last' and not at and b[4] == token then return standing() end -- the reply to this very call was lost
if not at then return {} end
if what == 'claim' then
  if tonumber(at) > now and b[4] ~= token then return {} end
  redis.call('HSET', name, 'archiver', token)
elseif b[4] ~= token then
  return {}
end
if (what == 'part' or what == 'last') and redis.call('LINDEX', list, -1) ~= part then redis.call('RPUSH', list, part) end
if what == 'last' then
  redis.call('HSET', name, 'archived', 1)
  redis.call('ZREM', due, batch)
else
  redis.call('ZADD', due, int(now + tonumber(ARGV[4])), batch)
end
return standing()
