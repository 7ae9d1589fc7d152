-- How many jobs run before this one (its rank in its own flow, plus what other flows get in meanwhile), and when it ends.
-- ARGV: uid
-- Returns {position, exact (1 | 0), what it waits for, ms until it ends or ''}; of a running job {'', 1, 'images' while these
-- are fetched, else '', ms or ''}; {} where the job neither waits nor runs.
local FLOWS_SEEN = 512
local uid = ARGV[1]
local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'account', 'lane', 'band', 'key', 'images', 'work', 'started',
  'step', 'steps')
local account, lane, band = j[2], j[3], tonumber(j[4])
if j[1] ~= 'queued' and j[1] ~= 'running' then return {} end
local now, pool, model = now_ms(), string.match(lane, '^([^/]*)/(.*)$')
-- How long a job such as this took of late, begun to done; nothing until one has ended in this lane.
local speed = redis.call('HMGET', P .. 'lane:' .. pool, 'ms/' .. model, 'mates/' .. model)
local takes = speed[1] and tonumber(speed[1]) * tonumber(j[7])

if j[1] == 'running' then
  local been, step, steps = now - tonumber(j[8] or now), tonumber(j[9] or 0), tonumber(j[10] or 0)
  if step > 0 and steps > 0 then takes = math.max(been, been * steps / step) end
  return {'', 1, is_ingest(lane) and 'images' or '', takes and int(math.max(0, takes - been)) or ''}
end

local rank = redis.call('ZRANK', queue_of(lane, band, account), member_of(uid, j[5], j[6]))
-- Its batch is paused: it is in no queue until that goes on.
if not rank then return {'', 1, 'paused', ''} end

local ahead, exact = rank, 1
-- Higher bands go first, whole.
for b = 0, band - 1 do
  for _, other in ipairs(redis.call('ZRANGE', active_of(lane, b), 0, FLOWS_SEEN - 1)) do
    ahead, exact = ahead + redis.call('ZCARD', queue_of(lane, b, other)), 0
  end
end
-- In its own band each flow gets about as many turns as this one, by weight.
local weight = tonumber(redis.call('HGET', P .. 'a:' .. account, 'weight') or 1)
for _, other in ipairs(redis.call('ZRANGE', active_of(lane, band), 0, FLOWS_SEEN - 1)) do
  if other ~= account then
    local share = tonumber(redis.call('HGET', P .. 'a:' .. other, 'weight') or 1) / weight
    local turns = math.ceil((rank + 1) * share)
    ahead, exact = ahead + math.min(turns, redis.call('ZCARD', queue_of(lane, band, other))), 0
  end
end

-- What stands between the job and a worker, the hardest obstacle first, and how many workers could take it.
local function obstacle()
  if is_set(lane, 'paused') then return 'paused', 0 end
  if lane == INGEST_LANE then return 'images', 0 end
  local in_pool, able, of_older = false, 0, false
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', P .. 'live', int(now - DEAD_MS), '+inf', 'LIMIT', 0, FLOWS_SEEN)) do
    for _, served in ipairs(lanes_of(node)) do
      in_pool = in_pool or pool_of(served) == pool
      if served == lane then able = able + 1 end
      of_older = of_older or served == base_of(lane)
    end
  end
  if not in_pool then return 'no_worker', 0 end
  if able == 0 then return of_older and 'no_worker_for_format' or 'no_worker_for_model', 0 end
  if is_ingest(lane) then return 'images', 0 end
  local a = redis.call('HMGET', P .. 'a:' .. account, 'running', 'max_running')
  if tonumber(a[1] or 0) >= tonumber(a[2] or 1000000) then return 'account_limit', 0 end
  return ahead > 0 and 'other_jobs' or 'a_free_worker', able
end

local reason, able = obstacle()
-- Those before it run in rounds of full batches; while all workers are busy, half a round passes first.
if able == 0 or not takes then return {ahead, exact, reason, ''} end
local rounds = 1 + math.floor(ahead / (able * math.max(1, tonumber(speed[2] or 1))))
if redis.call('EXISTS', P .. 'idle:' .. lane) == 0 then rounds = rounds + 0.5 end
return {ahead, exact, reason, int(rounds * takes)}
