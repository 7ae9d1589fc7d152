-- Repair: leases that ran out, wake-ups nobody answered, workers nobody hears, deadlines that passed. Any number of
-- sweepers may run it.
-- ARGV: lease ms, server's run id, failure (the result of a job that stays down), expiry (of one whose deadline passed)
-- Returns {requeued, quarantined, woken nodes, outbox entries, uid and status of each job it has ended}.
local lease_ms, run_id, failure = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local AT_ONCE, WOKEN_PER_LANE = 100, 8
local now, woken, entries = now_ms(), {}, {}
local requeued, quarantined = 0, 0

local function scored(name, from, to) return redis.call('ZRANGEBYSCORE', P .. name, from, to, 'LIMIT', 0, AT_ONCE) end

local grace = grace_until(now, lease_ms, run_id)
-- Nor may a lease lie further ahead than the clock, stepped back, would let it.
for _, uid in ipairs(scored('lease', int(now + 2 * lease_ms), '+inf')) do
  redis.call('ZADD', P .. 'lease', int(now + lease_ms), uid)
end

if now >= grace then
  for _, uid in ipairs(scored('lease', '-inf', int(now))) do
    local entry, back = lose(uid, now, woken, failure)
    if back then requeued = requeued + 1 else quarantined = quarantined + 1 end
    if entry then entries[#entries + 1] = entry end
  end
end

for _, uid in ipairs(scored('deadline', '-inf', int(now))) do
  local entry = stop(uid, 'expired', ARGV[4], now, woken)
  if entry then entries[#entries + 1] = entry end
end

local function is_live(node)
  return tonumber(redis.call('ZSCORE', P .. 'live', node) or 0) > now - DEAD_MS
end

local function rouse(nodes)
  for _, node in ipairs(nodes) do
    redis.call('ZREM', P .. 'waking', node)
    -- Score 0: asked last next time.
    if is_live(node) then mark_idle(node, 0) end
  end
end

-- The clock stepped back: who was heard a while ahead of it may have died since, and no wake-up has so much time.
for _, node in ipairs(scored('live', int(now + DEAD_MS), '+inf')) do redis.call('ZADD', P .. 'live', int(now), node) end
rouse(scored('waking', '-inf', int(now)))
rouse(scored('waking', int(now + 2 * WAKE_DEADLINE_MS), '+inf'))
for _, node in ipairs(scored('live', '-inf', int(now - DEAD_MS))) do
  unmark_idle(node)
  redis.call('ZREM', P .. 'live', node)
  redis.call('EXPIRE', P .. 'w:' .. node, 86400)
end

for _, lane in ipairs(redis.call('SMEMBERS', P .. 'busy')) do
  local flows = 0
  for b = 0, BANDS - 1 do flows = flows + redis.call('ZCARD', active_of(lane, b)) end
  if flows == 0 then redis.call('SREM', P .. 'busy', lane) else wake(lane, WOKEN_PER_LANE, now, woken) end
end
return {requeued, quarantined, woken, entries, concluded}
