-- A worker leaves for good; what it held comes back, but for what it has the results of on its disk: those leases run on,
-- for a process of the same name may come back in time.
-- ARGV: node, failure (the result of a job that stays down), then uid, fence for each job whose result it has
-- Returns {requeued, woken nodes, outbox entries, uid and status of each job it has ended}.
local node, failure = ARGV[1], ARGV[2]
local now, woken, entries, count = now_ms(), {}, {}, 0
local keeps = {}
for i = 3, #ARGV, 2 do keeps[ARGV[i]] = is_held(ARGV[i], ARGV[i + 1], node) end
unmark_idle(node)
redis.call('ZREM', P .. 'waking', node)
redis.call('ZREM', P .. 'live', node)
for _, uid in ipairs(redis.call('SMEMBERS', P .. 'held:' .. node)) do
  if not keeps[uid] then
    local entry, back = lose(uid, now, woken, failure)
    if back then count = count + 1 end
    if entry then entries[#entries + 1] = entry end
    redis.call('SREM', P .. 'held:' .. node, uid)
  end
end
redis.call('DEL', P .. 'w:' .. node)
return {count, woken, entries, concluded}
