-- A worker leaves for good; what it held comes back.
-- ARGV: node, failure (the result of a job that stays down)
-- Returns {requeued, woken nodes, outbox entries}.
local node, failure = ARGV[1], ARGV[2]
local now, woken, entries, count = now_ms(), {}, {}, 0
unmark_idle(node)
redis.call('ZREM', P .. 'waking', node)
redis.call('ZREM', P .. 'live', node)
for _, uid in ipairs(redis.call('SMEMBERS', P .. 'held:' .. node)) do
  local entry, back = lose(uid, now, woken, failure)
  if back then count = count + 1 end
  if entry then entries[#entries + 1] = entry end
end
redis.call('DEL', P .. 'w:' .. node, P .. 'held:' .. node)
return {count, woken, entries}
