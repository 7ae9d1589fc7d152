-- A worker's process introduces itself. What its dead predecessor of the same name held comes back at once, but for
-- what the new process has the results of: such leases are its own now.
-- ARGV: node, incarnation, pool, models (one a line), failure (the result of a job that stays down), lease ms,
--       then uid, fence for each job whose result it has
-- Returns {requeued, quarantined, woken nodes, outbox entries, uid and status of each job it has ended, uids it holds}.
local node, incarnation, failure, lease_ms = ARGV[1], ARGV[2], ARGV[5], tonumber(ARGV[6])
local now, woken, entries, holds, is_kept = now_ms(), {}, {}, {}, {}
local requeued, quarantined = 0, 0
local w = P .. 'w:' .. node
for i = 7, #ARGV, 2 do
  local uid = ARGV[i]
  if is_held(uid, ARGV[i + 1], node) then
    redis.call('ZADD', P .. 'lease', int(now + lease_ms), uid)
    is_kept[uid] = true
    holds[#holds + 1] = uid
  end
end
expect(node, now)
if redis.call('HGET', w, 'incarnation') ~= incarnation then
  for _, uid in ipairs(redis.call('SMEMBERS', P .. 'held:' .. node)) do
    if not is_kept[uid] then
      local entry, back = lose(uid, now, woken, failure)
      if back then requeued = requeued + 1 else quarantined = quarantined + 1 end
      if entry then entries[#entries + 1] = entry end
    end
  end
  redis.call('DEL', w)
  redis.call('HSET', w, 'incarnation', incarnation, 'pool', ARGV[3], 'models', ARGV[4])
end
redis.call('PERSIST', w)
redis.call('ZADD', P .. 'live', int(now), node)
return {requeued, quarantined, woken, entries, concluded, holds}
