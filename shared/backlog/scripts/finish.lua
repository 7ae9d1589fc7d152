-- A worker ends a job it holds. Record, ledger, event and webhook are written together or not at all.
-- Settled is the price of the images that were delivered.
-- ARGV: node, uid, fence, status, result, images delivered, steps run (of all images together)
-- Returns {'ok' | 'again' | 'fenced', woken nodes, outbox entry or nothing}.
local node, uid, fence, status = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local j = redis.call('HMGET', P .. 'j:' .. uid, 'status', 'fence', 'worker', 'account', 'price', 'started', 'work', 'lane',
  'mates', 'images', 'won')
if j[2] ~= fence or j[3] ~= node then return {'fenced', {}} end
-- The reply to this very call was lost. Under the same fence the job may also have ended otherwise: the sweep fails one
-- that was lost too often, and that is no end of this worker's, though it be called the same.
if j[11] == fence and j[1] == status then return {'again', {}} end
if j[1] ~= 'running' then return {'fenced', {}} end
local now, woken = now_ms(), {}
redis.call('HSET', P .. 'j:' .. uid, 'won', fence)
release(uid, j[4], node, now, woken)
if status == 'succeeded' then
  -- How fast a lane is, for estimates: milliseconds per unit of work, and jobs per pipeline call; averages that forget.
  local pool, model = string.match(j[8], '^([^/]*)/(.*)$')
  local function average(name, sample)
    local known = tonumber(redis.call('HGET', P .. 'lane:' .. pool, name) or sample)
    redis.call('HSET', P .. 'lane:' .. pool, name, string.format('%.6f', known + 0.2 * (sample - known)))
  end
  average('ms/' .. model, math.max(0, now - tonumber(j[6])) / tonumber(j[7]))
  average('mates/' .. model, tonumber(j[9] or 1))
end
local images, asked = 0, math.max(1, tonumber(j[10] or 1))
if status == 'succeeded' then images = math.min(tonumber(ARGV[6]), asked) end
local charge = math.floor(tonumber(j[5] or 0) * images / asked)
return {'ok', woken, conclude(uid, status, ARGV[5], charge, now, images, tonumber(ARGV[7]))}
