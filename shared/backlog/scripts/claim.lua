-- Lease the fair head's job and up to max_jobs - 1 others with the same batch key; or note the worker idle.
-- ARGV: node, nonce, max jobs, max images, lease ms, loaded model
-- Returns {jobs, woken nodes, outbox entries}; a job is {uid, fence, handle, account, attempts, created, started, submission}.
local node, nonce, max_jobs, max_images = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local lease_ms, loaded = tonumber(ARGV[5]), ARGV[6]
local AFFINITY_CLAIMS, AFFINITY_WAIT_MS = 4, 30000
local FLOWS_SEEN, JOBS_SEEN = 32, 512

local now, woken = now_ms(), {}
local w = P .. 'w:' .. node

local function describe(uid)
  local j = redis.call('HMGET', P .. 'j:' .. uid, 'fence', 'handle', 'account', 'attempts', 'created', 'started')
  return {uid, j[1], j[2], j[3], j[4], j[5], j[6], redis.call('GET', P .. 's:' .. uid)}
end

-- The reply to this very claim was lost: give what is still held of it.
local last = redis.call('HMGET', w, 'nonce', 'claimed', 'pool', 'bypass', 'at')
if last[1] == nonce then
  local again = {}
  for uid in string.gmatch(last[2] or '', '%d+') do
    if redis.call('SISMEMBER', P .. 'held:' .. node, uid) == 1 then again[#again + 1] = describe(uid) end
  end
  return {again, woken, {}}
end

redis.call('ZREM', P .. 'waking', node)
unmark_idle(node)
local pool, lanes = last[3], {}
for _, lane in ipairs(lanes_of(node)) do
  if not is_set(lane, 'paused') then lanes[#lanes + 1] = lane end
end

-- Redis has come back without its data: the heartbeat finds nothing here and says hello.
if not pool then return {{}, woken, {}} end

local function rest()
  redis.call('HSET', w, 'nonce', nonce, 'claimed', '')
  mark_idle(node, int(now))
  return {{}, woken, {}}
end

-- The head of each band: the smallest start tag over the lanes this worker serves. `near` is the loaded model's own.
local function heads_of(band)
  local head, near
  for _, lane in ipairs(lanes) do
    local first = redis.call('ZRANGE', active_of(lane, band), 0, 0, 'WITHSCORES')
    if first[1] then
      local found = {lane = lane, account = first[1], tag = tonumber(first[2])}
      if not head or found.tag < head.tag then head = found end
      if base_of(lane) == pool .. '/' .. loaded and not (near and near.tag < found.tag) then near = found end
    end
  end
  return head, near
end

local pool_state = P .. 'lane:' .. pool
local band, head, near
for b = 0, BANDS - 1 do
  local h, n = heads_of(b)
  if h then
    if not head then
      band, head, near = b, h, n
    elseif redis.call('HINCRBY', pool_state, 'skip' .. b, 1) >= SKIPS[b] then
      band, head, near = b, h, n
    end
  end
end
if not head then return rest() end
redis.call('HSET', pool_state, 'skip' .. band, 0)

local function first_job(flow) return redis.call('ZRANGE', queue_of(flow.lane, band, flow.account), 0, 0)[1] end

-- Virtual time follows the true head alone, else newcomers would wait behind every batch-mate's charge.
if head.tag > tonumber(redis.call('HGET', pool_state, 'V' .. band) or 0) then
  redis.call('HSET', pool_state, 'V' .. band, int(head.tag))
end

local function waiting_of(flow) return tonumber(redis.call('HGET', P .. 'a:' .. flow.account, 'waiting') or 0) end

-- Whether the head may be passed over for the loaded model. That keeps the number of loads low between equals; but who
-- asks for a batch at most has to see one batch begun of somebody who asks for more, and not two.
local function may_wait()
  local uid = string.match(first_job(head), '^(%d+):')
  local created = tonumber(redis.call('HGET', P .. 'j:' .. uid, 'created'))
  if now - created >= AFFINITY_WAIT_MS then return false end
  local has_waited = created <= tonumber(last[5] or 0)
  return not has_waited or waiting_of(head) > max_jobs or waiting_of(near) <= max_jobs
end

-- Stay with the loaded model for a few claims.
local bypass = tonumber(last[4] or 0)
if near and base_of(near.lane) ~= base_of(head.lane) and bypass < AFFINITY_CLAIMS and may_wait() then
  head, bypass = near, bypass + 1
else
  bypass = 0
end

local lane = head.lane
local key = string.match(first_job(head), '^%d+:([^:]+):')
local taken, images, seen = {}, 0, 0

-- Charge an account for what was taken: its tag moves on in every lane of the pool.
local function charge(account, tag, running, max_running)
  local finish_tag = int(tag)
  redis.call('HSET', P .. 'a:' .. account, 'F:' .. pool .. ':' .. band, finish_tag)
  each_flow(account, function(other, other_band)
    if other_band == int(band) and pool_of(other) == pool then
      redis.call('ZADD', active_of(other, band), 'XX', finish_tag, account)
    end
  end)
  if running >= max_running then park(account) end
end

local function take(account, tag)
  local a = redis.call('HMGET', P .. 'a:' .. account, 'weight', 'running', 'max_running')
  local weight, running, max_running = tonumber(a[1] or 1), tonumber(a[2] or 0), tonumber(a[3] or 1000000)
  local before = #taken
  for _, member in ipairs(redis.call('ZRANGE', queue_of(lane, band, account), 0, FLOWS_SEEN - 1)) do
    seen = seen + 1
    if #taken >= max_jobs or running >= max_running or seen > JOBS_SEEN then break end
    local uid, its_key, its_images = string.match(member, '^(%d+):([^:]+):(%d+)$')
    -- The head is always taken, however many images it asks for.
    if its_key == key and (#taken == 0 or images + tonumber(its_images) <= max_images) then
      dequeue(uid, account, lane, int(band), its_key, its_images)
      local work = tonumber(redis.call('HGET', P .. 'j:' .. uid, 'work'))
      tag = tag + math.max(1, math.floor(work / weight))
      images, running = images + tonumber(its_images), running + 1
      taken[#taken + 1] = {uid, account}
    end
  end
  if #taken > before then
    redis.call('HINCRBY', P .. 'a:' .. account, 'running', #taken - before)
    redis.call('HINCRBY', P .. 'count', 'running', #taken - before)
    charge(account, tag, running, max_running)
  end
end

take(head.account, head.tag)
local flows = redis.call('ZRANGE', active_of(lane, band), 0, FLOWS_SEEN - 1, 'WITHSCORES')
for i = 1, #flows, 2 do
  if #taken >= max_jobs or seen > JOBS_SEEN then break end
  if flows[i] ~= head.account then take(flows[i], tonumber(flows[i + 1])) end
end

local jobs, uids, entries = {}, {}, {}
for i, t in ipairs(taken) do
  local uid, job = t[1], P .. 'j:' .. t[1]
  redis.call('HINCRBY', job, 'attempts', 1)
  local fence = redis.call('HINCRBY', job, 'fence', 1)
  redis.call('HSET', job, 'status', 'running', 'worker', node, 'started', int(now), 'step', 0, 'steps', 0,
    'mates', #taken)
  redis.call('ZADD', P .. 'lease', int(now + lease_ms), uid)
  redis.call('SADD', P .. 'held:' .. node, uid)
  -- While its images are fetched its caller still sees it queued.
  if not is_ingest(lane) then
    emit(uid, t[2], 'started')
    -- The first begins with its model being loaded, its mates when the worker says so.
    if i > 1 then redis.call('HSET', job, 'ahead', fence) end
    local start_by = redis.call('ZSCORE', P .. 'deadline', uid)
    if start_by then redis.call('HSET', job, 'start_by', start_by) end
    redis.call('ZREM', P .. 'deadline', uid)
    local more = redis.call('HMGET', job, 'run_ms', 'hooks')
    if more[1] then redis.call('ZADD', P .. 'deadline', int(now + tonumber(more[1])), uid) end
    tell(uid, t[2], more[2], 'started', fence, now, entries)
  end
  jobs[#jobs + 1] = describe(uid)
  uids[#uids + 1] = uid
end
redis.call('HSET', w, 'nonce', nonce, 'claimed', table.concat(uids, ' '), 'bypass', bypass, 'at', int(now))
redis.call('ZADD', P .. 'live', int(now), node)

-- While work remains, one more worker is called in: the pool ramps up, and a lost wake-up is made good.
for _, other in ipairs(lanes) do
  for b = 0, BANDS - 1 do
    if redis.call('EXISTS', active_of(other, b)) == 1 then wake(other, 1, now, woken) break end
  end
end
return {jobs, woken, entries}
