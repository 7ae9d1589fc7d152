-- Bring the queue in line with a batch's state: a running one has its next lines queued, so that about `most` of it
-- wait; a paused one waits beside the queue; of a cancelled one nothing is left. In slices: again while there is more.
-- ARGV: batch, most, backlog limit
-- Returns {more (1 | 0), woken nodes, outbox entries, uid and status of each job it has ended}.
local batch, most, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local AT_ONCE = 256
local name, live, held, lines = P .. 'b:' .. batch, P .. 'bq:' .. batch, P .. 'bh:' .. batch, P .. 'bl:' .. batch
local now, woken, entries = now_ms(), {}, {}
local b = redis.call('HMGET', name, 'status', 'account', 'cursor', 'retry')
local status, account, left = b[1], b[2], AT_ONCE

local function done(more)
  if not more then redis.call('SREM', P .. 'feeding', batch) end
  return {more and 1 or 0, woken, entries, concluded}
end

local function described(uid)
  return redis.call('HMGET', P .. 'j:' .. uid, 'status', 'lane', 'band', 'key', 'images', 'seq')
end

if status == 'cancelled' then
  for _, uid in ipairs(redis.call('ZRANGE', live, 0, AT_ONCE - 1)) do
    entries[#entries + 1] = stop(uid, 'cancelled', '', now, woken)
  end
  close_batch(batch, now)
  return done(redis.call('EXISTS', live) == 1)
end

if status == 'paused' then
  local found = redis.call('ZRANGEBYSCORE', live, '(' .. b[3], '+inf', 'WITHSCORES', 'LIMIT', 0, AT_ONCE)
  for i = 1, #found, 2 do
    local uid, line, j = found[i], found[i + 1], described(found[i])
    if j[1] == 'queued' and redis.call('ZADD', held, 'NX', line, uid) == 1 then
      displace(uid, account, j[2], j[3], j[4], j[5])
    end
    redis.call('HSET', name, 'cursor', line)
  end
  return done(#found == 2 * AT_ONCE)
end

if status ~= 'running' then return done(false) end

-- What waits beside the queue goes back to its place.
for _, uid in ipairs(redis.call('ZRANGE', held, 0, left - 1)) do
  local j = described(uid)
  redis.call('ZREM', held, uid)
  place(uid, account, j[2], j[3], j[4], j[5], j[6], now, woken)
  left = left - 1
end

-- Room beside what runs anywhere, so that many workers do not wait for the next sweep.
local function room()
  local running = tonumber(redis.call('HGET', P .. 'count', 'running') or 0)
  return math.min(left, most + running - redis.call('ZCARD', live))
end

-- Go on through the batch's jobs from that place; returns where it broke off, nothing at the end.
local function try_again(from)
  local space = room()
  for _, uid in ipairs(redis.call('LRANGE', P .. 'bu:' .. batch, int(from), int(from + left - 1))) do
    if space <= 0 then return from end
    local key = redis.call('HGET', P .. 'j:' .. uid, 'key')
    local refusal = not key and 'gone' or again(uid, key, now, woken, entries)
    -- Without credits the rest stays as it is.
    if refusal == 'insufficient_credits' then return nil end
    if not refusal then space = space - 1 end
    from, left = from + 1, left - 1
  end
  return from < redis.call('LLEN', P .. 'bu:' .. batch) and from or nil
end

if b[4] then
  b[4] = try_again(tonumber(b[4]))
  if b[4] then redis.call('HSET', name, 'retry', int(b[4])) else redis.call('HDEL', name, 'retry') end
end

local function admit_line(line)
  local head = string.find(line, '\n', 1, true)
  local f = {}
  for field in string.gmatch(string.sub(line, 1, head - 1), '([^\t]*)\t') do f[#f + 1] = field end
  local price = tonumber(f[6])
  if redis.call('HGET', name, 'reserved') == '0' then price = 0 end
  if price > 0 then redis.call('HINCRBY', name, 'reserved', int(-price)) end
  admit({
    account = account, lane = f[1], band = f[2], key = f[3], images = f[4], work = f[5], price = price, handle = f[7],
    hooks = f[8], track = f[9], start_ms = f[10], run_ms = f[11], submission = string.sub(line, head + 1), batch = batch,
  }, now, woken, entries)
end

-- How many lines the backlog, the account's quota and the batch's share have room for.
local function lines_wanted()
  local a = redis.call('HMGET', P .. 'a:' .. account, 'waiting', 'max_waiting')
  local waiting = tonumber(redis.call('HGET', P .. 'count', 'waiting') or 0)
  return math.min(room(), limit - waiting, tonumber(a[2] or 1000000000) - tonumber(a[1] or 0))
end

local count = b[4] and 0 or lines_wanted()
if count > 0 then
  local next_lines = redis.call('LRANGE', lines, 0, int(count - 1))
  if #next_lines > 0 then
    for _, line in ipairs(next_lines) do admit_line(line) end
    redis.call('LTRIM', lines, #next_lines, -1)
    redis.call('HINCRBY', P .. 'count', 'deferred', -#next_lines)
    redis.call('HINCRBY', P .. 'a:' .. account, 'deferred', -#next_lines)
    left = left - #next_lines
  end
end

if not b[4] and redis.call('EXISTS', held) == 0 and redis.call('EXISTS', lines) == 0 then
  close_batch(batch, now)
  return done(false)
end
-- It stays on the list; to go on at once makes sense only where this slice was full.
return {left == 0 and 1 or 0, woken, entries, concluded}
