-- Accept a batch, all of it: quota, credits, number, record. Its lines are there already, under its handle.
-- ARGV: handle, account, lines, price, options (JSON), what is due at its end ('hook', 'archive', both), idempotency key, idempotency digest,
--       backlog limit, nonce seconds, idempotency seconds, then the lanes where its jobs are drawn
-- Returns {'ok' | 'replayed', number, handle} or {why not}.
local handle, account, total, price = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local idem_key, idem_digest, limit = ARGV[7], ARGV[8], tonumber(ARGV[9])

local function answer(state, receipt)
  local number, given = string.match(receipt, '^(%d+):(%x+)')
  return {state, number, given}
end

local nonce_name = P .. 'n:' .. handle
local seen = redis.call('GET', nonce_name)
if seen then return answer('ok', seen) end -- the reply to this very call was lost

local idem_name = P .. 'idem:' .. account .. ':' .. idem_key
if idem_key ~= '' then
  local earlier = redis.call('GET', idem_name)
  if earlier then
    if string.match(earlier, ':(%x+)$') ~= idem_digest then return {'conflict'} end
    return answer('replayed', earlier)
  end
end

if redis.call('LLEN', P .. 'bl:' .. handle) ~= total then return {'gone'} end
for i = 12, #ARGV do
  if is_set(ARGV[i], 'drain') then return {'draining'} end
end
local all = redis.call('HMGET', P .. 'count', 'waiting', 'deferred')
local a = redis.call('HMGET', P .. 'a:' .. account, 'waiting', 'deferred', 'max_waiting', 'balance')
if tonumber(all[1] or 0) + tonumber(all[2] or 0) + total > limit then return {'backlog_full'} end
if tonumber(a[1] or 0) + tonumber(a[2] or 0) + total > tonumber(a[3] or 1000000000) then return {'too_many_waiting'} end
-- An account that was never given credits is not metered.
if not a[4] then price = 0 end
if price > 0 and tonumber(a[4]) < price then return {'insufficient_credits'} end

local now = now_ms()
local batch = next_uid(now)
reserve(account, price)
redis.call('RENAME', P .. 'bl:' .. handle, P .. 'bl:' .. batch)
redis.call('PERSIST', P .. 'bl:' .. batch)
redis.call('HSET', P .. 'b:' .. batch, 'status', 'running', 'account', account, 'handle', handle, 'total', int(total),
  'price', ARGV[4], 'reserved', int(price), 'created', int(now), 'options', ARGV[5])
for due in string.gmatch(ARGV[6], '%a+') do redis.call('HSET', P .. 'b:' .. batch, due, 1) end
redis.call('HINCRBY', P .. 'count', 'deferred', total)
redis.call('HINCRBY', P .. 'a:' .. account, 'deferred', total)
redis.call('RPUSH', P .. 'bx:' .. account, batch)
redis.call('SADD', P .. 'feeding', batch)

local receipt = batch .. ':' .. handle .. ':' .. int(now)
redis.call('SET', nonce_name, receipt, 'EX', ARGV[10])
if idem_key ~= '' then redis.call('SET', idem_name, receipt .. ':' .. idem_digest, 'EX', ARGV[11]) end
return answer('ok', receipt)
