-- A courier leases an outbox entry that is due: its score moves to the end of the lease, its attempts count up.
-- ARGV: entry, token (one per claim: a repeated claim is answered as the first was), lease (ms)
-- Returns {uid, account, event, attempt, created, calls made or nil, attempts that do not count or nil, since when it is
-- tried or nil}, or {} where there is nothing to do.
local P = '{dr}:'
local entry, token, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local hash = P .. 'ob:' .. entry
local due = redis.call('ZSCORE', P .. 'ob', entry)
if not due then return {} end
if redis.call('EXISTS', hash) == 0 then
  redis.call('ZREM', P .. 'ob', entry)
  return {}
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if tonumber(due) <= now then
  redis.call('ZADD', P .. 'ob', string.format('%.0f', now + lease), entry)
  redis.call('HINCRBY', hash, 'attempt', 1)
  redis.call('HSET', hash, 'token', token)
elseif redis.call('HGET', hash, 'token') ~= token then
  return {}
end
return redis.call('HMGET', hash, 'uid', 'account', 'event', 'attempt', 'created', 'told', 'spared',
  'since')
