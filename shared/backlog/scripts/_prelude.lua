-- Put before every script. One script is one atomic state change; each is safe to run again after a lost reply.
--
-- Words: a *lane* is "pool/model"; a *band* is a priority class (0 is the highest); a *flow* is an account's queue in
-- one lane and band, written "lane|band". Tags are start tags of start-time fair queueing (Goyal et al., 1996).

local P = '{dr}:'
local BANDS = 3
-- A lower band that was passed over this often is served once.
local SKIPS = {[1] = 8, [2] = 16}
local WAKE_DEADLINE_MS = 1000
-- A worker that was not heard of for so long is not woken any more. Heartbeats come every 2 s.
local DEAD_MS = 6000
-- Workers and couriers speak to Redis every second or two; where nobody did for so long, it was away.
local OUTAGE_MS = 5000
-- More than are given out in the second that a server may forget when its machine dies.
local UIDS_FORGOTTEN = 100000
local LOST_LIMIT = 3
local EVENTS_KEPT = 100000
-- How long it is known what an account used on a day.
local USAGE_S = 400 * 86400
-- Jobs whose images have still to be fetched wait here, for couriers.
local INGEST_LANE = 'ingest/fetch'
local HOOK_LETTER = {
  queued = 'q', started = 'r', progress = 'p', succeeded = 's', failed = 'f', cancelled = 'c', expired = 'x',
}
-- A webhook about a job on its way is worth nothing after so long.
local BRIEF_S = 600

-- Numbers go out by this alone: tostring would write large ones as 1.7e+12.
local function int(x) return string.format('%.0f', x) end

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function pool_of(lane) return string.match(lane, '^([^/]*)/') end

-- Jobs whose records are of a later format than the first wait in lanes of their own, "pool/model#2", that only workers
-- serve who read them. This is the lane of all others for the same model.
local function base_of(lane) return string.match(lane, '^(.*)#%d+$') or lane end

local function is_ingest(lane) return base_of(lane) == INGEST_LANE end

local function emit(uid, account, event, ...)
  redis.call('XADD', P .. 'ev', 'MAXLEN', '~', EVENTS_KEPT, '*', 'uid', uid, 'account', account, 'event', event, ...)
end

