-- Put an account on a plan, with its bounds as they are now; what they let go is served at once.
-- ARGV: account, plan, weight, most waiting, most running
-- Returns {'ok' | 'none', woken nodes}.
local account, key = ARGV[1], P .. 'a:' .. ARGV[1]
if redis.call('HEXISTS', key, 'name') == 0 then return {'none', {}} end
redis.call('HSET', key, 'plan', ARGV[2], 'weight', ARGV[3], 'max_waiting', ARGV[4], 'max_running', ARGV[5])
local now, woken = now_ms(), {}
if tonumber(redis.call('HGET', key, 'running') or 0) >= tonumber(ARGV[5]) then
  park(account)
else
  unpark(account, now, woken)
end
return {'ok', woken}
