-- A worker's process introduces itself. What its dead predecessor of the same name held comes back at once.
-- ARGV: node, incarnation, pool, models (one a line), failure (the result of a job that stays down)
-- Returns {requeued, quarantined, woken nodes, outbox entries}.
local node, incarnation, failure = ARGV[1], ARGV[2], ARGV[5]
local now, woken, entries = now_ms(), {}, {}
local requeued, quarantined = 0, 0
local w = P .. 'w:' .. node
if redis.call('HGET', w, 'incarnation') ~= incarnation then
  unmark_idle(node)
  for _, uid in ipairs(redis.call('SMEMBERS', P .. 'held:' .. node)) do
    local entry, back = lose(uid, now, woken, failure)
    if back then requeued = requeued + 1 else quarantined = quarantined + 1 end
    if entry then entries[#entries + 1] = entry end
  end
  redis.call('DEL', w)
  redis.call('HSET', w, 'incarnation', incarnation, 'pool', ARGV[3], 'models', ARGV[4])
end
redis.call('PERSIST', w)
redis.call('ZADD', P .. 'live', int(now), node)
return {requeued, quarantined, woken, entries}
