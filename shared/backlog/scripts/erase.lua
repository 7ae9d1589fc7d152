-- Forget a job that has ended. With a tombstone it is remembered for a while that there was one, and whose.
-- ARGV: uid, account, tombstone seconds (0: none)
-- Returns 'none' | 'not_finished' | 'ok'.
local uid, account, tombstone_s = ARGV[1], ARGV[2], tonumber(ARGV[3])
local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'account')
if j[2] ~= account then return 'none' end
if j[1] == 'queued' or j[1] == 'running' then return 'not_finished' end
erase(uid)
if tombstone_s > 0 then
  -- 128 uids share a hash: a few bytes each.
  local stone = P .. 't:' .. int(math.floor(tonumber(uid) / 128))
  redis.call('HSET', stone, int(tonumber(uid) % 128), account)
  redis.call('EXPIRE', stone, tombstone_s)
end
return 'ok'
