-- Queue a job that ended without pictures once more, under its own uid. Its price is reserved anew.
-- ARGV: uid, account, nonce, batch key
-- Returns {'none' | 'not_failed' | 'insufficient_credits' | 'ok', woken nodes, outbox entries}.
local uid, account, nonce = ARGV[1], ARGV[2], ARGV[3]
local job = P .. 'j:' .. uid
local j = redis.call('HMGET', job, 'status', 'account', 'lane', 'band', 'images', 'seq', 'price', 'retried', 'hooks',
  'outcome')
if j[2] ~= account then return {'none', {}, {}} end
if j[8] == nonce then return {'ok', {}, {}} end -- the reply to this very call was lost
if j[1] ~= 'failed' and j[1] ~= 'cancelled' and j[1] ~= 'expired' then return {'not_failed', {}, {}} end
local price = tonumber(j[7] or 0)
if price > 0 then
  if tonumber(redis.call('HGET', P .. 'a:' .. account, 'balance') or 0) < price then
    return {'insufficient_credits', {}, {}}
  end
  redis.call('HINCRBY', P .. 'a:' .. account, 'balance', int(-price))
  redis.call('HINCRBY', P .. 'a:' .. account, 'reserved', int(price))
end
local now, woken, entries = now_ms(), {}, {}
redis.call('ZREM', P .. 'done', uid)
redis.call('DEL', P .. 'r:' .. uid, P .. 'p:' .. uid)
redis.call('HSET', job, 'status', 'queued', 'key', ARGV[4], 'retried', nonce, 'step', 0)
redis.call('HDEL', job, 'worker', 'started', 'finished', 'lost')
emit(uid, account, 'queued')
tell(uid, account, j[9], 'queued', j[10] or 0, now, entries)
enqueue(uid, account, j[3], j[4], ARGV[4], j[5], j[6], now, woken)
return {'ok', woken, entries}
