-- Accept a job: quota, uid, record, queue and wake-up in one step.
-- ARGV: nonce, account, lane, band, batch key, images, work, price, submission, handle, hooks, track digest,
--       idempotency key, idempotency digest, backlog limit, nonce seconds, idempotency seconds,
--       ms until it must have started (0: none), ms it may run (0: none), lane where it is drawn
-- Returns {'ok' | 'replayed', uid, handle, created ms, woken nodes, outbox entries} or {why not}.
local nonce, account, lane, band, key, images, work = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local price, submission, handle, hooks, track = tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local idem_key, idem_digest, limit = ARGV[13], ARGV[14], tonumber(ARGV[15])

local function answer(state, receipt, woken, entries)
  local uid, given, created = string.match(receipt, '^(%d+):(%x+):(%d+)')
  return {state, uid, given, created, woken, entries}
end

-- The reply to this very call was lost.
local nonce_name = P .. 'n:' .. nonce
local seen = redis.call('GET', nonce_name)
if seen then return answer('ok', seen, {}, {}) end

local idem_name = P .. 'idem:' .. account .. ':' .. idem_key
if idem_key ~= '' then
  local earlier = redis.call('GET', idem_name)
  if earlier then
    if string.match(earlier, ':(%x+)$') ~= idem_digest then return {'conflict'} end
    return answer('replayed', earlier, {}, {})
  end
end

local a = redis.call('HMGET', P .. 'a:' .. account, 'waiting', 'max_waiting', 'balance')
if is_set(ARGV[20], 'drain') then return {'draining'} end
if tonumber(redis.call('HGET', P .. 'count', 'waiting') or 0) >= limit then return {'backlog_full'} end
if tonumber(a[1] or 0) >= tonumber(a[2] or 1000000000) then return {'too_many_waiting'} end
-- An account that was never given credits is not metered.
if not a[3] then price = 0 end
if price > 0 and tonumber(a[3]) < price then return {'insufficient_credits'} end

local now = now_ms()
-- Ascending even under bursts and when the clock steps back; no time is ever read out of it.
local uid = int(math.max(now, tonumber(redis.call('GET', P .. 'uid') or 0) + 1))
redis.call('SET', P .. 'uid', uid)
local seq = redis.call('HINCRBY', P .. 'a:' .. account, 'seq', 1)
if price > 0 then
  redis.call('HINCRBY', P .. 'a:' .. account, 'balance', int(-price))
  redis.call('HINCRBY', P .. 'a:' .. account, 'reserved', int(price))
end

redis.call('SET', P .. 's:' .. uid, submission)
redis.call('HSET', P .. 'j:' .. uid, 'status', 'queued', 'account', account, 'handle', handle, 'lane', lane, 'band', band,
  'key', key, 'images', images, 'work', work, 'seq', seq, 'created', int(now))
if price > 0 then redis.call('HSET', P .. 'j:' .. uid, 'price', int(price)) end
if hooks ~= '' then redis.call('HSET', P .. 'j:' .. uid, 'hooks', hooks) end
if ARGV[18] ~= '0' then redis.call('ZADD', P .. 'deadline', int(now + tonumber(ARGV[18])), uid) end
if ARGV[19] ~= '0' then redis.call('HSET', P .. 'j:' .. uid, 'run_ms', ARGV[19]) end
redis.call('RPUSH', P .. 'ix:' .. account, uid)
if track ~= '' then
  redis.call('HSET', P .. 'j:' .. uid, 'track', track)
  redis.call('RPUSH', P .. 'track:' .. account .. ':' .. track, uid)
end

local receipt = uid .. ':' .. handle .. ':' .. int(now)
redis.call('SET', nonce_name, receipt, 'EX', ARGV[16])
if idem_key ~= '' then redis.call('SET', idem_name, receipt .. ':' .. idem_digest, 'EX', ARGV[17]) end

local woken, entries = {}, {}
emit(uid, account, 'queued')
tell(uid, account, hooks, 'queued', 0, now, entries)
enqueue(uid, account, lane, band, key, images, seq, now, woken)
return answer('ok', receipt, woken, entries)
