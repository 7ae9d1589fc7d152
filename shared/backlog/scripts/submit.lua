-- Accept a job: quota, uid, record, queue and wake-up in one step.
-- ARGV: nonce, account, lane, band, batch key, images, work, price, submission, handle, hooks, track digest,
--       idempotency key, idempotency digest, backlog limit, nonce seconds, idempotency seconds,
--       ms until it must have started (0: none), ms it may run (0: none), lane where it is drawn,
--       ms it is kept after its end (0: as long as all are), latest uid that the caller was given
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

local now, woken, entries = now_ms(), {}, {}
reserve(account, price)
local uid = admit({
  account = account, lane = lane, band = band, key = key, images = images, work = work, price = price,
  submission = submission, handle = handle, hooks = hooks, track = track, start_ms = ARGV[18], run_ms = ARGV[19],
  kept_ms = ARGV[21], seen = ARGV[22],
}, now, woken, entries)
local receipt = uid .. ':' .. handle .. ':' .. int(now)
redis.call('SET', nonce_name, receipt, 'EX', ARGV[16])
if idem_key ~= '' then redis.call('SET', idem_name, receipt .. ':' .. idem_digest, 'EX', ARGV[17]) end
return answer('ok', receipt, woken, entries)
