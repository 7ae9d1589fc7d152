-- A courier has made one of an entry's calls and goes on to the next: that one is not made again, and the lease begins
-- anew.
-- ARGV: entry, attempt, calls made, lease (ms)
-- Returns 1, or 0 where a later attempt has begun or the entry is gone.
local P = '{dr}:'
local entry, attempt, lease = ARGV[1], ARGV[2], tonumber(ARGV[4])
local hash = P .. 'ob:' .. entry
if redis.call('HGET', hash, 'attempt') ~= attempt then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', hash, 'told', ARGV[3])
redis.call('ZADD', P .. 'ob', 'XX', string.format('%.0f', now + lease), entry)
return 1
