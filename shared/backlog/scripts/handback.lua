-- A worker that shuts down returns what it has not started; the attempt does not count.
-- ARGV: node, then uid, fence for each lease
-- Returns {handed back, woken nodes}.
local node = ARGV[1]
local now, woken, count = now_ms(), {}, 0
for i = 2, #ARGV, 2 do
  local uid = ARGV[i]
  local job = P .. 'j:' .. uid
  local j = redis.call('HMGET', job, 'status', 'fence', 'worker', 'key')
  if j[1] == 'running' and j[2] == ARGV[i + 1] and j[3] == node then
    redis.call('HINCRBY', job, 'attempts', -1)
    requeue(uid, j[4], now, woken)
    count = count + 1
  end
end
return {count, woken}
