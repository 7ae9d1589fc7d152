-- The heartbeat: the node lives, its leases run on, its progress is told.
-- ARGV: node, lease ms, then uid, fence, step, steps for each lease
-- Returns {known (1 | 0), lost uids, woken nodes, outbox entries}.
local node, lease_ms = ARGV[1], tonumber(ARGV[2])
-- Of progress a webhook tells at most so often.
local PROGRESS_MS = 5000
local now, woken, lost, entries = now_ms(), {}, {}, {}
grace_until(now, lease_ms)
for i = 3, #ARGV, 4 do
  local uid, fence, step, steps = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local job = P .. 'j:' .. uid
  local j = redis.call('HMGET', job, 'status', 'fence', 'worker', 'step', 'steps', 'account', 'hooks', 'hooked')
  if j[1] == 'running' and j[2] == fence and j[3] == node then
    redis.call('ZADD', P .. 'lease', int(now + lease_ms), uid)
    if j[4] ~= step or j[5] ~= steps then
      redis.call('HSET', job, 'step', step, 'steps', steps)
      emit(uid, j[6], 'progress', 'step', step, 'steps', steps)
      if string.find(j[7] or '', HOOK_LETTER.progress, 1, true) and now - tonumber(j[8] or 0) >= PROGRESS_MS then
        redis.call('HSET', job, 'hooked', int(now))
        tell(uid, j[6], j[7], 'progress', fence .. '-' .. step, now, entries)
      end
    end
  else
    lost[#lost + 1] = uid
  end
end
if redis.call('EXISTS', P .. 'w:' .. node) == 0 then return {0, lost, woken, entries} end
local heard = redis.call('ZSCORE', P .. 'live', node)
redis.call('ZADD', P .. 'live', int(now), node)
-- It was taken for dead and is in no list of idle workers any more: it shall look for work itself.
if not heard or tonumber(heard) < now - DEAD_MS then
  redis.call('PERSIST', P .. 'w:' .. node)
  expect(node, now)
  woken[1] = node
end
return {1, lost, woken, entries}
