-- A courier tells how an attempt ended.
-- ARGV: entry, attempt, verdict ('delivered' | 'retry' | 'later' | 'dead' | 'dropped'), delay (ms, for retry and later),
--       HTTP status or '', error or '', then what the log keeps of each call, as JSON
-- 'later' is a retry that leaves the count of attempts as it was; what is 'dropped' is not kept.
-- Returns the verdict that holds, 'stale' where a later attempt has begun, or 'gone'.
local P = '{dr}:'
-- A delivered entry is remembered for people to ask about, a dead one for longer.
local DELIVERED_S = 3 * 24 * 3600
local DROPPED_S = 120
local DEAD_S = 30 * 24 * 3600
local DEAD_KEPT = 10000
-- The log: of a job and of an account, the latest calls.
local LOG_S = 7 * 24 * 3600
local LOG_JOB, LOG_ACCOUNT = 50, 200
local entry, attempt, verdict = ARGV[1], ARGV[2], ARGV[3]
local hash = P .. 'ob:' .. entry
local h = redis.call('HMGET', hash, 'attempt', 'done', 'account', 'uid')
if not h[1] then return 'gone' end
local done = h[2] or ''
if done == attempt .. ':' .. verdict then return verdict end
if string.match(done, ':delivered$') then return 'delivered' end
-- What has been delivered has been, however late the courier tells.
if h[1] ~= attempt and verdict ~= 'delivered' then return 'stale' end

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function int(x) return string.format('%.0f', x) end
redis.call('HSET', hash, 'done', attempt .. ':' .. verdict, 'at', int(now), 'status', ARGV[5], 'error', ARGV[6])
-- Of a job or a batch that was erased nothing is kept.
local logged = redis.call('EXISTS', P .. 'j:' .. h[4], P .. 'b:' .. h[4]) == 1 and #ARGV or 0
for i = 7, logged do
  local line = int(now) .. ' ' .. entry .. ' ' .. attempt .. ' ' .. ARGV[i]
  for list, kept in pairs({[P .. 'told:' .. h[4]] = LOG_JOB, [P .. 'told:a:' .. h[3]] = LOG_ACCOUNT}) do
    redis.call('RPUSH', list, line)
    redis.call('LTRIM', list, -kept, -1)
    redis.call('EXPIRE', list, LOG_S)
  end
end
if verdict == 'later' then redis.call('HINCRBY', hash, 'spared', 1) end
if verdict == 'retry' or verdict == 'later' then
  redis.call('ZADD', P .. 'ob', int(now + tonumber(ARGV[4])), entry)
  return verdict
end
redis.call('ZREM', P .. 'ob', entry)
local own = P .. 'ob:dead:' .. h[3]
if verdict == 'dead' then
  redis.call('ZREMRANGEBYSCORE', P .. 'ob:dead', '-inf', int(now - DEAD_S * 1000))
  redis.call('ZADD', P .. 'ob:dead', int(now), entry)
  redis.call('ZREMRANGEBYSCORE', own, '-inf', int(now - DEAD_S * 1000))
  redis.call('ZADD', own, int(now), entry)
  redis.call('ZREMRANGEBYRANK', own, 0, -DEAD_KEPT - 1)
  redis.call('EXPIRE', own, DEAD_S)
  redis.call('EXPIRE', hash, DEAD_S)
else
  redis.call('ZREM', P .. 'ob:dead', entry)
  redis.call('ZREM', own, entry)
  redis.call('EXPIRE', hash, verdict == 'dropped' and DROPPED_S or DELIVERED_S)
end
return verdict