-- A webhook about a job on its way, where its caller asks for it: best effort, so it is forgotten after a while.
-- `number` tells it from others of the same job and event.
local function tell(uid, account, hooks, event, number, now, entries)
  if not string.find(hooks or '', HOOK_LETTER[event], 1, true) then return end
  local entry = uid .. ':' .. HOOK_LETTER[event] .. number
  local hash = P .. 'ob:' .. entry
  redis.call('HSET', hash, 'uid', uid, 'account', account, 'event', event, 'attempt', 0, 'created', int(now))
  redis.call('EXPIRE', hash, BRIEF_S)
  redis.call('ZADD', P .. 'ob', int(now), entry)
  entries[#entries + 1] = entry
end

-- Whether an operator has paused (`what` is 'paused') or drains ('drain') a lane or its whole pool.
local function is_set(lane, what)
  local pool, model = string.match(base_of(lane), '^([^/]*)/(.*)$')
  local found = redis.call('HMGET', P .. 'lane:' .. pool, what, what .. '/' .. model)
  return (found[1] or found[2]) and true or false
end

-- Note that somebody speaks to Redis. After an outage nothing expires at once: for one lease's length whoever lives may
-- renew first. `run_id` is the server's, where it is the sweep that speaks. Returns until when nothing expires.
local function grace_until(now, lease_ms, run_id)
  local state = P .. 'sweep'
  local known = redis.call('HMGET', state, 'heard', 'run_id', 'grace')
  local grace = tonumber(known[3] or 0)
  local is_new = run_id and known[2] ~= run_id
  -- It may have forgotten its last second, in which uids ran ahead of the clock.
  if is_new and known[2] then redis.call('INCRBY', P .. 'uid', UIDS_FORGOTTEN) end
  if known[1] and (is_new or now - tonumber(known[1]) > OUTAGE_MS) then
    grace = now + lease_ms
    redis.call('HSET', state, 'grace', int(grace))
  end
  redis.call('HSET', state, 'heard', int(now))
  if run_id then redis.call('HSET', state, 'at', int(now), 'run_id', run_id) end
  -- It lies no further ahead than the clock, stepped back, would let it.
  return math.min(grace, now + lease_ms)
end

local function queue_of(lane, band, account) return P .. 'q:' .. lane .. ':' .. band .. ':' .. account end
local function active_of(lane, band) return P .. 'act:' .. lane .. ':' .. band end
local function member_of(uid, key, images) return uid .. ':' .. key .. ':' .. images end

-- The lanes a node serves.
local function lanes_of(node)
  local w = redis.call('HMGET', P .. 'w:' .. node, 'pool', 'models')
  local lanes = {}
  if w[1] then
    for model in string.gmatch(w[2], '[^\n]+') do lanes[#lanes + 1] = w[1] .. '/' .. model end
  end
  return lanes
end

local function mark_idle(node, score)
  for _, lane in ipairs(lanes_of(node)) do redis.call('ZADD', P .. 'idle:' .. lane, score, node) end
end

local function unmark_idle(node)
  for _, lane in ipairs(lanes_of(node)) do redis.call('ZREM', P .. 'idle:' .. lane, node) end
end

-- A node shall look for work. One that does not is back among the idle with the first sweep after the deadline, and is
-- rung for while there is work: it does not matter which wake-up was lost.
local function expect(node, now)
  unmark_idle(node)
  redis.call('ZADD', P .. 'waking', int(now + WAKE_DEADLINE_MS), node)
end

-- Move up to n idle workers of a lane to `waking` and add their names to `woken`; the caller publishes.
local function wake(lane, n, now, woken)
  if n <= 0 or is_set(lane, 'paused') then return end
  for _, node in ipairs(redis.call('ZREVRANGE', P .. 'idle:' .. lane, 0, n - 1)) do
    redis.call('ZREM', P .. 'idle:' .. lane, node)
    expect(node, now)
    woken[#woken + 1] = node
  end
end

-- Make a flow eligible, unless its account is at its running limit. True where it is.
local function activate(account, lane, band)
  local finish_tag = 'F:' .. pool_of(lane) .. ':' .. band
  local a = redis.call('HMGET', P .. 'a:' .. account, 'running', 'max_running', finish_tag)
  if tonumber(a[1] or 0) >= tonumber(a[2] or 1000000) then return false end
  local virtual = tonumber(redis.call('HGET', P .. 'lane:' .. pool_of(lane), 'V' .. band) or 0)
  redis.call('ZADD', active_of(lane, band), 'NX', int(math.max(virtual, tonumber(a[3] or 0))), account)
  redis.call('SADD', P .. 'busy', lane)
  return true
end

-- Whether a node holds a job under this fence.
local function is_held(uid, fence, node)
  local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'fence', 'worker')
  return j[1] == 'running' and j[2] == fence and j[3] == node
end

local function each_flow(account, act)
  for _, flow in ipairs(redis.call('SMEMBERS', P .. 'flows:' .. account)) do
    local lane, band = string.match(flow, '^(.*)|(%d+)$')
    act(lane, band)
  end
end

-- The account is at its running limit: none of its flows may be picked.
local function park(account)
  each_flow(account, function(lane, band) redis.call('ZREM', active_of(lane, band), account) end)
end

local function unpark(account, now, woken)
  each_flow(account, function(lane, band)
    if activate(account, lane, band) then wake(lane, 1, now, woken) end
  end)
end

-- Put a waiting job where workers find it.
local function place(uid, account, lane, band, key, images, seq, now, woken)
  redis.call('ZADD', queue_of(lane, band, account), seq, member_of(uid, key, images))
  redis.call('SADD', P .. 'flows:' .. account, lane .. '|' .. band)
  if activate(account, lane, band) then wake(lane, 1, now, woken) end
end

-- Take a waiting job from there; the flow disappears with its last job.
local function displace(uid, account, lane, band, key, images)
  local queue = queue_of(lane, band, account)
  redis.call('ZREM', queue, member_of(uid, key, images))
  if redis.call('EXISTS', queue) == 0 then
    redis.call('ZREM', active_of(lane, band), account)
    redis.call('SREM', P .. 'flows:' .. account, lane .. '|' .. band)
  end
end

-- A job waits: in its queue or, while its batch is paused, beside it.
local function enqueue(uid, account, lane, band, key, images, seq, now, woken)
  local member = redis.call('HMGET', P .. 'j:' .. uid, 'batch', 'line')
  if member[1] and redis.call('HGET', P .. 'b:' .. member[1], 'status') == 'paused' then
    redis.call('ZADD', P .. 'bh:' .. member[1], member[2], uid)
  else
    place(uid, account, lane, band, key, images, seq, now, woken)
  end
  redis.call('HINCRBY', P .. 'a:' .. account, 'waiting', 1)
  redis.call('HINCRBY', P .. 'count', 'waiting', 1)
  redis.call('HINCRBY', P .. 'lanes', lane, 1)
end

-- A waiting job waits no more.
local function dequeue(uid, account, lane, band, key, images)
  displace(uid, account, lane, band, key, images)
  redis.call('HINCRBY', P .. 'a:' .. account, 'waiting', -1)
  redis.call('HINCRBY', P .. 'count', 'waiting', -1)
  if redis.call('HINCRBY', P .. 'lanes', lane, -1) <= 0 then redis.call('HDEL', P .. 'lanes', lane) end
end

-- The next uid: ascending even under bursts and when the clock steps back; no time is ever read out of it. `seen` is one
-- that the caller knows to be given out, whatever the server has forgotten of its last second.
local function next_uid(now, seen)
  local uid = int(math.max(now, tonumber(redis.call('GET', P .. 'uid') or 0) + 1, tonumber(seen or 0) + 1))
  redis.call('SET', P .. 'uid', uid)
  return uid
end

-- Credits that a job or a batch may cost are set aside.
local function reserve(account, price)
  if price <= 0 then return end
  redis.call('HINCRBY', P .. 'a:' .. account, 'balance', int(-price))
  redis.call('HINCRBY', P .. 'a:' .. account, 'reserved', int(price))
end

-- Write a job's record and queue it; its price is reserved already. `job` holds what submit takes, as text, and the
-- number of its batch where it has one. Returns its uid.
local function admit(job, now, woken, entries)
  local uid, account = next_uid(now, job.seen), job.account
  local name = P .. 'j:' .. uid
  local seq = redis.call('HINCRBY', P .. 'a:' .. account, 'seq', 1)
  redis.call('SET', P .. 's:' .. uid, job.submission)
  redis.call('HSET', name, 'status', 'queued', 'account', account, 'handle', job.handle, 'lane', job.lane,
    'band', job.band, 'key', job.key, 'images', job.images, 'work', job.work, 'seq', seq, 'created', int(now))
  if job.price > 0 then redis.call('HSET', name, 'price', int(job.price)) end
  if job.hooks ~= '' then redis.call('HSET', name, 'hooks', job.hooks) end
  if job.start_ms ~= '0' then redis.call('ZADD', P .. 'deadline', int(now + tonumber(job.start_ms)), uid) end
  if job.run_ms ~= '0' then redis.call('HSET', name, 'run_ms', job.run_ms) end
  if job.kept_ms and job.kept_ms ~= '0' then redis.call('HSET', name, 'kept_ms', job.kept_ms) end
  redis.call('RPUSH', P .. 'ix:' .. account, uid)
  if job.track ~= '' then
    redis.call('HSET', name, 'track', job.track)
    redis.call('RPUSH', P .. 'track:' .. account .. ':' .. job.track, uid)
  end
  if job.batch then
    local line = redis.call('RPUSH', P .. 'bu:' .. job.batch, uid)
    redis.call('HSET', name, 'batch', job.batch, 'line', line)
    redis.call('ZADD', P .. 'bq:' .. job.batch, line, uid)
  end
  emit(uid, account, 'queued')
  tell(uid, account, job.hooks, 'queued', 0, now, entries)
  enqueue(uid, account, job.lane, job.band, job.key, job.images, seq, now, woken)
  return uid
end

-- A batch that was over runs once more: what was archived of it is not all there is.
local function reopen_batch(batch)
  redis.call('HSET', P .. 'b:' .. batch, 'status', 'running')
  redis.call('HDEL', P .. 'b:' .. batch, 'finished', 'archived', 'archiver')
  redis.call('ZREM', P .. 'bdone', batch)
  redis.call('ZREM', P .. 'bz', batch)
  redis.call('DEL', P .. 'ba:' .. batch)
end

-- A batch that has nothing left to do is over: its webhook and its archive are due, once for each time that it ends.
local function close_batch(batch, now)
  local name = P .. 'b:' .. batch
  local b = redis.call('HMGET', name, 'status', 'account', 'hook', 'finished', 'retry', 'archive')
  if b[4] or redis.call('EXISTS', P .. 'bq:' .. batch) == 1 then return end
  if b[1] ~= 'cancelled' then
    if b[5] or redis.call('EXISTS', P .. 'bl:' .. batch) == 1 then return end
    b[1] = 'completed'
  end
  redis.call('HSET', name, 'status', b[1], 'finished', int(now))
  redis.call('SREM', P .. 'feeding', batch)
  redis.call('ZADD', P .. 'bdone', int(now), batch)
  if b[6] then redis.call('ZADD', P .. 'bz', int(now), batch) end
  local outcome = redis.call('HINCRBY', name, 'outcome', 1)
  if not b[3] then return end
  local entry = batch .. ':' .. outcome
  redis.call('HSET', P .. 'ob:' .. entry, 'uid', batch, 'account', b[2], 'event', 'batch.' .. b[1], 'attempt', 0,
    'created', int(now))
  redis.call('ZADD', P .. 'ob', int(now), entry)
end

-- A job of a batch has ended.
local function leave_batch(batch, uid, status, charge, now)
  if redis.call('EXISTS', P .. 'b:' .. batch) == 0 then return end -- it is past its retention
  redis.call('ZREM', P .. 'bq:' .. batch, uid)
  redis.call('ZREM', P .. 'bh:' .. batch, uid)
  redis.call('HINCRBY', P .. 'b:' .. batch, status, 1)
  if charge > 0 then redis.call('HINCRBY', P .. 'b:' .. batch, 'spent', int(charge)) end
  close_batch(batch, now)
end

-- Take a running job from its worker.
local function release(uid, account, node, now, woken)
  redis.call('ZREM', P .. 'lease', uid)
  if node then redis.call('SREM', P .. 'held:' .. node, uid) end
  redis.call('HINCRBY', P .. 'a:' .. account, 'running', -1)
  redis.call('HINCRBY', P .. 'count', 'running', -1)
  unpark(account, now, woken)
end

-- What an account used on a day (UTC): jobs that ended, how many of them succeeded, images, steps, millicredits.
local function use(account, now, ...)
  local day = P .. 'u:' .. account .. ':' .. int(math.floor(now / 86400000))
  local told = {...}
  for i = 1, #told, 2 do
    if told[i + 1] ~= 0 then redis.call('HINCRBY', day, told[i], int(told[i + 1])) end
  end
  redis.call('EXPIRE', day, USAGE_S)
end

-- uid and status of each job that this run of a script has ended, for whoever counts them.
local concluded = {}

-- A job's one outcome: record, ledger, event and webhook, all or nothing. It is in no queue and under no lease any more.
local function conclude(uid, status, result, charge, now, images, steps)
  concluded[#concluded + 1] = uid
  concluded[#concluded + 1] = status
  local job = P .. 'j:' .. uid
  local j = redis.call('HMGET', job, 'account', 'price', 'hooks', 'batch', 'kept_ms')
  local account, price = j[1], tonumber(j[2] or 0)
  if price > 0 then
    redis.call('HINCRBY', P .. 'a:' .. account, 'reserved', int(-price))
    redis.call('HINCRBY', P .. 'a:' .. account, 'balance', int(price - charge))
    redis.call('HINCRBY', P .. 'a:' .. account, 'settled', int(charge))
  end
  local won = status == 'succeeded'
  use(account, now, 'jobs', 1, 'succeeded', won and 1 or 0, 'images', won and images or 0, 'steps', won and steps or 0,
    'millicredits', price > 0 and charge or 0)
  redis.call('ZREM', P .. 'deadline', uid)
  redis.call('ZADD', P .. 'done', int(now), uid)
  if j[5] then redis.call('ZADD', P .. 'brief', int(now + tonumber(j[5])), uid) end
  local outcome = redis.call('HINCRBY', job, 'outcome', 1)
  redis.call('HSET', job, 'status', status, 'finished', int(now))
  if result ~= '' then redis.call('SET', P .. 'r:' .. uid, result) end
  emit(uid, account, status)
  if j[4] then leave_batch(j[4], uid, status, price > 0 and charge or 0, now) end
  if not string.find(j[3] or '', HOOK_LETTER[status], 1, true) then return nil end
  local entry = uid .. ':' .. outcome
  redis.call('HSET', P .. 'ob:' .. entry, 'uid', uid, 'account', account, 'event', status, 'attempt', 0, 'created', int(now))
  redis.call('ZADD', P .. 'ob', int(now), entry)
  return entry
end

-- Put a job that was running back where its record says that it belongs; it keeps its place.
local function requeue(uid, key, now, woken, silent)
  local job = P .. 'j:' .. uid
  local j = redis.call('HMGET', job, 'account', 'lane', 'band', 'images', 'seq', 'worker')
  release(uid, j[1], j[6], now, woken)
  -- Fetching is no start: the deadline for that still holds.
  if not is_ingest(j[2]) then redis.call('ZREM', P .. 'deadline', uid) end
  redis.call('HSET', job, 'status', 'queued', 'key', key, 'step', 0)
  redis.call('HDEL', job, 'worker', 'started', 'start_by')
  redis.call('DEL', P .. 'p:' .. uid)
  enqueue(uid, j[1], j[2], j[3], key, j[4], j[5], now, woken)
  if not silent then emit(uid, j[1], 'requeued') end
end

-- A job that was claimed and has not begun goes back to where it was: the attempt does not count, and it must still start
-- in time.
local function give_back(uid, now, woken)
  local job = P .. 'j:' .. uid
  local j = redis.call('HMGET', job, 'key', 'start_by')
  redis.call('HINCRBY', job, 'attempts', -1)
  requeue(uid, j[1], now, woken)
  if j[2] then redis.call('ZADD', P .. 'deadline', j[2], uid) end
end

-- A worker died with this job. If it had begun, it comes back alone, so that it cannot drag others down; the third time
-- it stays down. Returns the outbox entry of a job that stays down, and whether it came back.
local function lose(uid, now, woken, failure)
  local job = P .. 'j:' .. uid
  local claimed = redis.call('HMGET', job, 'fence', 'ahead')
  if claimed[1] == claimed[2] then
    give_back(uid, now, woken)
    return nil, true
  end
  local lost = redis.call('HINCRBY', job, 'lost', 1)
  if lost < LOST_LIMIT then
    requeue(uid, 'solo' .. uid, now, woken)
    return nil, true
  end
  local j = redis.call('HMGET', job, 'account', 'worker')
  release(uid, j[1], j[2], now, woken)
  redis.call('ZADD', P .. 'quarantine', int(now), uid)
  return conclude(uid, 'failed', failure, 0, now), false
end

-- End a job that has not ended, wherever it is. Returns the outbox entry, if there is one.
local function stop(uid, status, result, now, woken)
  local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'account', 'lane', 'band', 'key', 'images', 'worker')
  if j[1] == 'queued' then
    dequeue(uid, j[2], j[3], j[4], j[5], j[6])
  else
    release(uid, j[2], j[7], now, woken)
  end
  return conclude(uid, status, result, 0, now)
end

-- Queue a job that ended without pictures once more; its price is reserved anew.
-- Returns why not ('not_failed' | 'insufficient_credits'), or nothing.
local function again(uid, key, now, woken, entries)
  local job = P .. 'j:' .. uid
  local j = redis.call('HMGET', job, 'status', 'account', 'lane', 'band', 'images', 'seq', 'price', 'hooks', 'outcome',
    'batch', 'line')
  if j[1] ~= 'failed' and j[1] ~= 'cancelled' and j[1] ~= 'expired' then return 'not_failed' end
  local account, price = j[2], tonumber(j[7] or 0)
  if price > 0 and tonumber(redis.call('HGET', P .. 'a:' .. account, 'balance') or 0) < price then
    return 'insufficient_credits'
  end
  reserve(account, price)
  redis.call('ZREM', P .. 'done', uid)
  redis.call('ZREM', P .. 'brief', uid)
  redis.call('ZREM', P .. 'quarantine', uid)
  redis.call('DEL', P .. 'r:' .. uid, P .. 'p:' .. uid)
  redis.call('HSET', job, 'status', 'queued', 'key', key, 'step', 0)
  redis.call('HDEL', job, 'worker', 'started', 'start_by', 'finished', 'lost', 'won')
  local batch = P .. 'b:' .. (j[10] or '')
  if redis.call('EXISTS', batch) == 1 then
    redis.call('HINCRBY', batch, j[1], -1)
    redis.call('ZADD', P .. 'bq:' .. j[10], j[11], uid)
    -- One that was cancelled stays so, whatever becomes of a single job of it.
    if redis.call('HGET', batch, 'status') == 'completed' then reopen_batch(j[10]) end
  end
  emit(uid, account, 'queued')
  tell(uid, account, j[8], 'queued', j[9] or 0, now, entries)
  enqueue(uid, account, j[3], j[4], key, j[5], j[6], now, woken)
end

-- Remove all that is kept of a job that has ended.
local function erase(uid)
  local job = P .. 'j:' .. uid
  local j = redis.call('HMGET', job, 'account', 'track', 'outcome')
  for outcome = 1, tonumber(j[3] or 0) do
    local entry = uid .. ':' .. outcome
    redis.call('ZREM', P .. 'ob', entry)
    redis.call('ZREM', P .. 'ob:dead', entry)
    redis.call('ZREM', P .. 'ob:dead:' .. j[1], entry)
    redis.call('DEL', P .. 'ob:' .. entry)
  end
  redis.call('ZREM', P .. 'done', uid)
  redis.call('ZREM', P .. 'brief', uid)
  redis.call('ZREM', P .. 'quarantine', uid)
  redis.call('LREM', P .. 'ix:' .. j[1], 1, uid)
  if j[2] then redis.call('LREM', P .. 'track:' .. j[1] .. ':' .. j[2], 1, uid) end
  redis.call('DEL', job, P .. 's:' .. uid, P .. 'r:' .. uid, P .. 'p:' .. uid, P .. 'told:' .. uid)
end
