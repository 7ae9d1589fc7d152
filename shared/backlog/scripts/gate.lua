-- An operator opens, pauses or drains a pool or one of its lanes. Paused: nothing of it is begun, new jobs wait. Draining:
-- new jobs are refused, those that wait are drawn.
-- ARGV: pool, model ('': the whole pool), 'open' | 'paused' | 'draining'
-- Returns woken nodes.
local pool, model, state = ARGV[1], ARGV[2], ARGV[3]
local key, suffix, name = P .. 'lane:' .. pool, '', pool
if model ~= '' then suffix, name = '/' .. model, pool .. '/' .. model end
redis.call('HDEL', key, 'paused' .. suffix, 'drain' .. suffix)
redis.call('SREM', P .. 'gates', name)
if state ~= 'open' then
  redis.call('HSET', key, (state == 'paused' and 'paused' or 'drain') .. suffix, 1)
  redis.call('SADD', P .. 'gates', name)
end
local now, woken = now_ms(), {}
for _, lane in ipairs(redis.call('SMEMBERS', P .. 'busy')) do
  if pool_of(lane) == pool and (model == '' or base_of(lane) == name) then
    local waiting = 0
    for b = 0, BANDS - 1 do waiting = waiting + redis.call('ZCARD', active_of(lane, b)) end
    wake(lane, waiting, now, woken)
  end
end
return woken
